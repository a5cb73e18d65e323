/**
 * What a command of `isthmus` is: its options and arguments as data, and a function that runs it.
 * Pure types; the help is made from them, so that it cannot say anything else than what is parsed.
 */
import type { OptionTable, ParsedArguments } from '../apps/options.ts';

export interface Positional {
  /** As shown: `FILE`. */
  readonly name: string;
  readonly help: string;
  readonly optional?: boolean;
}

/** Where a command writes, and what it may know of who reads. */
export interface Io {
  out(text: string): void;
  err(text: string): void;
  /** Standard error is a terminal: a line may be written over. */
  readonly errIsTerminal: boolean;
  /** Aborted by the first SIGINT or SIGTERM. */
  readonly interrupted: AbortSignal;
}

export interface Command<T extends OptionTable = OptionTable> {
  readonly name: string;
  /** One sentence. */
  readonly summary: string;
  readonly description?: string;
  readonly options: T;
  readonly positionals?: readonly Positional[];
  /** What may stand after `--`. */
  readonly rest?: Positional;
  /** Command lines, without `isthmus`, each with what it does. */
  readonly examples?: readonly { readonly line: string; readonly what: string }[];
  /**
   * Runs it. @returns the exit code, or undefined where the process lives on until nothing is open any more
   * @throws UsageError (exit code 2), IsthmusError and other errors of the world (exit code 1)
   */
  run(args: ParsedArguments<T>, io: Io): Promise<number | undefined>;
}

/** Gives the command back, with the types of its options' values filled in. */
export function defineCommand<const T extends OptionTable>(command: Command<T>): Command {
  // Each command knows the types of its own options; the table of commands knows only that they are options.
  return command as unknown as Command;
}
