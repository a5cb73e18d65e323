/** Bytes through the file library against nfs-ganesha: random, large, sparse, streamed, and through a server's crash. */
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { describe, it } from 'node:test';
import { mounted } from './support.ts';

/** A generator with a seed, so that a failure can be had again. */
function randomFrom(seed: number): (below: number) => number {
  let state = seed >>> 0;
  return (below) => {
    state = (Math.imul(state ^ (state >>> 15), 0x2c1b3c6d) + 0x9e3779b9) >>> 0;
    return ((state ^ (state >>> 13)) >>> 0) % below;
  };
}

// Each test has a server of its own.
describe('bytes of remote files', { concurrency: 2 }, () => {
  for (const version of ['3', '4.1'] as const) {
    it(`random reads, writes and truncations equal a local model (NFSv${version})`, async (t) => {
      const parts = await mounted(t, { version });
      if (parts === null) return;
      const { files, behind } = parts;
      const seed = Date.now() >>> 0;
      t.diagnostic(`seed ${seed}`);
      const random = randomFrom(seed);
      const MOST = 3_000_000;
      let model = Buffer.alloc(0);
      const file = await files.open('/f', 'w+');
      for (let i = 0; i < 150; i++) {
        const at = random(MOST);
        const length = random(8) === 0 ? random(2_500_000) : random(20_000);
        switch (random(5)) {
          case 0:
          case 1: {
            const data = Buffer.alloc(length, String.fromCharCode(33 + random(90)) + i);
            const grown = Buffer.alloc(Math.max(model.length, at + length));
            model.copy(grown);
            data.copy(grown, at);
            model = length > 0 ? grown : model;
            await file.write(data, 0, length, at);
            break;
          }
          case 2: {
            const size = random(MOST);
            const cut = Buffer.alloc(size);
            model.copy(cut);
            model = cut;
            await file.truncate(size);
            break;
          }
          case 3:
            if (random(4) === 0) await file.sync();
            break;
          default: {
            const { bytesRead, buffer } = await file.read(Buffer.alloc(length), 0, length, at);
            assert.ok(buffer.subarray(0, bytesRead).equals(model.subarray(at, at + length)), `step ${i}`);
          }
        }
      }
      await file.close();
      assert.ok(readFileSync(behind('f')).equals(model));
      assert.ok((await files.readFile('/f')).equals(model));
    });
  }

  it('writes and reads not waited for: those that overlap keep their order', async (t) => {
    const parts = await mounted(t);
    if (parts === null) return;
    const { files } = parts;
    const file = await files.open('/f', 'w+');
    const reads: Promise<void>[] = [];
    for (let i = 0; i < 300; i++) {
      const letter = Buffer.alloc(100, 65 + (i % 26));
      reads.push(file.write(letter, 0, 100, (i % 3) * 50).then(() => {}));
      reads.push(
        file
          .read(Buffer.alloc(100), 0, 100, (i % 3) * 50)
          .then(({ buffer }) => assert.deepEqual(buffer, letter, `${i}`)),
      );
    }
    await Promise.all(reads);
    await file.close();
  });

  it('sparse: a byte beyond 2^40, holes read as zeros and take no room', async (t) => {
    const parts = await mounted(t, { tmpfs: '64m' });
    if (parts === null) return;
    const { files } = parts;
    const far = 2 ** 40 + 12_345;
    const file = await files.open('/sparse', 'w+');
    await file.write('end', far);
    await file.write('begin', 0);
    const buffer = Buffer.alloc(2_000_000, 1);
    const { bytesRead } = await file.read(buffer, 0, buffer.length, far - 1_999_999);
    assert.equal(bytesRead, 2_000_000);
    assert.equal(buffer.at(-1), 'e'.charCodeAt(0));
    assert.ok(buffer.subarray(0, -1).every((byte) => byte === 0));
    await file.close();
    const stats = await files.stat('/sparse');
    assert.equal(stats.size, far + 3);
    assert.ok(stats.blocks * 512 < 1_000_000);
    await assert.rejects(files.readFile('/sparse'), { code: 'EFBIG' });
  });

  it('streams: what goes in comes out, ranges, back-pressure, errors', async (t) => {
    const parts = await mounted(t);
    if (parts === null) return;
    const { files, behind } = parts;
    const data = randomBytes(5_000_003);
    const pieces = Array.from({ length: 400 }, (_, i) =>
      data.subarray(i * 12_501, Math.min(data.length, (i + 1) * 12_501)),
    );
    await pipeline(Readable.from(pieces), files.createWriteStream('/s'));
    assert.ok(readFileSync(behind('s')).equals(data));
    const collect = async (stream: AsyncIterable<Buffer>) => {
      const list: Buffer[] = [];
      for await (const piece of stream) list.push(piece);
      return Buffer.concat(list);
    };
    assert.ok((await collect(files.createReadStream('/s'))).equals(data));
    assert.ok(
      (await collect(files.createReadStream('/s', { start: 70_001, end: 3_000_000, highWaterMark: 10_000 }))).equals(
        data.subarray(70_001, 3_000_001),
      ),
    );
    assert.equal((await collect(files.createReadStream('/s', { start: 5_000_003 }))).length, 0);
    await pipeline(files.createReadStream('/s'), files.createWriteStream('/copy'));
    assert.ok(readFileSync(behind('copy')).equals(data));
    await pipeline(Readable.from([Buffer.from('tail')]), files.createWriteStream('/s', { flags: 'r+', start: 10 }));
    assert.equal(readFileSync(behind('s')).subarray(10, 14).toString(), 'tail');
    await assert.rejects(collect(files.createReadStream('/nothing')), { code: 'ENOENT' });
    await assert.rejects(pipeline(Readable.from(['x']), files.createWriteStream('/no/where')), { code: 'ENOENT' });
  });

  it('a server killed in the middle of a large write: nothing is missing when close has returned', async (t) => {
    const parts = await mounted(t);
    if (parts === null) return;
    const { ganesha, files, behind } = parts;
    const data = randomBytes(48 * 1024 * 1024);
    const file = await files.open('/big', 'w');
    let written = 0;
    const writing = (async () => {
      for (let at = 0; at < data.length; at += 1 << 20) {
        await file.write(data, at, 1 << 20, at);
        written = at;
      }
      await file.close();
    })();
    for (const part of [8, 24]) {
      while (written < part << 20) await new Promise((resolve) => setTimeout(resolve, 1));
      await ganesha.kill();
      await ganesha.restart();
    }
    await writing;
    const hash = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex');
    assert.equal(hash(readFileSync(behind('big'))), hash(data));
    assert.ok(files.server.counters.reconnects >= 2);
  });

  it('a full disk is ENOSPC, at the write or at the close, and the rest of the file is as written', async (t) => {
    const parts = await mounted(t, { tmpfs: '4m' });
    if (parts === null) return;
    const { files } = parts;
    await assert.rejects(files.writeFile('/large', Buffer.alloc(8 << 20, 'x')), { code: 'ENOSPC' });
    await files.unlink('/large');
    await files.writeFile('/small', 'fits again');
    assert.equal(await files.readFile('/small', 'utf8'), 'fits again');
    const { bavail, bsize } = await files.statfs('/');
    assert.ok(bavail * bsize < 4 << 20);
  });

  it('a file removed while it is open is ESTALE, said with its name', async (t) => {
    const parts = await mounted(t);
    if (parts === null) return;
    const { files, behind } = parts;
    writeFileSync(behind('f'), 'here');
    const file = await files.open('/f', 'r+');
    await files.unlink('/f');
    await assert.rejects(file.stat(), { code: 'ESTALE', path: '/f' });
    await assert.rejects(file.write('x'), { code: 'ESTALE' });
    await file.close();
    assert.throws(() => statSync(behind('f')));
  });
});
