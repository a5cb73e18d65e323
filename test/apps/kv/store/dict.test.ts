/**
 * The dictionary against a Map, its scans while it grows and shrinks, and its random choice.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Arena } from '../../../../src/apps/kv/store/arena.ts';
import { Dict } from '../../../../src/apps/kv/store/dict.ts';
import { randomEntry, scanDict } from '../../../../src/apps/kv/store/dict-walk.ts';
import { Hasher } from '../../../../src/apps/kv/store/hash.ts';
import { seededRandom } from '../harness.ts';
import { Dice } from '../oracle.ts';

const SEED = 4242;

function newDict(extra = 0): Dict {
  return new Dict(new Arena(), new Hasher(1, 2), extra);
}

function key(i: number): Buffer {
  return Buffer.from(`k${i}${'.'.repeat(i % 23)}`);
}

function textAt(dict: Dict, entry: number, start: number, length: number): string {
  return Buffer.from(dict.chunk(entry).buffer, start, length).toString('latin1');
}

function keyAt(dict: Dict, entry: number): string {
  return textAt(dict, entry, dict.keyStart(entry), dict.keyLength(entry));
}

function valueAt(dict: Dict, entry: number): string {
  return textAt(dict, entry, dict.valueStart(entry), dict.valueLength(entry));
}

function put(dict: Dict, i: number, value: string): boolean {
  const bytes = key(i);
  const text = Buffer.from(value, 'latin1');
  return dict.set(bytes, 0, bytes.length, text, 0, text.length);
}

function remove(dict: Dict, i: number): boolean {
  const bytes = key(i);
  return dict.remove(bytes, 0, bytes.length);
}

test('it does what a Map does, through growth and shrinking', () => {
  for (const extra of [0, 2]) {
    const dict = newDict(extra);
    const model = new Map<number, string>();
    const dice = new Dice(SEED + extra);
    for (let step = 0; step < 60_000; step++) {
      // waves of growth and of shrinking
      const growing = Math.floor(step / 10_000) % 2 === 0;
      const i = dice.below(5000);
      if (dice.chance(growing ? 80 : 20)) {
        const value = 'v'.repeat(dice.below(dice.pick([5, 50, 300])));
        assert.equal(put(dict, i, value), !model.has(i));
        model.set(i, value);
      } else assert.equal(remove(dict, i), model.delete(i));
      assert.equal(dict.count, model.size);
      const probe = dice.below(5000);
      const bytes = key(probe);
      const entry = dict.find(bytes, 0, bytes.length);
      assert.equal(entry === 0 ? undefined : valueAt(dict, entry), model.get(probe), `seed ${SEED}, step ${step}`);
    }
    const seen = new Map<string, string>();
    for (let slot = dict.first(); slot >= 0; slot = dict.next(slot)) {
      const entry = dict.entryAt(slot);
      seen.set(keyAt(dict, entry), valueAt(dict, entry));
    }
    assert.deepEqual(
      new Map([...seen].sort()),
      new Map([...model].map(([i, value]) => [key(i).toString(), value] as [string, string]).sort()),
    );
    assert.equal(dict.entryBytes, dict.arena.used);
    for (const i of model.keys()) remove(dict, i);
    assert.equal(dict.arena.used, 0);
    assert.equal(dict.count, 0);
    assert.ok(dict.slots <= 16, `${dict.slots} slots left`);
  }
});

test('a value that outgrows its block moves, and its entry is found', () => {
  const dict = newDict(1);
  for (let i = 0; i < 100; i++) put(dict, i, 'x');
  const bytes = key(50);
  let entry = dict.find(bytes, 0, bytes.length);
  dict.setExtra(entry, 0, 77);
  dict.find(key(3), 0, key(3).length);
  entry = dict.resize(entry, 1000, 1, 100);
  assert.equal(dict.find(bytes, 0, bytes.length), entry);
  assert.equal(dict.extra(entry, 0), 77);
  assert.equal(valueAt(dict, entry)[0], 'x');
});

test('a scan returns every element that stays, while the table grows and shrinks', () => {
  for (let round = 0; round < 6; round++) {
    const dice = new Dice(SEED + round);
    const dict = newDict();
    const stays = 50 + dice.below(500);
    for (let i = 0; i < stays; i++) put(dict, i, '');
    let others = stays;
    const seen = new Set<string>();
    let cursor = 0;
    let calls = 0;
    do {
      cursor = scanDict(dict, cursor, (entry) => seen.add(keyAt(dict, entry)));
      const change = dice.below(80);
      // in some rounds grow, in others grow and shrink again
      if (others < 20_000 && (round % 3 === 0 || dice.chance(50)))
        for (let i = 0; i < change; i++) put(dict, others++, '');
      else for (let i = 0; i < change * 2 && others > stays; i++) remove(dict, --others);
      if (calls > 3000) while (others > stays) remove(dict, --others);
      calls++;
    } while (cursor !== 0 && calls < 20_000);
    assert.equal(cursor, 0, 'the scan ends');
    for (let i = 0; i < stays; i++)
      assert.ok(seen.has(key(i).toString()), `element ${i} is missing, seed ${SEED}, round ${round}`);
  }
});

test('a scan of a table at rest returns every element once', () => {
  const dict = newDict();
  for (let i = 0; i < 1000; i++) put(dict, i, '');
  while (dict.rehashStep(100));
  const seen: string[] = [];
  let cursor = 0;
  do cursor = scanDict(dict, cursor, (entry) => seen.push(keyAt(dict, entry)));
  while (cursor !== 0);
  assert.equal(seen.length, 1000);
  assert.equal(new Set(seen).size, 1000);
});

test('random entries are fair', () => {
  const dict = newDict();
  const random = seededRandom(SEED);
  assert.equal(randomEntry(dict, random), 0);
  for (let i = 0; i < 100; i++) put(dict, i, '');
  const counts = new Map<string, number>();
  for (let i = 0; i < 50_000; i++) {
    const name = keyAt(dict, randomEntry(dict, random));
    counts.set(name, (counts.get(name) ?? 0) + 1);
  }
  assert.equal(counts.size, 100);
  for (const [name, count] of counts) assert.ok(count > 380 && count < 640, `${name}: ${count} of 500`);
});

test('a large dictionary is cleared at once and freed bit by bit', () => {
  const dict = newDict();
  for (let i = 0; i < 20_000; i++) put(dict, i, 'value');
  const { arena } = dict;
  dict.clear();
  assert.equal(dict.count, 0);
  assert.ok(arena.used > 0);
  put(dict, 1, 'new');
  let steps = 0;
  while (arena.reap(1000)) steps++;
  assert.ok(steps > 10, `${steps} steps`);
  assert.equal(arena.used, dict.entryBytes);
});

test('chosen keys that collide under one secret do not under another', () => {
  // keys with equal low bits of the hash under one key of the hasher
  const weak = new Hasher(1, 2);
  const chosen: Buffer[] = [];
  for (let i = 0; chosen.length < 200; i++) {
    const bytes = Buffer.from(`attack:${i}`);
    if ((weak.hash(bytes, 0, bytes.length) & 0xff) === 0) chosen.push(bytes);
  }
  const other = new Hasher(3, 4);
  const homes = new Set(chosen.map((bytes) => other.hash(bytes, 0, bytes.length) & 0xff));
  assert.ok(homes.size > 100, `${homes.size} of 256 homes`);
});
