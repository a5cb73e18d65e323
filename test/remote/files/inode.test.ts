/**
 * Reading and writing one file against a server that loses what is not committed whenever it likes: nothing that `flush`
 * promised may be missing. Pure: the server is in memory, and time is a scheduler's.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { type Budget, Inode } from '../../../src/remote/files/inode.ts';
import { statusError } from '../../../src/remote/remote-error.ts';
import type { RemoteServer, U64, WriteResult } from '../../../src/remote/server.ts';

/** A server with one file: `stable` survives a crash, `volatile` is what readers see. */
class CrashingServer {
  readonly info = { maxRead: 7, maxWrite: 5 };
  stable = Buffer.alloc(0);
  volatile = Buffer.alloc(0);
  boot = 1;
  commits = 0;
  full = false;
  /** Lets requests wait, so that they overlap. */
  pause: () => Promise<void> = () => Promise.resolve();
  /** Fewer bytes than asked are read and written now and then. */
  short = false;

  crash(): void {
    this.volatile = Buffer.from(this.stable);
    this.boot++;
  }

  async read(_handle: Uint8Array, offset: number, length: number) {
    await this.pause();
    const data = Buffer.from(this.volatile.subarray(offset, offset + (this.short ? Math.ceil(length / 2) : length)));
    return { data, eof: offset + data.length >= this.volatile.length, attributes: null };
  }

  async write(_handle: Uint8Array, offset: number, data: Uint8Array): Promise<WriteResult> {
    await this.pause();
    if (this.full) throw statusError('WRITE', 28);
    const count = this.short ? Math.ceil(data.length / 2) : data.length;
    const { boot } = this;
    const grown = Buffer.alloc(Math.max(this.volatile.length, offset + count));
    this.volatile.copy(grown);
    grown.set(data.subarray(0, count), offset);
    this.volatile = grown;
    await this.pause();
    // A server that crashed before it answered is asked again.
    if (this.boot !== boot) return this.write(_handle, offset, data);
    return { count, committed: 'unstable' as const, verifier: this.#verifier(), wcc: { before: null, after: null } };
  }

  async commit() {
    await this.pause();
    this.commits++;
    this.stable = Buffer.from(this.volatile);
    return { verifier: this.#verifier(), wcc: { before: null, after: null } };
  }

  async setattr(_handle: Uint8Array, { size }: { size?: number }) {
    await this.pause();
    // A change of size is stable at once, and so is what it leaves.
    const cut = Buffer.alloc(size as number);
    this.volatile.copy(cut);
    this.volatile = cut;
    const kept = Buffer.alloc(size as number);
    this.stable.copy(kept);
    this.stable = kept;
    return { wcc: { before: null, after: null } };
  }

  async getattr() {
    await this.pause();
    return { size: this.volatile.length };
  }

  #verifier(): U64 {
    return { high: 0, low: this.boot };
  }
}

function inodeOn(server: CrashingServer, limit = 1000): { inode: Inode; budget: Budget } {
  const budget = { limit, inodes: new Set<Inode>() };
  return { inode: new Inode(server as unknown as RemoteServer, Uint8Array.of(1), 'x', budget), budget };
}

const action = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({ op: fc.constant('write' as const), at: fc.nat(40), n: fc.integer({ min: 1, max: 20 }) }),
  },
  {
    weight: 2,
    arbitrary: fc.record({ op: fc.constant('read' as const), at: fc.nat(40), n: fc.integer({ min: 1, max: 20 }) }),
  },
  { weight: 1, arbitrary: fc.record({ op: fc.constant('truncate' as const), at: fc.nat(40), n: fc.constant(0) }) },
  { weight: 2, arbitrary: fc.record({ op: fc.constant('flush' as const), at: fc.constant(0), n: fc.constant(0) }) },
  {
    weight: 1,
    arbitrary: fc.record({ op: fc.constant('append' as const), at: fc.constant(0), n: fc.integer({ min: 1, max: 9 }) }),
  },
  { weight: 2, arbitrary: fc.record({ op: fc.constant('crash' as const), at: fc.constant(0), n: fc.constant(0) }) },
);

test('one after the other, with crashes in between: after each flush the stable file is the whole file', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(action, { maxLength: 30 }), fc.boolean(), async (actions, short) => {
      const server = new CrashingServer();
      server.short = short;
      const { inode, budget } = inodeOn(server);
      let model = Buffer.alloc(0);
      const put = (at: number, data: Buffer) => {
        const grown = Buffer.alloc(Math.max(model.length, at + data.length));
        model.copy(grown);
        data.copy(grown, at);
        model = grown;
      };
      for (const [i, { op, at, n }] of [...actions, { op: 'flush' as const, at: 0, n: 0 }].entries()) {
        const data = Buffer.alloc(n, i + 1);
        if (op === 'write') {
          await inode.write(data, at, false);
          put(at, data);
        } else if (op === 'append') {
          // Whoever appends after a crash appends to what the crash left: be sure of it first.
          await inode.flush();
          await inode.append(data, false);
          put(model.length, data);
        } else if (op === 'truncate') {
          await inode.flush();
          await inode.truncate(at);
          const cut = Buffer.alloc(at);
          model.copy(cut);
          model = cut;
        } else if (op === 'flush') {
          await inode.flush();
          assert.deepEqual(server.stable, model);
          assert.equal(budget.inodes.size, 0);
        } else if (op === 'read') {
          await inode.flush();
          const into = Buffer.alloc(n);
          const count = await inode.read(into, at);
          assert.deepEqual(into.subarray(0, count), model.subarray(at, at + n));
        } else {
          server.crash();
        }
      }
    }),
    { numRuns: 150 },
  );
});

test('all at once, with crashes at any moment: what was written last in order is there, and stable after the flush', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(action, { maxLength: 20 }), fc.scheduler(), async (actions, s) => {
      const server = new CrashingServer();
      server.pause = () => s.schedule(Promise.resolve());
      const { inode } = inodeOn(server);
      let model = Buffer.alloc(0);
      const work: Promise<unknown>[] = [];
      for (const [i, { op, at, n }] of actions.entries()) {
        const data = Buffer.alloc(n, i + 1);
        if (op === 'write') {
          work.push(inode.write(data, at, false));
          const grown = Buffer.alloc(Math.max(model.length, at + n));
          model.copy(grown);
          data.copy(grown, at);
          model = grown;
        } else if (op === 'crash') {
          work.push(s.schedule(Promise.resolve()).then(() => server.crash()));
        } else if (op === 'flush') {
          work.push(inode.flush());
        }
      }
      const done = Promise.all(work).then(() => inode.flush());
      await Promise.all([s.waitFor(done), done]);
      assert.deepEqual(server.stable, model);
      server.crash();
      assert.deepEqual(server.volatile, model);
    }),
    { numRuns: 100 },
  );
});

test('the budget bounds what is kept: beyond it the rest is committed first', async () => {
  const server = new CrashingServer();
  const { inode, budget } = inodeOn(server, 100);
  const other = new Inode(server as unknown as RemoteServer, Uint8Array.of(2), 'y', budget);
  for (let i = 0; i < 40; i++) {
    await (i % 2 === 0 ? inode : other).write(Buffer.alloc(30, i), i * 30, false);
    assert.ok(inode.uncommittedBytes + other.uncommittedBytes <= 100);
  }
  assert.ok(server.commits >= 10);
});

test('a full disk fails the write; what was acknowledged before is still committed', async () => {
  const server = new CrashingServer();
  const { inode } = inodeOn(server);
  await inode.write(Buffer.from('first'), 0, false);
  server.full = true;
  await assert.rejects(inode.write(Buffer.from('second'), 5, false), { code: 'ENOSPC' });
  await inode.flush();
  assert.equal(server.stable.toString(), 'first');
});

test('a crash whose lost bytes no longer fit: the flush says so', async () => {
  const server = new CrashingServer();
  const { inode } = inodeOn(server);
  await inode.write(Buffer.from('lost'), 0, false);
  server.crash();
  server.full = true;
  await assert.rejects(inode.flush(), { code: 'ENOSPC' });
  server.full = false;
  await inode.flush();
  assert.equal(server.stable.toString(), 'lost', 'it was kept, and the next flush brings it');
});

test('the caller may use its buffer again once a write is done', async () => {
  const server = new CrashingServer();
  const { inode } = inodeOn(server);
  const buffer = Buffer.from('abcd');
  await inode.write(buffer, 0, false);
  buffer.fill('z');
  server.crash();
  await inode.flush();
  assert.equal(server.stable.toString(), 'abcd');
});

test('a server that crashes at every turn is given up with EIO', async () => {
  const server = new CrashingServer();
  const { inode } = inodeOn(server);
  await inode.write(Buffer.from('x'), 0, false);
  const commit = server.commit.bind(server);
  server.commit = () => {
    server.crash();
    return commit();
  };
  await assert.rejects(inode.flush(), { code: 'EIO' });
});
