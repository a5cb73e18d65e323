/**
 * Finds a command by the bytes of its name, whatever their case, without making a string.
 * Pure; the table is built once from the declarations and holds each command's counters.
 */
import type { CommandHandler, CommandSpec } from './command.ts';

const SLOTS = 1024;
const NAME_MAX = 32;
const IMMEDIATE: ReadonlySet<string> = new Set(['exec', 'discard', 'multi', 'watch', 'quit', 'reset', 'debug']);

/** A declared command with what the engine counts of it. */
export class Command {
  readonly spec: CommandSpec;
  readonly name: string;
  readonly arity: number;
  readonly flags: number;
  readonly run: CommandHandler;
  readonly subcommands: Map<string, Command> | null;
  /** Runs at once inside a transaction. */
  readonly immediate: boolean;
  calls = 0;
  rejected = 0;
  failed = 0;

  constructor(spec: CommandSpec) {
    this.spec = spec;
    this.name = spec.name;
    this.arity = spec.arity;
    this.flags = spec.flags;
    this.run = spec.run;
    this.immediate = IMMEDIATE.has(spec.name);
    this.subcommands =
      spec.subcommands === undefined
        ? null
        : new Map(spec.subcommands.map((sub) => [sub.name.slice(sub.name.indexOf('|') + 1), new Command(sub)]));
  }
}

function hashName(bytes: Uint8Array, offset: number, length: number): number {
  let hash = length;
  for (let i = 0; i < length; i++) hash = (Math.imul(hash, 31) + (bytes[offset + i]! | 32)) | 0;
  return (hash ^ (hash >>> 10)) & (SLOTS - 1);
}

export class CommandTable {
  /** All commands in order of declaration, without subcommands. */
  readonly commands: readonly Command[];
  readonly #slots: (Command | null)[] = new Array(SLOTS).fill(null);

  constructor(specs: readonly CommandSpec[]) {
    this.commands = specs.map((spec) => new Command(spec));
    if (this.commands.length > SLOTS / 2) throw new RangeError('the command table is too small');
    for (const command of this.commands) {
      const name = Buffer.from(command.name, 'latin1');
      if (name.length > NAME_MAX) throw new RangeError(`the name ${command.name} is too long`);
      let slot = hashName(name, 0, name.length);
      for (let other = this.#slots[slot]!; other !== null; other = this.#slots[slot]!) {
        if (other.name === command.name) throw new RangeError(`the command ${command.name} is declared twice`);
        slot = (slot + 1) & (SLOTS - 1);
      }
      this.#slots[slot] = command;
    }
  }

  /** The command with this name, null if there is none. */
  find(bytes: Uint8Array, offset: number, length: number): Command | null {
    if (length > NAME_MAX) return null;
    let slot = hashName(bytes, offset, length);
    for (;;) {
      const command = this.#slots[slot]!;
      if (command === null || sameName(command.name, bytes, offset, length)) return command;
      slot = (slot + 1) & (SLOTS - 1);
    }
  }

  /** By name in lower case; `container|sub` names a subcommand. */
  byName(name: string): Command | null {
    const bar = name.indexOf('|');
    const bytes = Buffer.from(bar < 0 ? name : name.slice(0, bar), 'latin1');
    const command = this.find(bytes, 0, bytes.length);
    if (bar < 0 || command === null) return command;
    return command.subcommands?.get(name.slice(bar + 1)) ?? null;
  }
}

function sameName(name: string, bytes: Uint8Array, offset: number, length: number): boolean {
  if (name.length !== length) return false;
  for (let i = 0; i < length; i++) {
    let byte = bytes[offset + i]!;
    if (byte >= 65 && byte <= 90) byte |= 32;
    if (byte !== name.charCodeAt(i)) return false;
  }
  return true;
}
