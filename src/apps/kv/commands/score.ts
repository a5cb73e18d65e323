/**
 * Scores and the ends of ranges as the sorted set commands take and give them.
 * Pure: reads arguments, writes replies.
 */
import type { CommandContext } from '../command.ts';
import { formatG17, parseDoubleText, writeInt } from '../resp/number.ts';
import type { ReplyWriter } from '../resp/reply.ts';

const digits = new Uint8Array(32);

/** Replies a score: as `reply.double`, with a short way for whole numbers. */
export function replyScore(reply: ReplyWriter, score: number): void {
  if (Number.isSafeInteger(score) && (score !== 0 || 1 / score > 0)) {
    if (reply.resp3) reply.head(44, score);
    else reply.bulk(digits, 0, writeInt(digits, 0, score));
    return;
  }
  reply.double(score);
}

/** Replies a score as ZSCAN does: always a bulk string; a packed set keeps whole scores as integers. */
export function replyScannedScore(reply: ReplyWriter, score: number, packed: boolean): void {
  if (packed && Number.isInteger(score) && Math.abs(score) <= 2 ** 62) reply.text(BigInt(score).toString());
  else reply.text(formatG17(score));
}

/** An end of a range of scores. */
export interface ScoreBound {
  score: number;
  exclusive: boolean;
}

/** The end of a range of scores in argument i; false if it is none. Takes what strtod takes up to a zero byte. */
export function parseScoreBound(c: CommandContext, i: number, bound: ScoreBound): boolean {
  bound.exclusive = c.first(i) === 40;
  if (!bound.exclusive) {
    bound.score = c.double(i);
    if (!Number.isNaN(bound.score)) return true;
  }
  if (c.len[i]! > 512) return false;
  const whole = c.text(i);
  const zero = whole.indexOf('\0');
  const text = whole.slice(bound.exclusive ? 1 : 0, zero < 0 ? whole.length : zero).replace(/^[ \t\n\v\f\r]+/, '');
  bound.score = text === '' ? 0 : parseDoubleText(text);
  // A number out of range is infinite here, where it is none elsewhere.
  if (Number.isNaN(bound.score) && /^[+-]?[0-9.]+(e[+-]?[0-9]+)?$/i.test(text)) bound.score = Number(text);
  return !Number.isNaN(bound.score);
}

/** An end of a range of members: a member of argument `argument`, or below or above all. */
export interface MemberBound {
  /** -1 below all, 1 above all, 0 the member. */
  infinite: number;
  exclusive: boolean;
  argument: number;
}

/** The end of a range of members in argument i; false if it is none. */
export function parseMemberBound(c: CommandContext, i: number, bound: MemberBound): boolean {
  const first = c.first(i);
  bound.argument = i;
  bound.exclusive = first === 40;
  bound.infinite = first === 43 ? 1 : first === 45 ? -1 : 0;
  return bound.infinite !== 0 ? c.len[i] === 1 : first === 40 || first === 91;
}
