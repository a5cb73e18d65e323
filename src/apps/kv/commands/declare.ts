/**
 * A short form to declare the commands of one family.
 * Pure data.
 */
import type { CommandHandler, CommandSpec } from '../command.ts';

/** Positions of keys: first, last, step. */
export type Keys = readonly [first: number, last: number, step: number];
export const NO_KEYS: Keys = [0, 0, 0];
export const ONE_KEY: Keys = [1, 1, 1];
export const ALL_KEYS: Keys = [1, -1, 1];
export const TWO_KEYS: Keys = [1, 2, 1];

export type Declare = (
  name: string,
  arity: number,
  flags: number,
  keys: Keys,
  run: CommandHandler,
  summary: string,
  subcommands?: readonly CommandSpec[],
) => CommandSpec;

/** A function that declares commands of `group`. */
export function family(group: string): Declare {
  return (name, arity, flags, keys, run, summary, subcommands) => ({
    name,
    arity,
    flags,
    first: keys[0],
    last: keys[1],
    step: keys[2],
    group,
    summary,
    run,
    ...(subcommands === undefined ? {} : { subcommands }),
  });
}
