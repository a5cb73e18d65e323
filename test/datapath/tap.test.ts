/** Our own TCP/IP on a tap against the sockets of the kernel, in small: the same trials as test/interop/run.ts. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import main from '../../examples/echo.ts';
import { EVENT_LOOP } from '../../src/kernel/host.ts';
import { createNamespace } from '../../src/linux/namespace.ts';
import { NetworkReader } from '../../src/linux/rtnetlink.ts';
import type { HeapBuffer } from '../../src/ring/heap.ts';
import { Ground, Peer, refusalOf } from '../interop/ground.ts';
import { smallTrials } from '../interop/small.ts';
import * as trials from '../interop/trials.ts';
import { need } from '../support/need.ts';
import { ip, until } from './conformance/world.ts';

const EXTENSION = import.meta.url.endsWith('.ts') ? '.ts' : '.js';
const CLI = fileURLToPath(new URL(`../../src/cli/main${EXTENSION}`, import.meta.url));

const why = refusalOf('tap');

smallTrials('tap', [
  ['server', 0],
  ['server', 1],
  ['client', 0],
  ['client', 1],
]);

describe('tap', { timeout: 120_000 }, () => {
  it('drains its frames while the heap is used up, and goes on when buffers come back', async (t) => {
    if (!need(t, why === '', why)) return;
    const ground = new Ground({ link: 'tap' });
    const { k, datapath, peer, ours } = ground;
    try {
      const hoard: HeapBuffer[] = [];
      const listener = k.listen({ host: ours[0] });
      const serving = k.spawn(
        listener.serve(function* (conn) {
          for (let buffer = yield* conn.pop(); buffer !== null; buffer = yield* conn.pop()) {
            const all = hoard.length === 0;
            for (let next = all ? k.heap.tryAlloc(1) : null; next !== null; next = k.heap.tryAlloc(1)) hoard.push(next);
            yield* conn.push(buffer);
          }
        }),
      );
      const many = peer.number({ do: 'many', host: ours[0], port: ip(listener.address).port, count: 300 });
      await until(() => datapath.observe()['link.starved']! > 0, 'frames with data are dropped');
      const { turns } = k;
      const began = performance.now();
      await new Promise((resolve) => setTimeout(resolve, 100));
      const perMs = (k.turns - turns) / (performance.now() - began);
      assert.ok(perMs < 20, `${perMs} turns per ms with little to do`);
      for (const buffer of hoard) buffer.release();
      assert.equal(await many, 300);
      serving.cancel();
      listener.close();
      await trials.settle(ground);
    } finally {
      await ground.close();
    }
  });

  it('runs examples/echo.ts, unchanged, in the event loop', async (t) => {
    if (!need(t, why === '', why)) return;
    const ground = new Ground({ link: 'tap', policy: EVENT_LOOP });
    const { k, peer, ours } = ground;
    process.env.PORT = '7000';
    const task = k.spawn(main(k as unknown as Parameters<typeof main>[0]));
    try {
      await until(() => k.openQueues === 1, 'it listens');
      assert.equal(await peer.number({ do: 'many', host: ours[0], port: 7000, count: 20 }), 20);
    } finally {
      task.cancel();
      await ground.close();
    }
  });

  for (const [how, signal] of [
    ['ends with it', 'SIGTERM'],
    ['is gone when it is killed', 'SIGKILL'],
  ] as const) {
    it(`runs examples/echo.ts, unchanged, by \`isthmus run\`, and ${how}`, async (t) => {
      if (!need(t, why === '', why)) return;
      const namespace = createNamespace();
      t.after(() => namespace.close());
      const peer = new Peer(namespace);
      t.after(() => peer.close());
      const file = fileURLToPath(new URL(`../../examples/echo${EXTENSION}`, import.meta.url));
      const args = [CLI, 'run', file, '--datapath', 'tap:t0,10.9.0.2/24,host=10.9.0.1/24'];
      const child = namespace.run(() =>
        spawn(process.execPath, args, { env: { ...process.env, PORT: '7000' }, stdio: 'ignore' }),
      );
      t.after(() => child.kill('SIGKILL'));
      const ended = new Promise((resolve) => child.once('exit', resolve));
      const attempt = { do: 'attempt', host: '10.9.0.2', port: 7000 } as const;
      const deadline = performance.now() + 30_000;
      while ((await peer.call(attempt)) !== '') assert.ok(performance.now() < deadline, 'it never listened');
      assert.equal(await peer.number({ do: 'many', host: '10.9.0.2', port: 7000, count: 20 }), 20);
      child.kill(signal);
      assert.equal(await ended, signal === 'SIGTERM' ? 0 : null);
      const reader = namespace.run(() => new NetworkReader());
      t.after(() => reader.close());
      await until(() => reader.links().every(({ name }) => name === 'lo'), 'the interface is gone with its process');
    });
  }
});
