/** Programs on kernels of their own, in worker threads. */
import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { type ProgramOptions, startProgram } from '../../src/datapath/worker-host.ts';
import { getAffinity } from '../../src/linux/affinity.ts';
import { uringRefusal } from '../../src/linux/uring.ts';
import { freePort } from '../support/child-server.ts';
import { need } from '../support/need.ts';
import { dial, once, openDescriptors, readSocket, until } from './conformance/world.ts';

const EXTENSION = import.meta.url.endsWith('.ts') ? '.ts' : '.js';
const PROGRAMS = new URL(`./fixtures/programs${EXTENSION}`, import.meta.url).href;

for (const datapath of ['kernel', 'uring']) {
  const missing = datapath === 'uring' ? uringRefusal() : null;
  const program = (entry: string, argument?: unknown, more: Partial<ProgramOptions> = {}) =>
    startProgram({ module: PROGRAMS, entry, argument, datapath, ...more });

  describe(`a worker with the ${datapath} datapath`, () => {
    it('runs a program and ends it: finally blocks run, descriptors come back', async (t) => {
      if (!need(t, missing === null, missing?.message ?? '')) return;
      const directory = mkdtempSync(join(tmpdir(), 'isthmus-worker-'));
      const file = join(directory, 'ended');
      const port = await freePort();
      const before = openDescriptors();
      const worker = program('echoes', { port, file });
      assert.match(await worker.started, new RegExp(`^datapath ${datapath}: `));
      const socket = await dial({ host: '127.0.0.1', port });
      const reply = once(socket, 'data');
      socket.write('hello');
      assert.equal(String(await reply), 'hello');
      assert.ok(!existsSync(file));
      await worker.close();
      await worker.ended;
      assert.equal(readFileSync(file, 'utf8'), 'finally');
      socket.destroy();
      await until(() => openDescriptors() <= before, 'every descriptor is closed');
      rmSync(directory, { recursive: true });
    });

    it('shares a port among several, each on its processor', async (t) => {
      if (!need(t, missing === null, missing?.message ?? '')) return;
      const port = await freePort();
      const cores = getAffinity().slice(0, 2);
      const workers = cores.map((core) => program('echoes', { port, reusePort: true }, { core }));
      await Promise.all(workers.map((worker) => worker.started));
      const sockets = await Promise.all(Array.from({ length: 20 }, () => dial({ host: '127.0.0.1', port })));
      for (const [i, socket] of sockets.entries()) {
        const reply = once(socket, 'data');
        socket.write(`socket ${i}`);
        assert.equal(String(await reply), `socket ${i}`);
        socket.destroy();
      }
      await Promise.all(workers.map((worker) => worker.close()));
    });

    it('binds its thread, and no other, to the processor', async (t) => {
      if (!need(t, missing === null, missing?.message ?? '')) return;
      const allowed = getAffinity();
      const core = allowed.at(-1)!;
      const port = await freePort();
      const worker = program('tellsProcessors', { port }, { core });
      await worker.started;
      assert.equal(String(await readSocket(await dial({ host: '127.0.0.1', port }))), String(core));
      assert.deepEqual(getAffinity(), allowed);
      await worker.close();
    });

    it('runs Promises, timers and fetch of its program, and ends when nothing is open', async (t) => {
      if (!need(t, missing === null, missing?.message ?? '')) return;
      const server = createServer((_, response) => response.end('a page'));
      await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
      const port = await freePort();
      const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
      const worker = program('ordinary', { port, url });
      await worker.started;
      assert.equal(String(await readSocket(await dial({ host: '127.0.0.1', port }))), 'a page');
      server.closeAllConnections();
      server.close();
      await worker.ended;
    });

    it('sends what was pushed before it ends', async (t) => {
      if (!need(t, missing === null, missing?.message ?? '')) return;
      const port = await freePort();
      const worker = program('pushesMuch', { port });
      await worker.started;
      const socket = await dial({ host: '127.0.0.1', port });
      await once(socket, 'readable');
      const closing = worker.close();
      assert.equal((await readSocket(socket)).length, 1 << 20);
      await closing;
    });
  });
}

describe('a worker whose program fails', () => {
  const failing = async (entry: string, more: Partial<ProgramOptions> = {}) => {
    const worker = startProgram({ module: PROGRAMS, entry, datapath: 'kernel', ...more });
    await assert.rejects(worker.started.then(() => worker.ended));
    return worker.ended.then(
      () => assert.fail('it must not succeed'),
      (error: NodeJS.ErrnoException) => error,
    );
  };

  it('says what was thrown, and where', async () => {
    const error = await failing('throwsAtOnce');
    assert.equal(error.message, 'at once');
    assert.equal(error.name, 'RangeError');
    assert.equal(error.code, 'ERR_AT_ONCE');
    assert.match(error.stack ?? '', /throwsAtOnce.*programs/);
  });

  it('says what escaped a coroutine or an async function', async () => {
    assert.equal((await failing('throwsLater')).message, 'in a coroutine nobody joins');
    const { code, errno, syscall } = await failing('rejects');
    assert.deepEqual({ code, errno, syscall }, { code: 'EADDRNOTAVAIL', errno: -99, syscall: 'bind' });
  });

  it('says that there is no such program, or no such export', async () => {
    assert.equal((await failing('default', { module: 'file:///nowhere/program.js' })).code, 'ERR_MODULE_NOT_FOUND');
    assert.equal((await failing('notAFunction')).code, 'ERR_NO_MAIN');
    assert.equal((await failing('default')).code, 'ERR_NO_MAIN');
    assert.equal((await failing('echoes', { datapath: 'none' })).code, 'EINVAL');
  });

  it('ends a program by force that never gives way', async () => {
    const argument = new Int32Array(new SharedArrayBuffer(4));
    const worker = startProgram({ module: PROGRAMS, entry: 'neverGivesWay', argument, datapath: 'kernel' });
    await until(() => Atomics.load(argument, 0) === 1, 'the program runs');
    await worker.close(50);
  });
});
