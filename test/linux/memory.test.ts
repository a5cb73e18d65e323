/** Mapped memory: where arenas lie, sharing, and that no view outlives its mapping as a crash or a leak of data. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { describe, it } from 'node:test';
import { promisify } from 'node:util';
import { Worker } from 'node:worker_threads';
import { close } from '../../src/linux/libc.ts';
import {
  borrowMemory,
  createMemoryFile,
  MAX_MAPPING_BYTES,
  mapArena,
  mapShared,
  PAGE_BYTES,
} from '../../src/linux/memory.ts';

const memoryModule = new URL('../../src/linux/memory.js', import.meta.url).href;

function mapped(address: number): boolean {
  const first = address.toString(16);
  return readFileSync('/proc/self/maps', 'utf8')
    .split('\n')
    .some((line) => line.startsWith(`${first}-`));
}

describe('mapArena', () => {
  it('lies where the low word of the address is zero, zero-filled, in whole pages', () => {
    const arena = mapArena(5000);
    assert.equal(arena.addressLow, 0);
    assert.equal(arena.addressHigh * 2 ** 32, arena.address);
    assert.equal(arena.byteLength, 2 * PAGE_BYTES);
    assert.ok(arena.u8.every((byte) => byte === 0));
    arena.u8.set([1, 2, 3, 4], 8);
    assert.equal(arena.i32[2], 0x04030201);
    assert.ok(mapped(arena.address));
    arena.close();
  });

  it('refuses sizes that offsets could not address', () => {
    assert.throws(() => mapArena(0), RangeError);
    assert.throws(() => mapArena(1.5), RangeError);
    assert.throws(() => mapArena(MAX_MAPPING_BYTES + 1), RangeError);
  });

  it('takes huge pages where there are any, and works where there are none', () => {
    const arena = mapArena(4 << 20, { huge: true });
    arena.i32[(4 << 18) - 1] = 7;
    assert.equal(arena.u8[(4 << 20) - 4], 7);
    arena.close();
  });

  it('never collides when several threads map at once', async () => {
    const body = `
      const { parentPort } = require('node:worker_threads');
      import(${JSON.stringify(memoryModule)}).then(({ mapArena }) => {
        const arenas = Array.from({ length: 100 }, () => mapArena(4096));
        arenas.forEach((arena, i) => { arena.i32[0] = i + 1; });
        const intact = arenas.every((arena, i) => arena.i32[0] === i + 1);
        parentPort.postMessage({ intact, addresses: arenas.map((arena) => arena.address) });
        arenas.forEach((arena) => arena.close());
      });`;
    const replies = await Promise.all(
      Array.from({ length: 3 }, async () => {
        const worker = new Worker(body, { eval: true });
        const reply = await new Promise<{ intact: boolean; addresses: number[] }>((resolve, reject) => {
          worker.once('message', resolve).once('error', reject);
        });
        return reply;
      }),
    );
    assert.ok(replies.every((reply) => reply.intact));
    const addresses = replies.flatMap((reply) => reply.addresses);
    assert.equal(new Set(addresses).size, 300);
  });
});

describe('the end of a mapping', () => {
  it('leaves stale views reading zeros, harmless to write, apart from all later data', () => {
    const arena = mapArena(PAGE_BYTES);
    const stale = arena.u8;
    const odd = new DataView(arena.buffer, 16, 32);
    stale.fill(0xaa);
    arena.close();
    arena.close();
    assert.ok(arena.closed);
    assert.ok(stale.every((byte) => byte === 0));
    assert.equal(odd.getInt32(0), 0);
    const later = Array.from({ length: 50 }, () => mapArena(PAGE_BYTES));
    for (const other of later) other.u8.fill(0x55);
    assert.ok(stale.every((byte) => byte === 0));
    stale.fill(0xbb);
    for (const other of later) {
      assert.ok(other.u8.every((byte) => byte === 0x55));
      other.close();
    }
  });

  it('gives the memory back at once, and the addresses once no view is left', async () => {
    const program = `
      import { readFileSync } from 'node:fs';
      import { setImmediate as turn } from 'node:timers/promises';
      const { mapArena } = await import(${JSON.stringify(memoryModule)});
      const { setFlagsFromString } = await import('node:v8');
      const rss = () => Number(/VmRSS:\\s+(\\d+)/.exec(readFileSync('/proc/self/status', 'utf8'))[1]) / 1024;
      const mapped = (address) => readFileSync('/proc/self/maps', 'utf8').includes(address.toString(16) + '-');
      const before = rss();
      let view; let address;
      (() => { const arena = mapArena(64 << 20); address = arena.address; arena.u8[5] = 9; view = new Uint8Array(arena.buffer, 4, 4);
        const during = rss(); arena.close(); console.log(during - before > 60, rss() - before < 30); })();
      setFlagsFromString('--expose-gc'); const gc = (await import('node:vm')).runInNewContext('gc');
      gc(); await turn(); await turn();
      console.log(mapped(address), view[1]);
      view = null;
      for (let i = 0; i < 200 && mapped(address); i++) { gc(); await turn(); }
      console.log(mapped(address));`;
    const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '-e', program]);
    assert.equal(stdout, 'true true\ntrue 0\nfalse\n');
  });

  it('does not detach: a detach would slow every hot loop of the thread', () => {
    const arena = mapArena(PAGE_BYTES);
    arena.close();
    assert.equal(arena.u8.length, PAGE_BYTES);
  });
});

describe('shared memory', () => {
  it('is the same memory through every mapping of a memory file', () => {
    const fd = createMemoryFile(3 * PAGE_BYTES);
    const a = mapShared(fd, 3 * PAGE_BYTES);
    const b = mapShared(fd, PAGE_BYTES, { offset: 2 * PAGE_BYTES, anywhere: true });
    close(fd);
    a.u8[2 * PAGE_BYTES + 9] = 77;
    assert.equal(b.u8[9], 77);
    assert.equal(a.addressLow, 0);
    b.close();
    assert.equal(b.u8[9], 0);
    assert.equal(a.u8[2 * PAGE_BYTES + 9], 77);
    a.close();
  });

  it('is lent to another thread by address, and outlives the borrower', async () => {
    const arena = mapArena(PAGE_BYTES, { crossThread: true });
    arena.i32[3] = 41;
    const body = `
      const { parentPort, workerData } = require('node:worker_threads');
      import(${JSON.stringify(memoryModule)}).then(({ borrowMemory }) => {
        const memory = borrowMemory(workerData.address, workerData.bytes);
        memory.i32[3]++; memory.close(); parentPort.postMessage('done');
      });`;
    const worker = new Worker(body, { eval: true, workerData: { address: arena.address, bytes: arena.byteLength } });
    await new Promise((resolve, reject) => worker.once('exit', resolve).once('error', reject));
    assert.equal(arena.i32[3], 42);
    const again = borrowMemory(arena.address, arena.byteLength);
    assert.equal(again.i32[3], 42);
    arena.close();
    assert.equal(again.i32[3], 0);
  });

  it('reports a bad descriptor as the system does', () => {
    assert.throws(() => mapShared(-1, PAGE_BYTES), { code: 'EBADF', errno: -9, syscall: 'mmap' });
  });
});
