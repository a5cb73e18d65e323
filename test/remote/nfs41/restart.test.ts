/**
 * NFSv4.1 through cut connections and server crashes, against a real nfs-ganesha: what is executed how often, and what is told.
 */
import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync, readlinkSync, writeFileSync } from 'node:fs';
import { connect as connectSocket, createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import type { Ganesha } from '../../../src/bench/peers/ganesha.ts';
import { Nfs41Server } from '../../../src/remote/nfs41/server.ts';
import type { RemoteError } from '../../../src/remote/remote-error.ts';
import type {
  BatchResult,
  CommitResult,
  Handle,
  MakeResult,
  Operation,
  WriteResult,
} from '../../../src/remote/server.ts';
import { startDelay } from '../../servers/delay.ts';
import { startGanesha } from '../../servers/ganesha.ts';
import { all, bytes, text } from './remote-tests.ts';

const open = (port: number) => Nfs41Server.connect({ host: '127.0.0.1', port, path: '/export' });
const path = (ganesha: Ganesha, name: string) => join(ganesha.exportDir, name);

/** Ten operations, none of which can be executed twice without failing. */
function chain(dir: Handle, i: number): Operation[] {
  const name = (text: string) => bytes(`${text}${i}`);
  return [
    { op: 'mkdir', directory: dir, name: name('d'), attributes: {} },
    { op: 'create', directory: { from: 0 }, name: name('a'), mode: 'guarded', attributes: {} },
    { op: 'write', handle: { from: 1 }, offset: 0, data: name('content '), stability: 'unstable' },
    { op: 'link', handle: { from: 1 }, directory: { from: 0 }, name: name('b') },
    { op: 'rename', fromDirectory: { from: 0 }, fromName: name('a'), toDirectory: dir, toName: name('c') },
    { op: 'remove', directory: { from: 0 }, name: name('b') },
    { op: 'rmdir', directory: dir, name: name('d') },
    { op: 'symlink', directory: dir, name: name('s'), target: name('c'), attributes: {} },
    { op: 'commit', handle: { from: 1 }, offset: 0, length: 0 },
  ];
}

/** A relay to a port on which replies can be kept back. */
async function relay(t: TestContext, port: number) {
  const sockets = new Set<Socket>();
  const state = { port: 0, mute: false, cut: () => sockets.forEach(destroy) };
  const server = createServer({ noDelay: true }, (near) => {
    const far = connectSocket({ port, host: '127.0.0.1', noDelay: true });
    for (const socket of [near, far]) {
      sockets.add(socket);
      socket.on('error', () => {});
      socket.on('close', () => {
        sockets.delete(socket);
        near.destroy();
        far.destroy();
      });
    }
    near.on('data', (piece) => far.write(piece));
    far.on('data', (piece) => state.mute || near.write(piece));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  state.port = (server.address() as { port: number }).port;
  t.after(() => {
    state.cut();
    server.close();
  });
  return state;
}

function destroy(socket: Socket): void {
  socket.destroy();
}

/** Runs changes whose replies are all lost in one crash, which comes when all of them have been executed. */
async function crashBehind(t: TestContext, run: (server: Nfs41Server, ganesha: Ganesha) => Promise<Changes>) {
  const ganesha = await startGanesha(t);
  if (ganesha === null) return;
  const line = await relay(t, ganesha.port);
  const server = await open(line.port);
  const { start, arrived, check } = await run(server, ganesha);
  line.mute = true;
  const outcome = Promise.allSettled(start());
  while (!arrived()) await new Promise((resolve) => setTimeout(resolve, 1));
  await ganesha.kill();
  line.cut();
  line.mute = false;
  await ganesha.restart();
  await check(await outcome);
  await server.close();
}

interface Changes {
  readonly start: () => Promise<unknown>[];
  readonly arrived: () => boolean;
  readonly check: (outcome: PromiseSettledResult<unknown>[]) => Promise<void>;
}

// Each test has a server of its own.
describe('NFSv4.1 through cuts and crashes', { concurrency: 4 }, () => {
  it('connections cut again and again: every batch is executed once, none fails', async (t) => {
    const ganesha = await startGanesha(t);
    if (ganesha === null) return;
    const line = await startDelay(t, { port: ganesha.port, oneWayMs: 1 });
    const server = await open(line.port);
    let next = 0;
    let done = 0;
    await Promise.all(
      Array.from({ length: 12 }, async () => {
        for (let i = next++; i < 240; i = next++) {
          await all(server, chain(server.root, i));
          // By the count of batches, not by a clock: however fast they are there are cuts in between.
          if (++done % 10 === 0) line.cut();
        }
      }),
    );
    assert.ok(server.counters.replays > 0, 'something was sent twice');
    for (let i = 0; i < 240; i++) assert.equal(readFileSync(path(ganesha, `s${i}`), 'utf8'), `content ${i}`);
    assert.equal(readdirSync(ganesha.exportDir).length, 480);
    await server.close();
  });

  it('the server is killed in the middle of batches: what is acknowledged is there, and no more than what was asked', async (t) => {
    const ganesha = await startGanesha(t);
    if (ganesha === null) return;
    const server = await open(ganesha.port);
    const outcome = new Map<number, 'done' | 'unknown'>();
    let next = 0;
    let stop = false;
    const workers = Array.from({ length: 6 }, async () => {
      while (!stop) {
        const i = next++;
        const results = await server.batch(chain(server.root, i), { timeoutMs: 60_000 });
        const last = results.at(-1)!;
        if (last.ok) outcome.set(i, 'done');
        else {
          const error = last.error as RemoteError;
          assert.equal(error.indeterminate, true, error.message);
          outcome.set(i, 'unknown');
        }
      }
    });
    const watching = Promise.all(workers);
    for (let kills = 1; kills <= 2; kills++) {
      const enough = next + 50;
      while (next < enough) await new Promise((resolve) => setTimeout(resolve, 1));
      await ganesha.kill();
      await ganesha.restart();
    }
    stop = true;
    await watching;
    const names = new Set(readdirSync(ganesha.exportDir));
    for (const [i, how] of outcome) {
      const there = ['d', 'c', 's'].map((letter) => names.has(`${letter}${i}`));
      if (how === 'done') {
        assert.deepEqual(there, [false, true, true], `batch ${i}`);
        assert.equal(readFileSync(path(ganesha, `c${i}`), 'utf8'), `content ${i}`);
      }
    }
    assert.ok([...outcome.values()].filter((how) => how === 'done').length >= 60);
    assert.ok(server.session.renewals >= 2);
    const { settled } = server.batchCounters;
    t.diagnostic(
      `${outcome.size} batches, ${settled} settled, ${[...outcome.values()].filter((h) => h !== 'done').length} unknown`,
    );
    await server.close();
  });

  it('single changes lost in a crash are settled by what is there', async (t) => {
    await crashBehind(t, async (server, ganesha) => {
      const dir = server.root;
      for (const name of ['gone', 'old']) await server.create(dir, bytes(name), 'guarded', {});
      await server.mkdir(dir, bytes('empty'), {});
      const { handle: linked } = await server.create(dir, bytes('linked'), 'guarded', {});
      const { handle: other } = await server.create(dir, bytes('other'), 'guarded', {});
      const names = () => readdirSync(ganesha.exportDir).sort().join(' ');
      return {
        start: () => [
          server.mkdir(dir, bytes('d'), {}),
          server.create(dir, bytes('f'), 'guarded', {}),
          server.create(dir, bytes('u'), 'unchecked', { mode: 0o640 }),
          server.create(dir, bytes('x'), 'exclusive', { mode: 0o640 }, { high: 1, low: 2 }),
          server.symlink(dir, bytes('s'), bytes('f'), {}),
          server.link(linked, dir, bytes('l')),
          server.remove(dir, bytes('gone')),
          server.rmdir(dir, bytes('empty')),
          server.rename(dir, bytes('old'), dir, bytes('new')),
          server.write(linked, 0, bytes('text'), 'fileSync'),
          server.setattr(other, { mode: 0o600 }),
        ],
        arrived: () =>
          names() === 'd f l linked new other s u x' && readFileSync(path(ganesha, 'l'), 'utf8') === 'text',
        check: async (outcome) => {
          for (const result of outcome)
            assert.equal(result.status, 'fulfilled', String((result as { reason?: Error }).reason));
          const made = (outcome[0] as PromiseFulfilledResult<MakeResult>).value;
          assert.deepEqual((await server.lookup(dir, bytes('d'))).handle, made.handle);
          assert.equal((await server.getattr(other)).mode, 0o600);
          assert.ok(server.batchCounters.settled >= 9);
        },
      };
    });
  });

  it('a full disk stops a batch with ENOSPC, and the file it had opened is closed', async (t) => {
    const ganesha = await startGanesha(t, { tmpfs: '1m' });
    if (ganesha === null) return;
    const server = await open(ganesha.port);
    assert.throws(() => writeFileSync(path(ganesha, 'filler'), new Uint8Array(2 << 20)), { code: 'ENOSPC' });
    const openFiles = () =>
      readdirSync(`/proc/${ganesha.pid}/fd`).filter((fd) => {
        try {
          return readlinkSync(`/proc/${ganesha.pid}/fd/${fd}`).includes('/export/f');
        } catch {
          return false;
        }
      });
    for (let i = 0; i < 20; i++) {
      const results = await server.batch([
        { op: 'create', directory: server.root, name: bytes(`f${i}`), mode: 'guarded', attributes: {} },
        { op: 'write', handle: { from: 0 }, offset: 0, data: new Uint8Array(65_536), stability: 'fileSync' },
        { op: 'mkdir', directory: server.root, name: bytes('never'), attributes: {} },
      ]);
      assert.deepEqual(
        results.map((result) => result.ok),
        [true, false],
      );
      const written = results[1]!;
      assert.equal(written.ok ? '' : (written.error as RemoteError).code, 'ENOSPC');
      await server.remove(server.root, bytes(`f${i}`));
    }
    for (const end = performance.now() + 30_000; openFiles().length > 0 && performance.now() < end; ) {
      await server.ping();
    }
    assert.deepEqual(
      openFiles().map((fd) => readlinkSync(`/proc/${ganesha.pid}/fd/${fd}`)),
      [],
    );
    await server.close();
  });

  it('a file that is made and renamed away in one COMPOUND cannot be told: indeterminate, not done twice', async (t) => {
    await crashBehind(t, async (server, ganesha) => {
      writeFileSync(path(ganesha, 'f'), 'old');
      const root = server.root;
      const operations: Operation[] = [
        { op: 'create', directory: root, name: bytes('t'), mode: 'guarded', attributes: {} },
        { op: 'write', handle: { from: 0 }, offset: 0, data: bytes('new'), stability: 'unstable' },
        { op: 'rename', fromDirectory: root, fromName: bytes('t'), toDirectory: root, toName: bytes('f') },
      ];
      return {
        start: () => [server.batch(operations)],
        arrived: () => readFileSync(path(ganesha, 'f'), 'utf8') === 'new',
        check: async (outcome) => {
          const last = (outcome[0] as PromiseFulfilledResult<BatchResult[]>).value.at(-1)!;
          assert.ok(!last.ok && (last.error as RemoteError).indeterminate);
          assert.equal(readFileSync(path(ganesha, 'f'), 'utf8'), 'new');
        },
      };
    });
  });

  it('a lost COMPOUND of many operations goes on behind what was done of it', async (t) => {
    await crashBehind(t, async (server, ganesha) => ({
      start: () => [server.batch(chain(server.root, 7))],
      arrived: () => readdirSync(ganesha.exportDir).join(' ') === 'c7 s7',
      check: async (outcome) => {
        const results = (outcome[0] as PromiseFulfilledResult<BatchResult[]>).value;
        const last = results.at(-1)!;
        // The directory comes and goes, so this chain as a whole cannot be told; without it it could.
        assert.ok(!last.ok && (last.error as RemoteError).indeterminate);
        assert.deepEqual(readdirSync(ganesha.exportDir).sort(), ['c7', 's7']);
      },
    }));
    await crashBehind(t, async (server, ganesha) => ({
      start: () => [
        server.batch([
          { op: 'mkdir', directory: server.root, name: bytes('d'), attributes: {} },
          { op: 'create', directory: { from: 0 }, name: bytes('f'), mode: 'guarded', attributes: {} },
          { op: 'write', handle: { from: 1 }, offset: 0, data: bytes('data'), stability: 'unstable' },
          { op: 'symlink', directory: { from: 0 }, name: bytes('s'), target: bytes('f'), attributes: {} },
          { op: 'write', handle: { from: 1 }, offset: 4, data: bytes(' more'), stability: 'unstable' },
          { op: 'commit', handle: { from: 1 }, offset: 0, length: 0 },
        ]),
      ],
      arrived: () => existsSync(path(ganesha, 'd/s')) && readFileSync(path(ganesha, 'd/s'), 'utf8') === 'data more',
      check: async (outcome) => {
        const results = (outcome[0] as PromiseFulfilledResult<BatchResult[]>).value;
        assert.deepEqual(
          results.map((result) => result.ok),
          [true, true, true, true, true, true],
        );
        const verifier = (at: number) => (results[at] as { value: WriteResult | CommitResult }).value.verifier;
        // What was written before the crash may be gone, and the verifiers say so.
        assert.notDeepEqual(verifier(2), verifier(5));
        assert.equal(readFileSync(path(ganesha, 'd/f'), 'utf8'), 'data more');
      },
    }));
  });

  for (const [how, extraV4] of [
    ['by handle', ''],
    ['in the grace period, which makes others wait', 'Graceless = false; Grace_Period = 2; Lease_Lifetime = 2;'],
  ] as const) {
    it(`open files and their locks survive a crash of the server: claimed again ${how}`, async (t) => {
      const ganesha = await startGanesha(t, { extraV4 });
      if (ganesha === null) return;
      const server = await open(ganesha.port);
      const file = await server.open({ access: 'both', directory: server.root, name: bytes('f'), create: 'guarded' });
      await file.write(0, bytes('before'), 'fileSync');
      await file.lock({ exclusive: true, offset: 0, length: 4 });
      await ganesha.kill();
      await ganesha.restart();
      await file.write(6, bytes(' and after'), 'fileSync');
      assert.equal(text((await file.read(0, 100)).data), 'before and after');
      assert.equal(file.reclaims, 1);
      await server.create(server.root, bytes('g'), 'guarded', {});
      const other = await open(ganesha.port);
      const theirs = await other.open({ access: 'both', handle: file.handle });
      await assert.rejects(theirs.lock({ exclusive: true, offset: 0, length: 1 }), { code: 'EAGAIN' });
      await file.close();
      await theirs.lock({ exclusive: true, offset: 0, length: 1 });
      await theirs.close();
      await Promise.all([server.close(), other.close()]);
    });
  }
});
