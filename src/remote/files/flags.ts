/** How a file is to be opened, from Node's flags (text or O_* numbers). Pure. */
import { constants } from 'node:fs';

export interface OpenFlags {
  readonly read: boolean;
  readonly write: boolean;
  readonly append: boolean;
  readonly create: boolean;
  readonly exclusive: boolean;
  readonly truncate: boolean;
  readonly directory: boolean;
  readonly noFollow: boolean;
  /** Every write is on stable storage when it is done (`s`, O_SYNC, O_DSYNC). */
  readonly sync: boolean;
}

const { O_RDONLY, O_WRONLY, O_RDWR, O_APPEND, O_CREAT, O_EXCL, O_TRUNC, O_SYNC } = constants;

const BY_TEXT: Readonly<Record<string, number>> = {
  r: O_RDONLY,
  rs: O_RDONLY | O_SYNC,
  'r+': O_RDWR,
  'rs+': O_RDWR | O_SYNC,
  w: O_WRONLY | O_CREAT | O_TRUNC,
  wx: O_WRONLY | O_CREAT | O_TRUNC | O_EXCL,
  'w+': O_RDWR | O_CREAT | O_TRUNC,
  'wx+': O_RDWR | O_CREAT | O_TRUNC | O_EXCL,
  a: O_WRONLY | O_CREAT | O_APPEND,
  as: O_WRONLY | O_CREAT | O_APPEND | O_SYNC,
  ax: O_WRONLY | O_CREAT | O_APPEND | O_EXCL,
  'a+': O_RDWR | O_CREAT | O_APPEND,
  'as+': O_RDWR | O_CREAT | O_APPEND | O_SYNC,
  'ax+': O_RDWR | O_CREAT | O_APPEND | O_EXCL,
};

/** Throws a TypeError for a text that is no flag. */
export function parseFlags(flags: string | number): OpenFlags {
  const bits = typeof flags === 'number' ? flags : BY_TEXT[flags];
  if (bits === undefined) throw new TypeError(`no flags for opening a file: '${flags}'`);
  const access = bits & (O_WRONLY | O_RDWR);
  const has = (bit: number) => (bits & bit) !== 0;
  return {
    read: access !== O_WRONLY,
    write: access !== O_RDONLY,
    append: has(O_APPEND),
    create: has(O_CREAT),
    exclusive: has(O_CREAT) && has(O_EXCL),
    truncate: has(O_TRUNC),
    directory: has(constants.O_DIRECTORY),
    noFollow: has(constants.O_NOFOLLOW),
    sync: has(O_SYNC) || has(constants.O_DSYNC),
  };
}
