/**
 * Compares what two servers reply to the steps of a session, as a client library gives it.
 * Pure: replies in, differences out.
 */
import { isDeepStrictEqual } from 'node:util';
import { SESSION, type Step, stepsOf } from './kv-session.ts';

/** A reply in a form that compares well: bytes as text, errors and maps tagged. */
export type Plain = string | number | boolean | null | Plain[] | { readonly [kind: string]: Plain };

export function plain(reply: unknown): Plain {
  if (reply === null || reply === undefined) return null;
  if (Buffer.isBuffer(reply)) return reply.toString('latin1');
  if (reply instanceof Error) return { error: reply.message };
  if (reply instanceof Map) return { map: [...reply].map(plain) };
  if (reply instanceof Set) return { set: [...reply].map(plain) };
  if (Array.isArray(reply)) return reply.map(plain);
  if (typeof reply === 'bigint') return { big: String(reply) };
  if (typeof reply === 'object') return { map: Object.entries(reply).map(plain) };
  return reply as Plain;
}

function sorted(reply: Plain): Plain {
  if (Array.isArray(reply)) {
    return reply.map(sorted).sort((a, b) => (JSON.stringify(a) < JSON.stringify(b) ? -1 : 1));
  }
  if (reply === null || typeof reply !== 'object') return reply;
  return Object.fromEntries(Object.entries(reply).map(([kind, value]) => [kind, sorted(value)]));
}

function shape(reply: Plain): string {
  if (reply === null) return 'null';
  if (Array.isArray(reply)) return 'array';
  return typeof reply === 'object' ? Object.keys(reply)[0]! : typeof reply;
}

function near(a: Plain, b: Plain): boolean {
  if (Array.isArray(a) && Array.isArray(b)) return a.length === b.length && a.every((one, i) => near(one, b[i]!));
  const x = Number(a);
  const y = Number(b);
  if (a === null || b === null || Number.isNaN(x) || Number.isNaN(y)) return isDeepStrictEqual(a, b);
  return typeof a === typeof b && Math.abs(x - y) <= Math.max(2, Math.abs(y) / 100);
}

/** Whether two replies to a step are alike, in the way the step asks for. */
export function alike({ compare }: Step, ours: Plain, theirs: Plain): boolean {
  if (compare === 'shape') return shape(ours) === shape(theirs);
  if (compare === 'near') return near(ours, theirs);
  if (compare === 'sorted') return isDeepStrictEqual(sorted(ours), sorted(theirs));
  return isDeepStrictEqual(ours, theirs);
}

export function differences(steps: readonly Step[], ours: readonly unknown[], theirs: readonly unknown[]): string[] {
  const found: string[] = [];
  for (const [i, step] of steps.entries()) {
    const a = plain(ours[i]);
    const b = plain(theirs[i]);
    if (!alike(step, a, b)) found.push(`${step.line}\n  ours:  ${brief(a)}\n  redis: ${brief(b)}`);
  }
  return found;
}

function brief(reply: Plain): string {
  const text = JSON.stringify(reply);
  return text.length <= 400 ? text : `${text.slice(0, 400)}… (${text.length})`;
}

/** Names of the commands a session's step runs: its command, and `container|subcommand`. */
export function namesOf({ args }: Step): [string, string] {
  const command = args[0]!.toString('latin1').toLowerCase();
  return [command, `${command}|${args[1]?.toString('latin1').toLowerCase() ?? ''}`];
}

/** Each group's steps, without those whose command this server does not have and redis does. */
export function sessionFor(implemented: ReadonlySet<string>, known: ReadonlySet<string>): Map<string, Step[]> {
  const lacks = (name: string): boolean => known.has(name) && !implemented.has(name);
  const groups = new Map<string, Step[]>();
  for (const [name, text] of Object.entries(SESSION)) {
    const steps = stepsOf(text).filter((step) => !namesOf(step).some(lacks));
    groups.set(name, steps);
  }
  return groups;
}
