/**
 * Numbers in and out: 64-bit integers, doubles as C prints them, sums of long doubles.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { addLongDoubleTexts } from '../../../../src/apps/kv/resp/long-double.ts';
import {
  formatG17,
  intLength,
  lastInt64,
  parseBigInt64,
  parseDoubleText,
  parseInt64,
  writeInt,
} from '../../../../src/apps/kv/resp/number.ts';

const SEED = 7;

function parse(text: string): number {
  const bytes = Buffer.from(`xx${text}yy`);
  return parseInt64(bytes, 2, bytes.length - 4);
}

test('integers are read strictly', () => {
  for (const text of [
    '',
    '-',
    '+1',
    '01',
    '-0',
    ' 1',
    '1 ',
    '1.0',
    'a',
    '9223372036854775808',
    '-9223372036854775809',
    '1e3',
  ]) {
    assert.ok(Number.isNaN(parse(text)), text);
  }
  for (const value of [0, 1, -1, 10, 999999999999999, -999999999999999, 2 ** 53 - 1, -(2 ** 53) + 1]) {
    assert.equal(parse(String(value)), value);
    assert.equal(lastInt64.rounded, false);
  }
  assert.equal(parse('9223372036854775807'), 2 ** 63);
  assert.equal(lastInt64.rounded, true);
  assert.equal(parseBigInt64(Buffer.from('-9223372036854775808'), 0, 20), -(2n ** 63n));
});

test('integers are written as JavaScript writes them', () => {
  fc.assert(
    fc.property(
      fc.oneof(
        fc.maxSafeInteger(),
        fc.integer(),
        fc.constantFrom(0, 9, 10, 99, 100, 2 ** 31 - 1, 2 ** 31, 2 ** 53 - 1, -(2 ** 31)),
      ),
      (value) => {
        const bytes = Buffer.alloc(24);
        const length = writeInt(bytes, 1, value);
        assert.equal(bytes.toString('latin1', 1, 1 + length), String(value));
        assert.equal(intLength(value), length);
        assert.equal(parseInt64(bytes, 1, length), value);
      },
    ),
    { seed: SEED, numRuns: 2000 },
  );
});

test('doubles are printed as %.17g prints them', () => {
  const cases: [number, string][] = [
    [0.1, '0.10000000000000001'],
    [3.1, '3.1000000000000001'],
    [1e17, '1e+17'],
    [1e16, '10000000000000000'],
    [123456789012345680000, '1.2345678901234568e+20'],
    [0.0001, '0.0001'],
    [0.00001, '1.0000000000000001e-05'],
    [5e-324, '4.9406564584124654e-324'],
    [1.5, '1.5'],
    [-2.25, '-2.25'],
    [Infinity, 'inf'],
    [-Infinity, '-inf'],
  ];
  for (const [value, text] of cases) assert.equal(formatG17(value), text);
});

test('printed doubles are read back', () => {
  fc.assert(
    fc.property(fc.double({ noNaN: true }), (value) => {
      assert.ok(Object.is(parseDoubleText(formatG17(value)), value), formatG17(value));
    }),
    { seed: SEED, numRuns: 2000 },
  );
});

test('doubles are read as strtod reads them', () => {
  for (const text of ['', ' 1', '1 ', 'nan', '1e', '.', '1e400', '0x', 'infi', '--1'])
    assert.ok(Number.isNaN(parseDoubleText(text)), text);
  assert.equal(parseDoubleText('+1.5e2'), 150);
  assert.equal(parseDoubleText('.5'), 0.5);
  assert.equal(parseDoubleText('5.'), 5);
  assert.equal(parseDoubleText('-INF'), -Infinity);
  assert.equal(parseDoubleText('infinity'), Infinity);
  assert.equal(parseDoubleText('0x10'), 16);
  assert.equal(parseDoubleText('-0x1.8p1'), -3);
});

test('long doubles add with 64 bits of mantissa', () => {
  const cases: [string, string, string][] = [
    ['10.50', '0.1', '10.6'],
    ['5.0e3', '2.0e2', '5200'],
    ['0', '0.1', '0.1'],
    ['3', '-3', '0'],
    ['1', '-1.5', '-0.5'],
    ['0.1', '0.2', '0.3'],
    ['123456789012345678', '0.5', '123456789012345678.5'],
    ['1e-20', '0', '0'],
  ];
  for (const [a, b, sum] of cases) assert.deepEqual(addLongDoubleTexts(a, b), { text: sum });
  assert.deepEqual(addLongDoubleTexts('x', '1'), { error: 'value' });
  assert.deepEqual(addLongDoubleTexts('1', ''), { error: 'increment' });
  assert.deepEqual(addLongDoubleTexts('1', 'inf'), { error: 'range' });
  assert.deepEqual(addLongDoubleTexts('1e5000', '1'), { error: 'value' });
});
