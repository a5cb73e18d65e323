/**
 * The allocator: blocks never overlap, freed memory is used again, empty chunks are given back.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Arena, ArenaFullError, CHUNK_SHIFT, PAYLOAD_MAX, UNIT_MASK } from '../../../../src/apps/kv/store/arena.ts';
import { Dice } from '../oracle.ts';

const SEED = 99;
const MIB = 1 << 20;

/** The payload of a block. */
function payload(arena: Arena, ref: number): Uint8Array {
  const start = (ref & UNIT_MASK) * 8;
  return arena.bytes[ref >>> CHUNK_SHIFT]!.subarray(start + 4, start + arena.sizeOf(ref));
}

test('blocks keep what is written to them while others come and go', () => {
  const arena = new Arena();
  const dice = new Dice(SEED);
  const blocks: { ref: number; size: number; mark: number }[] = [];
  let used = 0;
  for (let step = 0; step < 60_000; step++) {
    if (blocks.length > 0 && dice.chance(step % 10_000 < 5_000 ? 40 : 60)) {
      const at = dice.below(blocks.length);
      const { ref, size, mark } = blocks[at]!;
      const bytes = payload(arena, ref);
      assert.ok(
        bytes[0] === mark && bytes[size - 1] === mark && bytes[size >> 1] === mark,
        `seed ${SEED}, step ${step}`,
      );
      used -= arena.sizeOf(ref);
      arena.free(ref);
      blocks[at] = blocks[blocks.length - 1]!;
      blocks.pop();
    } else {
      const size = 1 + dice.below(dice.pick([16, 64, 300, 5000, dice.chance(3) ? 700_000 : 40]));
      const ref = arena.allocate(size);
      assert.ok(ref > 0 && arena.sizeOf(ref) >= size + 4);
      const mark = 1 + dice.below(255);
      payload(arena, ref).fill(mark);
      used += arena.sizeOf(ref);
      blocks.push({ ref, size, mark });
    }
    assert.equal(arena.used, used);
  }
  for (const { ref } of blocks) arena.free(ref);
  assert.equal(arena.used, 0);
  assert.ok(arena.committed <= MIB, `${arena.committed} bytes kept`);
});

test('it begins small and grows with the data', () => {
  const arena = new Arena();
  assert.equal(arena.committed, 0);
  arena.allocate(100);
  assert.equal(arena.committed, MIB);
});

test('the same work again takes no more memory', () => {
  const arena = new Arena();
  const dice = new Dice(SEED);
  const refs: number[] = [];
  for (let i = 0; i < 20_000; i++) refs.push(arena.allocate(20 + dice.below(100)));
  const { committed } = arena;
  for (let round = 0; round < 200_000; round++) {
    const at = dice.below(refs.length);
    arena.free(refs[at]!);
    refs[at] = arena.allocate(20 + dice.below(100));
  }
  assert.ok(arena.committed <= committed * 1.25, `${arena.committed} after ${committed}`);
});

test('a large block has a chunk of its own, given back with it', () => {
  const arena = new Arena();
  const small = arena.allocate(10);
  const before = arena.committed;
  const ref = arena.allocate(10 * MIB);
  payload(arena, ref)[10 * MIB - 1] = 7;
  assert.ok(arena.committed >= before + 10 * MIB);
  arena.free(ref);
  assert.equal(arena.committed, before);
  arena.free(small);
  assert.equal(arena.used, 0);
});

test('a block beyond the limit is refused by name', () => {
  assert.throws(() => new Arena().allocate(PAYLOAD_MAX + 1), ArenaFullError);
});

test('reset forgets everything', () => {
  const arena = new Arena();
  for (let i = 0; i < 1000; i++) arena.allocate(5000);
  arena.reset();
  assert.equal(arena.used, 0);
  assert.equal(arena.committed, 0);
  assert.ok(arena.allocate(10) > 0);
});
