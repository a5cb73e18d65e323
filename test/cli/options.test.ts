/** Options: what is read, what is refused, and in which words. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { nearest, type OptionTable, parseOptions, readNumber, UsageError } from '../../src/apps/options.ts';

const table = {
  port: { type: 'integer', short: 'p', value: 'PORT', default: 7000, min: 0, max: 65535, help: 'Port.' },
  host: { type: 'string', default: '127.0.0.1', help: 'Host.' },
  mode: { type: 'string', choices: ['fast', 'safe'], default: 'fast', help: 'Mode.' },
  limit: { type: 'bytes', help: 'Limit.' },
  time: { type: 'seconds', default: 10, min: 0.01, help: 'Time.' },
  rate: { type: 'number', help: 'Rate.' },
  verify: { type: 'boolean', short: 'v', help: 'Verify.' },
} as const satisfies OptionTable;

function refused(args: readonly string[], message: RegExp, rules = {}): void {
  assert.throws(
    () => parseOptions(table, args, rules),
    (error) => error instanceof UsageError && message.test(error.message),
    `${args.join(' ')} is refused with ${message}`,
  );
}

test('defaults, and absence', () => {
  const { values, given } = parseOptions(table, []);
  assert.deepEqual(
    { ...values },
    {
      port: 7000,
      host: '127.0.0.1',
      mode: 'fast',
      limit: undefined,
      time: 10,
      rate: undefined,
      verify: false,
    },
  );
  assert.equal(given.size, 0);
});

test('values in each form the shell gives them', () => {
  for (const args of [
    ['--port', '80', '-v'],
    ['--port=80', '--verify'],
    ['-p', '80', '-v'],
    ['-vp80'],
    ['-p80', '-v'],
  ]) {
    const { values, given } = parseOptions(table, args);
    assert.equal(values.port, 80, args.join(' '));
    assert.equal(values.verify, true, args.join(' '));
    assert.deepEqual([...given].sort(), ['port', 'verify']);
  }
});

test('every integer in range is read as itself', () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 65535 }), (port) => {
      assert.equal(parseOptions(table, [`--port=${port}`]).values.port, port);
    }),
  );
});

test('units', () => {
  assert.equal(readNumber('bytes', '64'), 64);
  assert.equal(readNumber('bytes', '64k'), 65536);
  assert.equal(readNumber('bytes', '64KB'), 65536);
  assert.equal(readNumber('bytes', '1.5mb'), 1572864);
  assert.equal(readNumber('bytes', '2gb'), 2 ** 31);
  assert.equal(readNumber('bytes', '2gib'), 2 ** 31);
  assert.equal(readNumber('bytes', '0.3'), null);
  assert.equal(readNumber('bytes', '5x'), null);
  assert.equal(readNumber('seconds', '1.5'), 1.5);
  assert.equal(readNumber('seconds', '500ms'), 0.5);
  assert.equal(readNumber('seconds', '2m'), 120);
  assert.equal(readNumber('seconds', '2h'), null);
  assert.equal(readNumber('integer', '100_000'), 100_000);
  assert.equal(readNumber('integer', '1e6'), 1e6);
  for (const text of ['', ' ', 'x', '1.5', '0x10', '1e400', '--1', 'NaN', 'Infinity']) {
    assert.equal(readNumber('integer', text), null, `'${text}'`);
  }
});

test('refuses what is wrong, and says what', () => {
  refused(['--prot', '80'], /^unknown option --prot; did you mean --port\?$/);
  refused(['--nothing-like-it'], /^unknown option --nothing-like-it$/);
  refused(['--__proto__=1'], /^unknown option --__proto__/);
  refused(['-x'], /^unknown option -x/);
  refused(['--port'], /^--port needs a value: --port PORT$/);
  refused(['--port', 'http'], /^--port must be a whole number, not 'http'$/);
  refused(['--port', '65536'], /^--port must be 0 to 65535, not 65536$/);
  refused(['--port', '-1'], /--port/);
  refused(['--port=-1'], /^--port must be 0 to 65535, not -1$/);
  refused(['--time', '0'], /^--time must be at least 0.01, not 0$/);
  refused(['--limit', 'much'], /^--limit must be a number of bytes/);
  refused(['--mode', 'slow'], /^--mode must be fast or safe, not 'slow'$/);
  refused(['--verify=yes'], /^--verify takes no value$/);
  refused(['--port', '1', '--port', '2'], /^--port is given twice$/);
  refused(['stray'], /^unexpected argument 'stray'$/);
  refused([], /^FILE is missing$/, { positionals: ['FILE'] });
  refused(['a', 'b'], /^unexpected argument 'b'$/, { positionals: ['FILE'] });
  assert.throws(
    () => parseOptions({ need: { type: 'string', required: true, help: '' } }, []),
    /^UsageError: --need is required$/,
  );
});

test('what stands after -- belongs to somebody else, where the command takes that', () => {
  const rules = { positionals: ['FILE'], rest: true };
  const parsed = parseOptions(table, ['file.ts', '-v', '--', '--port', 'x', '--'], rules);
  assert.deepEqual(parsed.positionals, ['file.ts']);
  assert.deepEqual(parsed.rest, ['--port', 'x', '--']);
  assert.equal(parsed.values.port, 7000);
  assert.deepEqual(parseOptions(table, ['--', '--port'], { positionals: ['FILE'] }).positionals, ['--port']);
});

test('any arguments at all give values or a UsageError', () => {
  const word = fc.oneof(
    fc.string({ maxLength: 12 }),
    fc.constantFrom(
      '--',
      '-',
      '--port',
      '-p',
      '--mode=fast',
      '--limit',
      '1k',
      '--=',
      '---',
      '-v',
      '--verify',
      '--no-verify',
    ),
  );
  fc.assert(
    fc.property(fc.array(word, { maxLength: 6 }), fc.boolean(), (args, rest) => {
      try {
        parseOptions(table, args, { positionals: ['FILE?'], rest });
      } catch (error) {
        if (!(error instanceof UsageError)) throw error;
      }
    }),
    { numRuns: 500 },
  );
});

test('the nearest name', () => {
  assert.equal(nearest('ecko', ['run', 'echo', 'load']), 'echo');
  assert.equal(nearest('zzz', ['run', 'echo', 'load']), null);
});
