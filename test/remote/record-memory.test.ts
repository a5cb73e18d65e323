/** Memory of records that is used again: only its own, only once, and no more than it may keep. Pure. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { giveBack, recordMemory } from '../../src/remote/record-memory.ts';

const SIZE = 1_000_000;

/** Takes until fresh memory comes, so that what other tests left is out of the way. */
function drained(): Uint8Array[] {
  return Array.from({ length: 32 }, () => recordMemory(SIZE));
}

test('what was given back is used again, for as much or less', () => {
  drained();
  const first = recordMemory(SIZE);
  assert.ok(first.length >= SIZE);
  giveBack(first.subarray(100, 200));
  const second = recordMemory(SIZE - 1);
  assert.equal(second.buffer, first.buffer);
  giveBack(second);
  assert.notEqual(recordMemory(SIZE + 1).buffer, first.buffer, 'too small for this one');
});

test('given back twice it is had once; the memory of others is theirs', () => {
  drained();
  const mine = recordMemory(SIZE);
  giveBack(mine);
  giveBack(mine);
  const foreign = new Uint8Array(SIZE);
  giveBack(foreign);
  const taken = [recordMemory(SIZE), recordMemory(SIZE), recordMemory(SIZE)].map(({ buffer }) => buffer);
  assert.equal(new Set(taken).size, 3);
  assert.ok(!taken.includes(foreign.buffer));
});

test('what is kept is bounded, and small or huge memory is not kept at all', () => {
  const many = Array.from({ length: 100 }, () => recordMemory(SIZE));
  for (const memory of many) giveBack(memory);
  const before = new Set(many.map(({ buffer }) => buffer));
  const again = Array.from({ length: 100 }, () => recordMemory(SIZE)).filter(({ buffer }) => before.has(buffer));
  assert.equal(again.length, 16);
  for (const size of [100, 5_000_000]) {
    const memory = recordMemory(size);
    giveBack(memory);
    assert.notEqual(recordMemory(size).buffer, memory.buffer);
  }
});
