/** The set against a Set, by random operations in all its forms. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Slice } from '../../../../src/apps/kv/values/bytes.ts';
import { SetValue } from '../../../../src/apps/kv/values/set.ts';
import { AT, hasher, put, randomFrom, randomLength, textFor, textOf } from './support.ts';

const member = new Slice();

function contents(set: SetValue): string[] {
  const all: string[] = [];
  for (let position = set.first(); position >= 0; position = set.next(position)) {
    set.read(position, member);
    all.push(textOf(member));
  }
  return all;
}

function add(set: SetValue, text: string): boolean {
  return set.add(put(text), AT, text.length);
}

function find(set: SetValue, text: string): number {
  return set.find(put(text), AT, text.length);
}

function check(seed: number, operations: number, choose: (random: (n: number) => number) => string): void {
  const random = randomFrom(seed);
  const set = new SetValue(hasher);
  const model = new Set<string>();
  for (let i = 0; i < operations; i++) {
    const growing = (i / (operations / 4)) % 2 < 1;
    const text = choose(random);
    if (random(10) < (growing ? 8 : 3)) {
      assert.equal(add(set, text), !model.has(text));
      model.add(text);
    } else if (random(4) === 0 && set.size > 0) {
      const position = set.nth(random(set.size));
      set.read(position, member);
      assert.ok(model.delete(textOf(member)));
      set.removeAt(position);
    } else {
      const position = find(set, text);
      assert.equal(position >= 0, model.has(text));
      if (position >= 0) set.removeAt(position);
      model.delete(text);
    }
    assert.equal(set.size, model.size);
  }
  const members = contents(set);
  if (set.encoding() === 'intset') {
    for (let i = 1; i < members.length; i++) assert.ok(BigInt(members[i - 1]!) < BigInt(members[i]!));
  }
  assert.deepEqual(members.sort(), [...model].sort());
  assert.deepEqual(contents(set.clone()).sort(), [...model].sort());
  assert.deepEqual([...set.elements()].map((each) => Buffer.from(each).toString('latin1')).sort(), [...model].sort());
}

const INTEGERS = ['0', '-1', '9223372036854775807', '-9223372036854775808', '9007199254740993', '-9007199254740993'];
const ALMOST = ['00', '-0', '+1', '9223372036854775808', '-9223372036854775809', '1e3', ' 1', '-', '', '1.0', '012'];

function integer(random: (n: number) => number): string {
  const pick = random(8);
  if (pick === 0) return INTEGERS[random(INTEGERS.length)]!;
  if (pick === 1) return `${BigInt(random(1 << 30) - (1 << 29)) * 8589934592n}`;
  if (pick === 2) return `${(random(2) - 1) * 4294967296 + random(40) * 107374182}`;
  return `${random(1000) - 500}`;
}

test('a set of integers', () => {
  fc.assert(
    fc.property(fc.integer(), (seed) => check(seed, 600, integer)),
    { numRuns: 60 },
  );
});

test('a set of integers that meets other members', () => {
  fc.assert(
    fc.property(fc.integer(), (seed) =>
      check(seed, 600, (random) => (random(100) === 0 ? ALMOST[random(ALMOST.length)]! : integer(random))),
    ),
    { numRuns: 60 },
  );
});

test('a small set of strings', () => {
  fc.assert(
    fc.property(fc.integer(), (seed) =>
      check(seed, 300, (random) => textFor(random(100), randomLength(random, false))),
    ),
    { numRuns: 60 },
  );
});

test('a large set of strings, some long', () => {
  fc.assert(
    fc.property(fc.integer(), (seed) =>
      check(seed, 8000, (random) => textFor(random(4000), randomLength(random, true))),
    ),
    { numRuns: 6 },
  );
});

test('encodings are those of redis 7.0', () => {
  const set = new SetValue(hasher);
  for (let i = 511; i >= 0; i--) add(set, `${i}`);
  assert.equal(set.encoding(), 'intset');
  assert.deepEqual(contents(set).slice(0, 12), ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', '10', '11']);
  add(set, '7');
  assert.equal(set.encoding(), 'intset');
  add(set, '512');
  assert.equal(set.encoding(), 'hashtable');
  for (const text of ALMOST) {
    const other = new SetValue(hasher);
    add(other, '5');
    assert.equal(other.encoding(), 'intset');
    add(other, text);
    assert.equal(other.encoding(), 'hashtable', text);
    assert.deepEqual(contents(other), ['5', text]);
  }
});

test('every member is as likely as another', () => {
  for (const members of [
    ['1', '2', '3', '4'],
    ['a', 'bb', 'ccc', 'dddd'],
    ['a', 'b', 'c', 'x'.repeat(70)],
  ]) {
    const set = new SetValue(hasher);
    for (const text of members) add(set, text);
    const met = new Set<string>();
    for (let index = 0; index < 4; index++) {
      set.read(set.nth(index), member);
      met.add(textOf(member));
    }
    assert.equal(met.size, 4);
  }
});
