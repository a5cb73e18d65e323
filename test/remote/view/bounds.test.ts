/**
 * What the view may keep, and what happens at each bound: blocks of data, data not written yet, names, listings.
 * All of it in simulated time.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { ERRNO } from '../../../src/errors.ts';
import { FileType } from '../../../src/remote/server.ts';
import { BLOCK_BYTES } from '../../../src/remote/view/file-data.ts';
import { RangeSet } from '../../../src/remote/view/ranges.ts';
import { makeWorld } from './world.ts';

/** A byte that tells its place. */
const byteAt = (offset: number): number => (offset * 7 + (offset >>> 12)) & 0xff;

test('file data: the block used longest ago goes, and is asked for again', async () => {
  const limit = 8 * BLOCK_BYTES;
  const size = 4 * limit;
  const { clock, server, tree, view, driver } = await makeWorld({ dataBytes: limit, readAheadBytes: 0 });
  const inode = tree.add(tree.root, 'f', FileType.regular, { mode: 0o644 });
  tree.write(
    inode,
    0,
    Uint8Array.from({ length: size }, (_, i) => byteAt(i)),
  );
  const file = await clock.until(driver.open('/f'));
  for (let round = 0; round < 2; round++) {
    for (let at = 0; at < size; at += BLOCK_BYTES) {
      const bytes = await clock.until(driver.read(file, at, 4096));
      assert.ok(
        bytes.every((byte, i) => byte === byteAt(at + i)),
        `at ${at}`,
      );
      assert.ok(view.budget.usedBytes <= limit, `${view.budget.usedBytes} bytes of data`);
    }
  }
  assert.ok(view.budget.dropped > 0);
  const asked = server.calls['read'] ?? 0;
  await clock.until(driver.read(file, size - BLOCK_BYTES, 100));
  assert.equal(server.calls['read'], asked, 'what was used last is still here');
  await clock.until(driver.read(file, 0, 100));
  assert.equal(server.calls['read'], asked + 1);
  await clock.until(driver.close(file));
});

test('unwritten bytes: writers wait for the server', async () => {
  const { clock, server, view, driver } = await makeWorld({ unwrittenBytes: 10_000 }, { maxWrite: 1000 });
  const file = await clock.until(driver.create('/f', 0o644));
  let most = 0;
  for (let i = 0; i < 100; i++) {
    await clock.until(driver.write(file, i * 1000, new Uint8Array(1000).fill(i)));
    most = Math.max(most, view.writeBack.unwrittenBytes);
  }
  await clock.until(driver.close(file));
  assert.ok(most <= 11_000, `${most} bytes unwritten`);
  assert.equal(server.tree.at('/f').data.byteLength, 100_000);
  assert.equal(server.tree.at('/f').data[99_500], 99);
});

test('unwritten bytes far apart: the blocks that hold them are bounded, too', async () => {
  const limit = 8 * BLOCK_BYTES;
  const { clock, tree, view, driver } = await makeWorld({ dataBytes: limit });
  const file = await clock.until(driver.create('/f', 0o644));
  const count = 64;
  for (let i = 1; i <= count; i++) {
    await clock.until(driver.write(file, i * BLOCK_BYTES - 1, Uint8Array.of(i)));
    assert.ok(view.budget.usedBytes <= limit + BLOCK_BYTES, `${view.budget.usedBytes} bytes of data`);
  }
  await clock.until(driver.close(file));
  const { data } = tree.at('/f');
  assert.equal(data.byteLength, count * BLOCK_BYTES);
  for (let i = 1; i <= count; i++) assert.equal(data[i * BLOCK_BYTES - 1], i);
  assert.equal(view.writeBack.unwrittenBytes, 0);
});

test('names and nodes: those of the directory used longest ago go', async () => {
  const { clock, tree, view, driver } = await makeWorld({ names: 200 });
  for (let i = 0; i < 50; i++) {
    const directory = tree.add(tree.root, `d${i}`, FileType.directory, { mode: 0o755 });
    for (let j = 0; j < 20; j++) tree.add(directory, `f${j}`, FileType.regular, { mode: 0o644 });
  }
  for (let i = 0; i < 50; i++) {
    assert.equal((await clock.until(driver.list(`/d${i}`))).split(' ').length, 20);
    driver.forget();
  }
  assert.ok(view.nodes.nameCount <= 220, `${view.nodes.nameCount} names`);
  assert.ok(view.nodes.size <= 300, `${view.nodes.size} nodes`);
  assert.match(await clock.until(driver.stat('/d0/f19')), /^1 644/);
});

test('a listing that is too long is EOVERFLOW; names in it can be used all the same', async () => {
  const { clock, tree, driver } = await makeWorld({ listing: 150 });
  const directory = tree.add(tree.root, 'd', FileType.directory, { mode: 0o755 });
  for (let i = 0; i < 150; i++) tree.add(directory, `f${i}`, FileType.regular, { mode: 0o644 });
  assert.equal((await clock.until(driver.list('/d'))).split(' ').length, 150);
  tree.add(directory, 'one-more', FileType.regular, { mode: 0o600 });
  await assert.rejects(clock.until(driver.list('/d')), { errno: ERRNO.EOVERFLOW });
  assert.match(await clock.until(driver.stat('/d/one-more')), /^1 600/);
});

test('ranges: their bytes are counted as they come and go', () => {
  const change = fc.record({ add: fc.boolean(), start: fc.nat(60), length: fc.nat(20) });
  fc.assert(
    fc.property(fc.array(change, { maxLength: 60 }), (changes) => {
      const set = new RangeSet();
      const model = new Set<number>();
      for (const { add, start, length } of changes) {
        if (add) set.add(start, start + length);
        else set.remove(start, start + length);
        for (let i = start; i < start + length; i++) add ? model.add(i) : model.delete(i);
        assert.equal(set.bytes, model.size);
        assert.equal(
          set.all().reduce((sum, range) => sum + range.end - range.start, 0),
          model.size,
        );
      }
    }),
  );
});
