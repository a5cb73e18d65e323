/** The sorted set against a sorted array, by random operations in both its forms. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Slice } from '../../../../src/apps/kv/values/bytes.ts';
import { SortedSetCursor, SortedSetValue } from '../../../../src/apps/kv/values/sorted-set.ts';
import { AT, hasher, put, randomFrom, randomLength, textFor, textOf } from './support.ts';

const member = new Slice();
const cursor = new SortedSetCursor();

type Pair = [member: string, score: number];

function compare(a: Pair, b: Pair): number {
  if (a[1] !== b[1]) return a[1] - b[1];
  return a[0] < b[0] ? -1 : a[0] > b[0] ? 1 : 0;
}

function contents(set: SortedSetValue): Pair[] {
  const all: Pair[] = [];
  if (set.size === 0) return all;
  set.seek(0, cursor);
  do all.push([textOf(cursor.member), cursor.score]);
  while (cursor.forward());
  return all;
}

function backwards(set: SortedSetValue): Pair[] {
  const all: Pair[] = [];
  if (set.size === 0) return all;
  set.seek(set.size - 1, cursor);
  do all.push([textOf(cursor.member), cursor.score]);
  while (cursor.backward());
  return all;
}

function find(set: SortedSetValue, text: string): number {
  return set.find(put(text), AT, text.length);
}

/** ZADD. */
function put1(set: SortedSetValue, text: string, score: number): void {
  const position = find(set, text);
  if (position < 0) set.add(score, put(text), AT, text.length);
  else set.update(position, score);
}

function verify(set: SortedSetValue, model: Map<string, number>, random: (n: number) => number): void {
  const sorted = [...model].sort(compare);
  assert.deepEqual(contents(set), sorted);
  assert.deepEqual(backwards(set), sorted.toReversed());
  for (let i = 0; i < Math.min(50, sorted.length); i++) {
    const rank = random(sorted.length);
    const [text, score] = sorted[rank]!;
    const position = find(set, text);
    assert.equal(set.rankAt(position), rank);
    assert.equal(set.scoreAt(position), score);
    set.read(position, member);
    assert.equal(textOf(member), text);
    set.seek(rank, cursor);
    assert.equal(cursor.position, position);
    for (const border of [score, score + 0.25, score - 0.25, -Infinity, Infinity]) {
      assert.equal(set.countBelowScore(border, false), sorted.filter((each) => each[1] < border).length);
      assert.equal(set.countBelowScore(border, true), sorted.filter((each) => each[1] <= border).length);
    }
  }
}

function check(seed: number, operations: number, names: number, scores: number, large: boolean): void {
  const random = randomFrom(seed);
  const set = new SortedSetValue(hasher);
  const model = new Map<string, number>();
  for (let i = 0; i < operations; i++) {
    const growing = (i / (operations / 4)) % 2 < 1;
    const number = random(names);
    const text = textFor(number, large && number % 100 === 0 ? randomLength(randomFrom(number + 1), true) : 6);
    const kind = random(20);
    if (kind < (growing ? 16 : 6)) {
      const score = random(scores) / 2 - scores / 4;
      put1(set, text, score);
      model.set(text, score + 0);
    } else if (kind === 19 && set.size > 0) {
      // From an end, as ZPOPMIN and ZPOPMAX do.
      set.seek(random(2) === 0 ? 0 : set.size - 1, cursor);
      assert.ok(model.delete(textOf(cursor.member)));
      set.removeAt(cursor.position);
    } else {
      const position = find(set, text);
      assert.equal(position >= 0, model.has(text));
      if (position >= 0) {
        assert.equal(set.scoreAt(position), model.get(text));
        set.removeAt(position);
        model.delete(text);
      }
    }
    assert.equal(set.size, model.size);
    if (i % Math.ceil(operations / 4) === 0) verify(set, model, random);
  }
  verify(set, model, random);
  verify(set.clone(), model, random);
}

test('a sorted set is a sorted array: small', () => {
  fc.assert(
    fc.property(fc.integer(), fc.integer({ min: 1, max: 100 }), (seed, scores) => check(seed, 250, 60, scores, false)),
    { numRuns: 100 },
  );
});

test('a sorted set is a sorted array: large', () => {
  fc.assert(
    fc.property(fc.integer(), fc.constantFrom(1, 10, 100000), (seed, scores) => check(seed, 10000, 4000, scores, true)),
    { numRuns: 9 },
  );
});

test('three levels of the tree, filled in order and emptied from both ends', () => {
  const set = new SortedSetValue(hasher);
  const count = 12000;
  for (let i = 0; i < count; i++) put1(set, `m${i}`, i);
  const full = set.bytes;
  assert.ok(full < count * 60, `${full / count} bytes each`);
  for (let i = 0; i < count; i += 97) assert.equal(set.rankAt(find(set, `m${i}`)), i);
  for (let i = 0; i < 5900; i++) {
    set.seek(0, cursor);
    assert.equal(textOf(cursor.member), `m${i}`);
    set.removeAt(cursor.position);
    set.seek(set.size - 1, cursor);
    assert.equal(textOf(cursor.member), `m${count - 1 - i}`);
    set.removeAt(cursor.position);
  }
  assert.equal(set.size, 200);
  assert.equal(set.rankAt(find(set, 'm5999')), 99);
  assert.ok(set.bytes < full / 4, `${set.bytes} of ${full}`);
});

test('three levels filled in random order, backwards, and thinned out', () => {
  for (const seed of [1, 2]) {
    const random = randomFrom(seed);
    const set = new SortedSetValue(hasher);
    const model = new Map<string, number>();
    for (let i = 0; i < 12000; i++) {
      const score = seed === 1 ? random(1000000) : -i;
      put1(set, `m${i}`, score);
      model.set(`m${i}`, score + 0);
    }
    verify(set, model, random);
    for (let i = 0; i < 12000; i++) {
      if (i % 50 === 0) continue;
      set.removeAt(find(set, `m${i}`));
      model.delete(`m${i}`);
    }
    verify(set, model, random);
  }
});

test('members of equal score are in the order of their bytes', () => {
  fc.assert(
    fc.property(
      fc.oneof(
        fc.uniqueArray(fc.string({ unit: 'binary-ascii', maxLength: 5 }), { minLength: 1, maxLength: 100 }),
        fc.uniqueArray(fc.string({ unit: 'binary-ascii', maxLength: 5 }), { minLength: 130, maxLength: 300 }),
      ),
      fc.string({ unit: 'binary-ascii', maxLength: 5 }),
      (members, border) => {
        const set = new SortedSetValue(hasher);
        for (const text of members) put1(set, text, 0);
        const sorted = members.toSorted();
        assert.deepEqual(
          contents(set).map((pair) => pair[0]),
          sorted,
        );
        for (const text of [border, members[0]!, members.at(-1)!]) {
          const bytes = put(text);
          assert.equal(
            set.countBelowMember(bytes, AT, text.length, false),
            sorted.filter((each) => each < text).length,
          );
          assert.equal(
            set.countBelowMember(bytes, AT, text.length, true),
            sorted.filter((each) => each <= text).length,
          );
        }
      },
    ),
    { numRuns: 100 },
  );
});

test('the packed form ends at 128 members or 64 bytes', () => {
  const set = new SortedSetValue(hasher);
  for (let i = 0; i < 128; i++) put1(set, `${i}`.padEnd(64, '.'), -i);
  assert.equal(set.encoding(), 'listpack');
  const other = set.clone();
  put1(set, 'more', 1);
  assert.equal(set.encoding(), 'skiplist');
  other.removeAt(0);
  put1(other, 'x'.repeat(65), 1);
  assert.equal(other.encoding(), 'skiplist');
});

test('infinite scores have their place, negative zero is zero', () => {
  const set = new SortedSetValue(hasher);
  put1(set, 'top', Infinity);
  put1(set, 'bottom', -Infinity);
  put1(set, 'b', -0);
  put1(set, 'a', 0);
  assert.deepEqual(contents(set), [
    ['bottom', -Infinity],
    ['a', 0],
    ['b', 0],
    ['top', Infinity],
  ]);
});
