/**
 * Finds the command that a command line asks for, parses its options, runs it, and turns errors into lines and exit codes.
 * It touches only the Io it is given.
 */

import { nearest, parseOptions, UsageError } from '../apps/options.ts';
import { IsthmusError } from '../errors.ts';
import type { Command, Io } from './command.ts';
import { commands } from './commands.ts';
import { commandHelp, GENERAL_OPTIONS, globalHelp, HELP_OPTION } from './help.ts';
import { packageVersion } from './version.ts';

/** @returns 0 done, 1 failed, 2 a wrong command line; undefined where the process lives on until nothing is open any more */
export async function runCommandLine(args: readonly string[], io: Io): Promise<number | undefined> {
  const [name] = args;
  if (name === undefined) {
    io.err(globalHelp(commands));
    return 2;
  }
  try {
    if (name.startsWith('-')) return general(args, io);
    if (name === 'help') return await help(args.slice(1), io);
    return await runCommand(await find(name), args.slice(1), io);
  } catch (error) {
    return report(error, name, io);
  }
}

function general(args: readonly string[], io: Io): number {
  const { values } = parseOptions(GENERAL_OPTIONS, args);
  if (values['version']) io.out(`${packageVersion()}\n`);
  else io.out(globalHelp(commands));
  return 0;
}

async function help(args: readonly string[], io: Io): Promise<number> {
  io.out(args[0] === undefined ? globalHelp(commands) : commandHelp(await find(args[0])));
  return 0;
}

async function find(name: string): Promise<Command> {
  const entry = commands.find((each) => each.name === name);
  if (entry !== undefined) return entry.load();
  const near = nearest(
    name,
    commands.map((each) => each.name),
  );
  throw new UsageError(`unknown command '${name}'${near === null ? '' : `; did you mean ${near}?`}`);
}

async function runCommand(command: Command, args: readonly string[], io: Io): Promise<number | undefined> {
  const end = args.indexOf('--');
  // Before parsing: who asks for help need not have the rest right.
  if ((end < 0 ? args : args.slice(0, end)).some((arg) => arg === '--help' || arg === '-h')) {
    io.out(commandHelp(command));
    return 0;
  }
  const names = (command.positionals ?? []).map(({ name, optional }) => (optional ? `${name}?` : name));
  const parsed = parseOptions({ ...command.options, ...HELP_OPTION }, args, {
    positionals: names,
    rest: command.rest !== undefined,
  });
  return command.run(parsed, io);
}

/** Errors of the command line and of the world are one line each; anything else is a fault, and its stack helps. */
function report(error: unknown, name: string, io: Io): number {
  const about = commands.some((each) => each.name === name) ? `isthmus ${name}` : 'isthmus';
  if (error instanceof UsageError) {
    io.err(`${about}: ${error.message}\nSee ${about} --help.\n`);
    return 2;
  }
  io.err(`${about}: ${describeError(error)}\n`);
  return 1;
}

/** One line where the error says itself what the world did; its stack where a program is at fault. */
export function describeError(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const { code, syscall } = error as { code?: unknown; syscall?: unknown };
  const worldly = error instanceof IsthmusError || error.name === 'IsthmusError';
  if (worldly || (typeof code === 'string' && typeof syscall === 'string')) return error.message;
  return error.stack ?? error.message;
}
