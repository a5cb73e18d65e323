/** The counter of RESP replies: any values, cut anywhere, are counted right; any other bytes end in a verdict, never in a throw. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { ReplyCounter } from '../../../src/apps/load/resp-replies.ts';

interface Reply {
  readonly text: string;
  readonly counts: boolean;
  readonly error: boolean;
  readonly nil: boolean;
}

const line = fc.stringMatching(/^[ -~]{0,20}$/);
const bulkText = fc.oneof(
  fc.string({ unit: 'binary-ascii', maxLength: 30 }),
  fc.constantFrom('\r\n', '$-1\r\n', '*2\r\n'),
);

const { value } = fc.letrec<{ value: string; scalar: string; aggregate: string }>((tie) => ({
  scalar: fc.oneof(
    line.map((text) => `+${text}\r\n`),
    line.map((text) => `-ERR ${text}\r\n`),
    fc.integer().map((n) => `:${n}\r\n`),
    bulkText.map((text) => `$${text.length}\r\n${text}\r\n`),
    bulkText.map((text) => `!${text.length}\r\n${text}\r\n`),
    bulkText.map((text) => `=${text.length + 4}\r\ntxt:${text}\r\n`),
    fc.constantFrom(
      '$-1\r\n',
      '*-1\r\n',
      '_\r\n',
      '#t\r\n',
      '#f\r\n',
      ',1.5\r\n',
      ',inf\r\n',
      '(123456789012345678901\r\n',
    ),
  ),
  aggregate: fc.oneof(
    fc.array(tie('value'), { maxLength: 4 }).map((items) => `*${items.length}\r\n${items.join('')}`),
    fc.array(tie('value'), { maxLength: 4 }).map((items) => `~${items.length}\r\n${items.join('')}`),
    fc
      .array(fc.tuple(tie('value'), tie('value')), { maxLength: 3 })
      .map((pairs) => `%${pairs.length}\r\n${pairs.flat().join('')}`),
    fc
      .tuple(tie('value'), tie('value'), tie('value'))
      .map(([key, attribute, reply]) => `|1\r\n${key}${attribute}${reply}`),
  ),
  value: fc.oneof({ maxDepth: 3, depthIdentifier: 'resp' }, tie('scalar'), tie('aggregate')),
}));

const reply: fc.Arbitrary<Reply> = fc.oneof(
  { weight: 6, arbitrary: value.map((text) => ({ text, counts: true, error: isError(text), nil: isNil(text) })) },
  {
    weight: 1,
    arbitrary: fc
      .array(value, { maxLength: 3 })
      .map((items) => ({ text: `>${items.length}\r\n${items.join('')}`, counts: false, error: false, nil: false })),
  },
);

/** The value that attributes stand before decides. */
function bare(text: string): string | null {
  return text.startsWith('|') ? null : text;
}
function isError(text: string): boolean {
  return /^[-!]/.test(bare(text) ?? '');
}
function isNil(text: string): boolean {
  return /^(_|\$-1|\*-1)\r\n/.test(bare(text) ?? '');
}

function cut(text: string, places: readonly number[]): Uint8Array[] {
  const bytes = Buffer.from(text, 'latin1');
  const at = [...new Set([0, bytes.length, ...places.map((place) => place % (bytes.length + 1))])].sort(
    (a, b) => a - b,
  );
  return at.slice(1).map((end, index) => bytes.subarray(at[index]!, end));
}

test('counts every reply, however the stream is cut', () => {
  fc.assert(
    fc.property(fc.array(reply, { maxLength: 12 }), fc.array(fc.nat(), { maxLength: 20 }), (replies, places) => {
      const counter = new ReplyCounter();
      let counted = 0;
      for (const piece of cut(replies.map(({ text }) => text).join(''), places)) {
        counted += counter.absorb(piece, 0, piece.length);
      }
      const expected = replies.filter(({ counts }) => counts);
      assert.ok(counter.ok);
      assert.equal(counted, expected.length);
      assert.equal(counter.replies, expected.length);
      if (replies.every(({ text }) => !text.startsWith('|'))) {
        assert.equal(counter.errors, expected.filter(({ error }) => error).length);
        assert.equal(counter.nils, expected.filter(({ nil }) => nil).length);
      }
    }),
    { numRuns: 500 },
  );
});

test('reads only the bytes it is given', () => {
  const memory = Buffer.from('garbage+OK\r\n$2\r\nhi\r\nmore', 'latin1');
  const counter = new ReplyCounter();
  assert.equal(counter.absorb(memory, 7, 20), 2);
  assert.ok(counter.ok);
});

test('any bytes at all give a verdict, never a throw', () => {
  fc.assert(
    fc.property(
      fc.array(
        fc.oneof(
          fc.uint8Array({ maxLength: 30 }),
          fc.stringMatching(/^[*$%+\-0-9\r\n|>~]{0,20}$/).map((t) => Buffer.from(t)),
        ),
        {
          maxLength: 10,
        },
      ),
      (pieces) => {
        const counter = new ReplyCounter();
        let bytes = 0;
        for (const piece of pieces) {
          counter.absorb(piece, 0, piece.length);
          bytes += piece.length;
        }
        assert.ok(counter.replies <= bytes);
      },
    ),
    { numRuns: 500 },
  );
});

for (const [what, text] of [
  ['an unknown type', 'HTTP/1.1 400\r\n'],
  ['a length that is no number', '$x\r\n'],
  ['a length of nothing', '$\r\n'],
  ['a length beyond the protocol', '$999999999999\r\n'],
  ['a negative length but -1', '*-2\r\n'],
  ['a bulk that does not end where it says', '$2\r\nabcd'],
] as const) {
  test(`refuses ${what}, for good until reset`, () => {
    const counter = new ReplyCounter();
    const bytes = Buffer.from(text, 'latin1');
    counter.absorb(bytes, 0, bytes.length);
    assert.equal(counter.ok, false);
    const fine = Buffer.from('+OK\r\n');
    assert.equal(counter.absorb(fine, 0, fine.length), 0);
    counter.reset();
    assert.equal(counter.absorb(fine, 0, fine.length), 1);
  });
}

test('compares bulk strings with what is expected, once per reply', () => {
  const counter = new ReplyCounter();
  counter.expected = Buffer.from('abc');
  for (const piece of cut('$3\r\nabc\r\n$3\r\nxyz\r\n$2\r\nab\r\n$-1\r\n+OK\r\n$3\r\nabc\r\n', [5, 12, 14, 15])) {
    counter.absorb(piece, 0, piece.length);
  }
  assert.equal(counter.replies, 6);
  assert.equal(counter.wrong, 2);
  assert.equal(counter.nils, 1);
});
