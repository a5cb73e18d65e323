/**
 * The text of `--help`, made from the tables that parse the command line.
 * Pure.
 */

import type { OptionSpec } from '../apps/options.ts';
import type { Command } from './command.ts';

export const GENERAL_OPTIONS: Readonly<Record<string, OptionSpec>> = {
  help: { type: 'boolean', short: 'h', help: 'Shows this help.' },
  version: { type: 'boolean', short: 'V', help: 'Shows the version.' },
};
export const HELP_OPTION = { help: GENERAL_OPTIONS['help'] } as const as Readonly<Record<string, OptionSpec>>;

const WIDTH = 100;

export function globalHelp(commands: readonly { readonly name: string; readonly summary: string }[]): string {
  return `${[
    'Isthmus: queues in shared memory between a program and the Linux kernel.',
    '',
    'Usage: isthmus COMMAND [options]',
    '',
    'Commands:',
    ...columns(commands.map(({ name, summary }) => [name, summary])),
    '',
    'Options:',
    ...columns(Object.entries(GENERAL_OPTIONS).map(([name, spec]) => [optionName(name, spec), spec.help])),
    '',
    'isthmus COMMAND --help says more about a command.',
  ].join('\n')}\n`;
}

export function commandHelp(command: Command): string {
  const { name, summary, description, options, positionals = [], rest, examples = [] } = command;
  const usage = [
    `isthmus ${name}`,
    ...positionals.map((positional) => (positional.optional ? `[${positional.name}]` : positional.name)),
    '[options]',
    ...(rest === undefined ? [] : [`[-- ${rest.name}]`]),
  ];
  const lines = [...wrap(summary, WIDTH), '', `Usage: ${usage.join(' ')}`];
  const named = rest === undefined ? positionals : [...positionals, rest];
  if (named.length > 0) lines.push('', 'Arguments:', ...columns(named.map((each) => [each.name, each.help])));
  const all = { ...options, ...HELP_OPTION };
  const rows = Object.entries(all).map(([key, spec]): [string, string] => [optionName(key, spec), optionHelp(spec)]);
  lines.push('', 'Options:', ...columns(rows));
  if (description !== undefined) for (const part of description.split('\n')) lines.push('', ...wrap(part, WIDTH));
  if (examples.length > 0) {
    lines.push('', 'Examples:', ...columns(examples.map(({ line, what }) => [`isthmus ${line}`, what])));
  }
  return `${lines.join('\n')}\n`;
}

function optionName(name: string, spec: OptionSpec): string {
  const value = spec.type === 'boolean' ? '' : ` ${spec.value ?? spec.type.toUpperCase()}`;
  return `${spec.short === undefined ? '    ' : `-${spec.short}, `}--${name}${value}`;
}

function optionHelp(spec: OptionSpec): string {
  const parts = [spec.help];
  if (spec.type === 'string' && spec.choices !== undefined) parts.push(`One of ${spec.choices.join(', ')}.`);
  if (spec.required) parts.push('Required.');
  else if (spec.type !== 'boolean' && spec.default !== undefined) parts.push(`Default ${formatDefault(spec)}.`);
  return parts.join(' ');
}

function formatDefault(spec: OptionSpec & { default?: string | number }): string {
  const value = spec.default!;
  if (spec.type === 'seconds') return `${value} s`;
  if (spec.type !== 'bytes' || typeof value !== 'number') return String(value);
  if (value > 0 && value % 2 ** 30 === 0) return `${value / 2 ** 30}gb`;
  if (value > 0 && value % 2 ** 20 === 0) return `${value / 2 ** 20}mb`;
  return value > 0 && value % 1024 === 0 ? `${value / 1024}kb` : String(value);
}

/** Two columns; a long left cell has its right one below. */
function columns(rows: readonly (readonly [string, string])[]): string[] {
  const left = Math.min(34, Math.max(...rows.map(([cell]) => cell.length))) + 4;
  const lines: string[] = [];
  for (const [cell, text] of rows) {
    const wrapped = wrap(text, WIDTH - left);
    if (cell.length + 4 > left) lines.push(`  ${cell}`, ...wrapped.map((line) => `${' '.repeat(left)}${line}`));
    else {
      lines.push(`  ${cell.padEnd(left - 2)}${wrapped[0] ?? ''}`.trimEnd());
      lines.push(...wrapped.slice(1).map((line) => `${' '.repeat(left)}${line}`));
    }
  }
  return lines;
}

function wrap(text: string, width: number): string[] {
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(' ')) {
    if (line !== '' && line.length + 1 + word.length > width) {
      lines.push(line);
      line = word;
    } else line = line === '' ? word : `${line} ${word}`;
  }
  if (line !== '') lines.push(line);
  return lines;
}
