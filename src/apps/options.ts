/**
 * Options of commands and applications, declared as tables; the parser, the types of the values and the help all come from them.
 * Pure: it reads strings and gives values or a UsageError.
 */
import { type ParseArgsConfig, parseArgs } from 'node:util';

interface Common {
  /** One or two sentences for `--help`. */
  readonly help: string;
  /** One letter, for `-x`. */
  readonly short?: string;
  /** What stands for the value in the help: `PORT`. */
  readonly value?: string;
  /** Fails with a usage error where it is missing. */
  readonly required?: boolean;
}
export interface BooleanOption extends Common {
  readonly type: 'boolean';
}
export interface StringOption extends Common {
  readonly type: 'string';
  readonly default?: string;
  readonly choices?: readonly string[];
}
/**
 * `integer` and `number` take decimal text; `bytes` also `64k`, `64kb`, `64mb`, `2gb` (powers of 1024, as redis.conf has them);
 * `seconds` also `500ms`, `2s`, `1m`, and gives seconds.
 */
export interface NumberOption extends Common {
  readonly type: 'integer' | 'number' | 'bytes' | 'seconds';
  readonly default?: number;
  readonly min?: number;
  readonly max?: number;
}
export type OptionSpec = BooleanOption | StringOption | NumberOption;
export type OptionTable = { readonly [name: string]: OptionSpec };

type Optional<S> = S extends { readonly default: string | number } | { readonly required: true } ? never : undefined;
type ValueOf<S extends OptionSpec> = S extends BooleanOption
  ? boolean
  : S extends { readonly type: 'string'; readonly choices: readonly (infer C extends string)[] }
    ? C | Optional<S>
    : S extends StringOption
      ? string | Optional<S>
      : number | Optional<S>;
export type OptionValues<T extends OptionTable> = { readonly [K in keyof T]: ValueOf<T[K]> };

/** The command line is wrong: one line on stderr, exit code 2. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}

export interface ParsedArguments<T extends OptionTable> {
  readonly values: OptionValues<T>;
  /** Which options were given, rather than left at their defaults. */
  readonly given: ReadonlySet<string>;
  readonly positionals: readonly string[];
  /** What stands after `--`, when the command takes that. */
  readonly rest: readonly string[];
}

export interface ParseRules {
  /** Names of the positional arguments; one that ends in `?` may be missing. */
  readonly positionals?: readonly string[];
  /** Whether what stands after `--` belongs to somebody else. */
  readonly rest?: boolean;
}

/** @throws UsageError, in words that name the argument at fault */
export function parseOptions<const T extends OptionTable>(
  table: T,
  args: readonly string[],
  rules: ParseRules = {},
): ParsedArguments<T> {
  const config: ParseArgsConfig['options'] = {};
  for (const [name, spec] of Object.entries(table)) {
    config[name] = { type: spec.type === 'boolean' ? 'boolean' : 'string' };
    if (spec.short !== undefined) config[name].short = spec.short;
  }
  const end = rules.rest ? args.indexOf('--') : -1;
  const own = end < 0 ? args : args.slice(0, end);
  // Not strict: the errors are ours to word.
  const { tokens } = parseArgs({
    args: [...own],
    options: config,
    strict: false,
    allowPositionals: true,
    tokens: true,
  });
  const values: Record<string, string | number | boolean | undefined> = {};
  const given = new Set<string>();
  const positionals: string[] = [];
  for (const token of tokens) {
    if (token.kind === 'positional') positionals.push(token.value);
    else if (token.kind === 'option') {
      const spec = Object.hasOwn(table, token.name) ? table[token.name] : undefined;
      if (spec === undefined) throw unknownOption(token.rawName, Object.keys(table));
      if (given.has(token.name)) throw new UsageError(`${token.rawName} is given twice`);
      given.add(token.name);
      values[token.name] = readValue(token.rawName, spec, token.value);
    }
  }
  for (const [name, spec] of Object.entries(table)) {
    if (given.has(name)) continue;
    if (spec.required) throw new UsageError(`--${name} is required`);
    values[name] = spec.type === 'boolean' ? false : spec.default;
  }
  checkPositionals(positionals, rules.positionals ?? []);
  return {
    values: values as OptionValues<T>,
    given,
    positionals,
    rest: end < 0 ? [] : args.slice(end + 1),
  };
}

function checkPositionals(positionals: readonly string[], names: readonly string[]): void {
  const required = names.filter((name) => !name.endsWith('?'));
  if (positionals.length < required.length) throw new UsageError(`${required[positionals.length]} is missing`);
  if (positionals.length > names.length) throw new UsageError(`unexpected argument '${positionals[names.length]}'`);
}

function readValue(rawName: string, spec: OptionSpec, text: string | undefined): string | number | boolean {
  if (spec.type === 'boolean') {
    if (text !== undefined) throw new UsageError(`${rawName} takes no value`);
    return true;
  }
  if (text === undefined)
    throw new UsageError(`${rawName} needs a value${spec.value ? `: ${rawName} ${spec.value}` : ''}`);
  if (spec.type === 'string') {
    if (spec.choices !== undefined && !spec.choices.includes(text)) {
      throw new UsageError(`${rawName} must be ${list(spec.choices)}, not '${text}'`);
    }
    return text;
  }
  const value = readNumber(spec.type, text);
  const { min = Number.NEGATIVE_INFINITY, max = Number.POSITIVE_INFINITY } = spec;
  if (value === null) throw new UsageError(`${rawName} must be ${meaning[spec.type]}, not '${text}'`);
  if (value < min || value > max) throw new UsageError(`${rawName} must be ${range(min, max)}, not ${text}`);
  return value;
}

const meaning = {
  integer: 'a whole number',
  number: 'a number',
  bytes: 'a number of bytes (as in 1024, 64k, 64mb, 2gb)',
  seconds: 'a time (as in 10, 10s, 500ms, 2m)',
} as const;

const BYTE_UNITS: Readonly<Record<string, number>> = { '': 1, b: 1, k: 1024, m: 1024 ** 2, g: 1024 ** 3 };
const SECOND_UNITS: Readonly<Record<string, number>> = { '': 1, ms: 0.001, s: 1, m: 60 };

/** The number that `text` writes, or null. */
export function readNumber(type: NumberOption['type'], text: string): number | null {
  const match = /^(-?\d+(?:\.\d+)?(?:e[+-]?\d+)?)([a-z]*)$/i.exec(text.replaceAll('_', ''));
  if (match === null) return null;
  const value = Number(match[1]);
  const unit = match[2]!.toLowerCase();
  if (type === 'bytes') {
    const factor = BYTE_UNITS[unit] ?? BYTE_UNITS[unit.replace(/i?b$/, '')];
    const bytes = factor === undefined ? Number.NaN : value * factor;
    return Number.isSafeInteger(bytes) ? bytes : null;
  }
  if (type === 'seconds') {
    const factor = SECOND_UNITS[unit];
    return factor === undefined ? null : value * factor;
  }
  if (unit !== '' || (type === 'integer' && !Number.isSafeInteger(value))) return null;
  return value;
}

function range(min: number, max: number): string {
  if (max === Number.POSITIVE_INFINITY) return `at least ${min}`;
  return min === Number.NEGATIVE_INFINITY ? `at most ${max}` : `${min} to ${max}`;
}

function list(choices: readonly string[]): string {
  return choices.length < 2 ? choices.join() : `${choices.slice(0, -1).join(', ')} or ${choices.at(-1)}`;
}

function unknownOption(rawName: string, names: readonly string[]): UsageError {
  const near = nearest(
    rawName,
    names.map((name) => `--${name}`),
  );
  return new UsageError(`unknown option ${rawName}${near === null ? '' : `; did you mean ${near}?`}`);
}

/** The name that was probably meant, or null. */
export function nearest(word: string, names: readonly string[]): string | null {
  let best: string | null = null;
  let least = Math.max(1, Math.floor(word.replace(/^-+/, '').length / 3)) + 1;
  for (const name of names) {
    const distance = editDistance(word, name);
    if (distance < least) {
      least = distance;
      best = name;
    }
  }
  return best;
}

/** Damerau and Levenshtein's distance (optimal string alignment): neighbours that changed places count once. */
function editDistance(a: string, b: string): number {
  let before: number[] = [];
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1] ? 0 : 1;
      let least = Math.min(row[j]! + 1, next[j - 1]! + 1, row[j - 1]! + same);
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) least = Math.min(least, before[j - 2]! + 1);
      next[j] = least;
    }
    before = row;
    row = next;
  }
  return row[b.length]!;
}
