/** The command line without processes: help is true and complete, errors are lines with the right exit code. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseOptions } from '../../src/apps/options.ts';
import type { Command, Io } from '../../src/cli/command.ts';
import { describeError, runCommandLine } from '../../src/cli/command-line.ts';
import { commands } from '../../src/cli/commands.ts';
import { commandHelp, HELP_OPTION } from '../../src/cli/help.ts';
import { packageVersion } from '../../src/cli/version.ts';
import { IsthmusError, systemError } from '../../src/errors.ts';

async function isthmus(...args: string[]): Promise<{ code: number | undefined; out: string; err: string }> {
  let out = '';
  let err = '';
  const io: Io = {
    out(text) {
      out += text;
    },
    err(text) {
      err += text;
    },
    errIsTerminal: false,
    interrupted: new AbortController().signal,
  };
  const code = await runCommandLine(args, io);
  return { code, out, err };
}

const loaded = new Map<string, Command>();
for (const entry of commands) loaded.set(entry.name, await entry.load());

test('--version', async () => {
  const { code, out, err } = await isthmus('--version');
  assert.deepEqual({ code, out, err }, { code: 0, out: `${packageVersion()}\n`, err: '' });
});

test('the global help names every command with its own summary', async () => {
  for (const args of [['--help'], ['-h'], ['help']]) {
    const { code, out } = await isthmus(...args);
    assert.equal(code, 0);
    for (const [name, { summary }] of loaded) {
      assert.ok(
        out.split('\n').some((line) => line.trim().startsWith(`${name} `) && line.endsWith(summary)),
        name,
      );
    }
  }
});

test('no command: the help, on standard error, and exit code 2', async () => {
  const { code, out, err } = await isthmus();
  assert.equal(code, 2);
  assert.equal(out, '');
  assert.match(err, /^Isthmus.*Usage: isthmus COMMAND/s);
});

for (const [name, command] of loaded) {
  test(`${name} --help says what is parsed, all of it and nothing else`, async () => {
    const { code, out } = await isthmus(name, '--help');
    assert.equal(code, 0);
    assert.equal(out, commandHelp(command));
    assert.equal((await isthmus('help', name)).out, out);
    const shown = [...out.matchAll(/^ {2}(?:-\w, | {4})--([\w-]+)/gm)].map(([, option]) => option);
    assert.deepEqual(shown, [...Object.keys(command.options), 'help']);
    for (const [option, spec] of Object.entries(command.options)) {
      assert.ok(spec.help.length > 3 && /[.)]$/.test(spec.help), `--${option} is explained in a sentence`);
      if (spec.type === 'string') for (const choice of spec.choices ?? []) assert.ok(out.includes(choice), choice);
    }
    assert.ok(
      out.split('\n').every((line) => line.length <= 100),
      'lines fit',
    );
  });

  test(`${name}: defaults are allowed values, and the examples parse`, () => {
    for (const [option, spec] of Object.entries(command.options)) {
      if (spec.type === 'boolean' || spec.default === undefined) continue;
      const { values } = parseOptions(
        command.options,
        [`--${option}=${spec.default}`, ...requiredOf(command, option)],
        {
          positionals: [],
        },
      );
      assert.equal(values[option], spec.default, `--${option}`);
    }
    for (const { line } of command.examples ?? []) {
      const [first, ...args] = line.split(' ');
      assert.equal(first, name);
      parseOptions({ ...command.options, ...HELP_OPTION }, args, {
        positionals: (command.positionals ?? []).map(
          (positional) => positional.name + (positional.optional ? '?' : ''),
        ),
        rest: command.rest !== undefined,
      });
    }
  });
}

function requiredOf(command: Command, except: string): string[] {
  return Object.entries(command.options)
    .filter(([option, spec]) => spec.required && option !== except)
    .map(([option]) => `--${option}=1`);
}

for (const [what, args, message] of [
  ['an unknown command', ['ecko'], /^isthmus: unknown command 'ecko'; did you mean echo\?\nSee isthmus --help\.\n$/],
  ['an unknown command that is like nothing', ['frobnicate'], /^isthmus: unknown command 'frobnicate'\n/],
  ['an unknown global option', ['--frob'], /^isthmus: unknown option --frob\n/],
  [
    'an unknown option',
    ['echo', '--prot', '1'],
    /^isthmus echo: unknown option --prot; did you mean --port\?\nSee isthmus echo --help\.\n$/,
  ],
  ['a port beyond all', ['echo', '--port', '70000'], /^isthmus echo: --port must be 0 to 65535, not 70000\n/],
  ['a missing argument', ['run'], /^isthmus run: FILE is missing\n/],
  [
    'an unknown benchmark',
    ['bench', 'nothing'],
    /^isthmus bench: unknown benchmark 'nothing': tcp-echo, .* are known\n/,
  ],
  ['an unknown protocol', ['load', 'http://127.0.0.1:80'], /^isthmus load: unknown protocol 'http'/],
  ['a target that is none', ['load', '127.0.0.1:99999'], /^isthmus load: not a target: 127\.0\.0\.1:99999/],
  [
    'options that exclude each other',
    ['load', ':7000', '-r', '5', '-d', '2'],
    /^isthmus load: --rate and --depth exclude each other\n/,
  ],
  ['a datagram too small', ['load', 'udp://:7000', '-s', '3'], /^isthmus load: a datagram must hold its number/],
  ['help about nothing', ['help', 'nothing'], /^isthmus: unknown command 'nothing'/],
] as const) {
  test(`${what}: one clear error and exit code 2`, async () => {
    const { code, out, err } = await isthmus(...args);
    assert.equal(code, 2);
    assert.equal(out, '');
    assert.match(err, message);
    assert.doesNotMatch(err, /\n\s+at /, 'no stack');
  });
}

test('errors of the world are one line, faults of a program have their stack', () => {
  assert.equal(
    describeError(systemError(98, 'bind', '127.0.0.1:80')),
    'EADDRINUSE: address already in use, bind 127.0.0.1:80',
  );
  assert.equal(
    describeError(new IsthmusError('no datapath of that name', { code: 'EINVAL' })),
    'no datapath of that name',
  );
  const node = Object.assign(new Error('ENOENT: no such file'), { code: 'ENOENT', syscall: 'open' });
  assert.equal(describeError(node), 'ENOENT: no such file');
  assert.match(describeError(new TypeError('x is not a function')), /^TypeError: x is not a function\n\s+at /);
  assert.equal(describeError('a string'), 'a string');
});
