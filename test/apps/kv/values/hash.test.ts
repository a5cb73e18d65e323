/** The hash against a Map, by random operations. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Slice } from '../../../../src/apps/kv/values/bytes.ts';
import { HashValue } from '../../../../src/apps/kv/values/hash.ts';
import { Positions } from '../../../../src/apps/kv/values/positions.ts';
import { AT, hasher, put, randomFrom, randomLength, textFor, textOf } from './support.ts';

const field = new Slice();
const value = new Slice();

function contents(hash: HashValue): Map<string, string> {
  const all = new Map<string, string>();
  for (let position = hash.first(); position >= 0; position = hash.next(position)) {
    hash.readField(position, field);
    hash.readValue(position, value);
    all.set(textOf(field), textOf(value));
  }
  return all;
}

function set(hash: HashValue, name: string, text: string): boolean {
  return hash.set(put(name), AT, name.length, put(text), AT, text.length);
}

function check(seed: number, operations: number, names: number, large: boolean): void {
  const random = randomFrom(seed);
  const hash = new HashValue(hasher);
  const model = new Map<string, string>();
  for (let i = 0; i < operations; i++) {
    // Long phases of growing and of shrinking.
    const growing = (i / (operations / 4)) % 2 < 1;
    const name = `f${random(names)}`;
    if (random(10) < (growing ? 8 : 3)) {
      const text = textFor(random(1000), randomLength(random, large));
      assert.equal(set(hash, name, text), !model.has(name));
      model.set(name, text);
    } else {
      const position = hash.find(put(name), AT, name.length);
      assert.equal(position >= 0, model.has(name));
      if (position >= 0) {
        hash.readValue(position, value);
        assert.equal(textOf(value), model.get(name));
        hash.removeAt(position);
        model.delete(name);
      }
    }
    assert.equal(hash.size, model.size);
  }
  assert.deepEqual(contents(hash), model);
  assert.deepEqual(contents(hash.clone()), model);
  for (let index = 0; index < Math.min(hash.size, 200); index++) {
    hash.readField(hash.nth(index), field);
    assert.ok(model.delete(textOf(field)));
  }
}

test('a hash holds what a map holds: small', () => {
  fc.assert(
    fc.property(fc.integer(), (seed) => check(seed, 300, 40, false)),
    { numRuns: 100 },
  );
});

test('a hash holds what a map holds: large, with long values', () => {
  fc.assert(
    fc.property(fc.integer(), (seed) => check(seed, 8000, 3000, true)),
    { numRuns: 6 },
  );
});

test('a hash of many fields: directory splits, shrinks, and gives its memory back', () => {
  const hash = new HashValue(hasher);
  for (let i = 0; i < 60000; i++) assert.equal(set(hash, `field:${i}`, `${i * 7}`), true);
  const most = hash.bytes;
  assert.ok(most > 60000 * 15 && most < 60000 * 80, `${most} bytes`);
  for (let i = 0; i < 60000; i += 111) {
    assert.ok(hash.find(put(`field:${i}`), AT, `field:${i}`.length) >= 0);
    assert.equal(hash.find(put(`field:x${i}`), AT, `field:x${i}`.length), -1);
  }
  for (let i = 0; i < 59900; i++) hash.removeAt(hash.find(put(`field:${i}`), AT, `field:${i}`.length));
  const left = contents(hash);
  assert.equal(left.size, 100);
  for (let i = 59900; i < 60000; i++) assert.equal(left.get(`field:${i}`), `${i * 7}`);
  assert.ok(hash.bytes < most / 10, `${hash.bytes} of ${most} bytes`);
  assert.equal(hash.encoding(), 'hashtable');
});

test('values that change their length again and again do not pile up', () => {
  const hash = new HashValue(hasher);
  const model = new Map<string, string>();
  const random = randomFrom(5);
  for (let i = 0; i < 100000; i++) {
    // Two halves of different habit: in one few fields change, so that chunks are emptied while they are being filled.
    const name = `f${random(i < 50000 ? 200 : 20)}`;
    const text = textFor(i, random(i < 50000 ? 100 : 3000));
    set(hash, name, text);
    model.set(name, text);
    if (i % 5000 === 0) assert.deepEqual(contents(hash), model);
  }
  assert.deepEqual(contents(hash), model);
  assert.ok(hash.bytes < 300000, `${hash.bytes} bytes`);
});

test('a hash passes for a listpack up to 512 fields or 64 bytes', () => {
  const hash = new HashValue(hasher);
  for (let i = 0; i < 100; i++) set(hash, `f${i}`, 'x'.repeat(64));
  const small = hash.clone();
  set(small, 'f5', 'x'.repeat(65));
  assert.equal(small.encoding(), 'hashtable');
  assert.equal(contents(small).get('f5'), 'x'.repeat(65));
  for (let i = 100; i < 512; i++) set(hash, `f${i}`, 'x'.repeat(64));
  assert.equal(hash.encoding(), 'listpack');
  assert.deepEqual([...contents(hash).keys()].slice(0, 3), ['f0', 'f1', 'f2']);
  const other = hash.clone();
  set(hash, 'f512', '');
  assert.equal(hash.encoding(), 'hashtable');
  set(other, 'f5', 'x'.repeat(65));
  assert.equal(other.encoding(), 'hashtable');
  assert.equal(contents(other).get('f5'), 'x'.repeat(65));
  assert.equal(contents(other).size, 512);
});

test('a scan whose cursor lies above what is left goes on from the top', () => {
  const found = new Positions();
  assert.equal(found.descend(0, 2, 5), 3);
  assert.equal(found.descend(100, 3, 4), 1);
  assert.equal(found.descend(1, 10, 4), 0);
  assert.deepEqual([...found.items.subarray(0, found.length)], [4, 3, 3, 2, 1, 0]);
});

test('a scan meets every field that stays, whatever comes and goes', () => {
  fc.assert(
    fc.property(fc.integer(), fc.integer({ min: 1, max: 50 }), (seed, count) => {
      const random = randomFrom(seed);
      const hash = new HashValue(hasher);
      for (let i = 0; i < 500; i++) set(hash, `stays${i}`, '');
      for (let i = 0; i < 500; i++) set(hash, `goes${i}`, '');
      const met = new Set<string>();
      const found = new Positions();
      let cursor = 0;
      let steps = 0;
      do {
        found.clear();
        cursor = hash.scan(cursor, count, found);
        for (let i = 0; i < found.length; i++) {
          hash.readField(found.items[i]!, field);
          met.add(textOf(field));
        }
        for (let i = 0; i < 5; i++) {
          const name = random(2) === 0 ? `goes${random(500)}` : `new${random(1000)}`;
          const position = hash.find(put(name), AT, name.length);
          if (position >= 0) hash.removeAt(position);
          else if (random(3) === 0) set(hash, name, '');
        }
        assert.ok(++steps < 5000);
      } while (cursor !== 0);
      for (let i = 0; i < 500; i++) assert.ok(met.has(`stays${i}`), `stays${i}`);
    }),
    { numRuns: 20 },
  );
});
