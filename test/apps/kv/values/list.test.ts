/** The list against an array, by random operations. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Slice } from '../../../../src/apps/kv/values/bytes.ts';
import { ListValue } from '../../../../src/apps/kv/values/list.ts';
import { ListCursor } from '../../../../src/apps/kv/values/list-block.ts';
import { AT, put, randomFrom, randomLength, textFor, textOf } from './support.ts';

const cursor = new ListCursor();
const item = new Slice();

function contents(list: ListValue): string[] {
  const all: string[] = [];
  if (list.size === 0) return all;
  list.seek(0, cursor);
  do all.push(textOf(cursor.item));
  while (cursor.forward());
  return all;
}

function backwards(list: ListValue): string[] {
  const all: string[] = [];
  if (list.size === 0) return all;
  list.seek(list.size - 1, cursor);
  do all.push(textOf(cursor.item));
  while (cursor.backward());
  return all;
}

function pushTail(list: ListValue, text: string): void {
  list.pushTail(put(text), AT, text.length);
}

function removeModel(model: string[], limit: number, text: string): number {
  let removed = 0;
  if (limit < 0) model.reverse();
  for (let i = 0; i < model.length && (limit === 0 || removed < Math.abs(limit)); ) {
    if (model[i] === text) {
      model.splice(i, 1);
      removed++;
    } else i++;
  }
  if (limit < 0) model.reverse();
  return removed;
}

function check(seed: number, operations: number, most: number, large: boolean): void {
  const random = randomFrom(seed);
  const list = new ListValue();
  const model: string[] = [];
  const choose = () => textFor(random(random(4) === 0 ? 4 : 100000), randomLength(random, large));
  for (let i = 0; i < operations; i++) {
    const kind = random(model.length > most ? 18 : 16);
    const text = choose();
    const bytes = put(text);
    if (kind < 5) {
      list.pushHead(bytes, AT, text.length);
      model.unshift(text);
    } else if (kind < 10) {
      list.pushTail(bytes, AT, text.length);
      model.push(text);
    } else if (model.length === 0) {
      assert.equal(list.size, 0);
    } else if (kind === 10) {
      list.readHead(item);
      assert.equal(textOf(item), model.shift());
      list.dropHead();
    } else if (kind === 11) {
      list.readTail(item);
      assert.equal(textOf(item), model.pop());
      list.dropTail();
    } else if (kind === 12) {
      const index = random(model.length);
      list.seek(index, cursor);
      assert.equal(textOf(cursor.item), model[index]);
      list.replace(cursor, bytes, AT, text.length);
      model[index] = text;
    } else if (kind === 13 || kind === 14) {
      const index = random(model.length);
      const behind = random(2) === 1;
      list.seek(index, cursor);
      list.insert(cursor, behind, bytes, AT, text.length);
      model.splice(behind ? index + 1 : index, 0, text);
    } else if (kind === 15) {
      const target = model[random(model.length)]!;
      const limit = random(5) - 2;
      assert.equal(list.removeEqual(limit, put(target), AT, target.length), removeModel(model, limit, target));
    } else {
      const head = random(Math.min(model.length, 200) + 1);
      const tail = random(Math.min(model.length - head, 200) + 1);
      list.trim(head, tail);
      model.splice(0, head);
      model.splice(model.length - tail, tail);
    }
    assert.equal(list.size, model.length);
  }
  assert.deepEqual(contents(list), model);
  assert.deepEqual(contents(list.clone()), model);
  assert.deepEqual(
    [...list.elements()].map((each) => Buffer.from(each).toString('latin1')),
    model,
  );
  assert.deepEqual(backwards(list), model.reverse());
}

test('a list holds what an array holds: small', () => {
  fc.assert(
    fc.property(fc.integer(), (seed) => check(seed, 200, 30, false)),
    { numRuns: 200 },
  );
});

test('a list holds what an array holds: many blocks, long items', () => {
  fc.assert(
    fc.property(fc.integer(), (seed) => check(seed, 8000, 4000, true)),
    { numRuns: 6 },
  );
});

test('inserting at one place of a long list splits blocks and loses nothing', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 0, max: 2999 }),
      fc.integer({ min: 1, max: 60 }),
      fc.boolean(),
      (place, size, behind) => {
        const list = new ListValue();
        const model: string[] = [];
        for (let i = 0; i < 3000; i++) {
          pushTail(list, `item:${i}`);
          model.push(`item:${i}`);
        }
        for (let i = 0; i < 500; i++) {
          const text = textFor(i, size);
          list.seek(place, cursor);
          list.insert(cursor, behind, put(text), AT, text.length);
          model.splice(behind ? place + 1 : place, 0, text);
        }
        assert.deepEqual(contents(list), model);
        assert.deepEqual(backwards(list), model.reverse());
      },
    ),
    { numRuns: 15 },
  );
});

test('a queue that is pushed at one end and popped at the other stays small', () => {
  for (const length of [1, 10, 1000]) {
    const list = new ListValue();
    for (let i = 0; i < length; i++) pushTail(list, `job:${i}`);
    for (let i = length; i < 50000; i++) {
      pushTail(list, `job:${i}`);
      list.readHead(item);
      assert.equal(textOf(item), `job:${i - length}`);
      list.dropHead();
    }
    assert.equal(list.size, length);
    assert.ok(list.bytes < 512 + length * 40 + (length > 100 ? 30000 : 0), `${length}: ${list.bytes} bytes`);
  }
});

test('what is removed gives its memory back', () => {
  const list = new ListValue();
  const empty = list.bytes;
  for (let i = 0; i < 20000; i++) pushTail(list, `item:${i % 10}`);
  const full = list.bytes;
  assert.ok(full > 20000 * 8 && full < 20000 * 12, `${full} bytes`);
  for (let i = 0; i < 9; i++) list.removeEqual(0, put(`item:${i}`), AT, 6);
  assert.equal(list.size, 2000);
  assert.ok(list.bytes < full / 3, `${list.bytes} of ${full}`);
  list.trim(1000, 1000);
  assert.equal(list.bytes, empty);
});
