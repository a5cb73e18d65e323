/** Several queues of an interface in one kernel, and several kernels on one interface in workers, on a queue each or on one. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { startProgram, type WorkerKernel } from '../../src/datapath/worker-host.ts';
import { openXdpGroup } from '../../src/datapath/xdp/group.ts';
import type { Connection } from '../../src/kernel/connection.ts';
import type { Lab } from '../../src/linux/lab.ts';
import { NetworkReader } from '../../src/linux/rtnetlink.ts';
import { labFor, until } from '../linux/lab-support.ts';
import { ask, echoing, echoingDatagrams, exchange, type Party, past, pattern, portOf, through } from './xdp-support.ts';

const PROGRAMS = new URL('./fixtures/xdp-programs.js', import.meta.url).href;
const CONNECTIONS = 24;

/** Many connections: the client's kernel spreads them over the queues. */
async function many(client: Party, host: string, port: number): Promise<void> {
  const open: Connection[] = [];
  for (let i = 0; i < CONNECTIONS; i++) open.push(await client.connect(host, port));
  for (const [i, connection] of open.entries()) {
    const bytes = pattern(3000, i);
    assert.deepEqual(await exchange(connection, bytes), bytes);
  }
  for (const connection of open) connection.close();
}

/** Two kernels in workers on the server's interface, for as long as `during` takes. */
async function withKernels(
  lab: Lab,
  options: string,
  expected: RegExp,
  program: { entry: string; argument: unknown },
  during: (workers: readonly WorkerKernel[]) => Promise<void>,
): Promise<void> {
  const { namespace, interfaceName, interfaceIndex } = lab.server;
  const datapath = `xdp:${interfaceName}${options}`;
  const group = namespace.run(() => openXdpGroup(datapath.slice(4), 2));
  const workers = namespace.run(() =>
    [0, 1].map((kernel) => startProgram({ module: PROGRAMS, ...program, datapath, share: group.share(kernel) })),
  );
  try {
    const lines = await Promise.all(workers.map((worker) => worker.started));
    assert.match(lines[1]!, expected);
    await during(workers);
  } finally {
    await Promise.allSettled(workers.map((worker) => worker.close()));
    group.close();
  }
  const reader = namespace.run(() => new NetworkReader());
  assert.equal(reader.link(interfaceIndex)!.xdp, null);
  reader.close();
}

describe('xdp with several queues', () => {
  it('takes frames from all of them', async (t) => {
    const lab = labFor(t, { queues: 2 });
    if (lab === null) return;
    const server = past(t, lab.server);
    assert.equal(server.datapath.link.device.sockets.length, 2);
    const client = through(t, lab.client);
    await many(client, lab.server.address4, portOf(echoing(server.listen('0.0.0.0'))));
    const udp = portOf(echoingDatagrams(server.udp('0.0.0.0')));
    for (let i = 0; i < 8; i++) {
      const bytes = pattern(100, i);
      assert.deepEqual(await ask(client.udp('0.0.0.0'), lab.server.address4, udp, bytes), bytes);
    }
  });
});

for (const [queues, what, expected] of [
  [2, 'a queue each', /queue 1, native mode/],
  [1, 'one queue', /no queue of its own, generic mode/],
] as const) {
  describe(`several kernels on one interface with ${what}`, () => {
    it('have connections each', async (t) => {
      const lab = labFor(t, { queues });
      if (lab === null) return;
      const client = through(t, lab.client);
      await withKernels(lab, '', expected, { entry: 'tells', argument: { port: 7000 } }, async () => {
        const told = new Set<string>();
        for (let i = 0; i < CONNECTIONS; i++) {
          const connection = await client.connect(lab.server.address4, 7000);
          const buffer = (await connection.pop())!;
          told.add(buffer.text());
          buffer.release();
          connection.close();
        }
        assert.equal(told.size, 2);
      });
    });

    for (const mode of ['shared', 'own'] as const) {
      it(`serve a port together, with addresses that are ${mode}`, async (t) => {
        const lab = labFor(t, { queues });
        if (lab === null) return;
        const { address4, free4, address6, free6 } = lab.server;
        const own = mode === 'own' ? `,own=${free4}/24,own=${free6}/64` : '';
        const client = through(t, lab.client);
        await withKernels(lab, own, expected, { entry: 'echoes', argument: { port: 7000 } }, async () => {
          await many(client, own === '' ? address4 : free4, 7000);
          await many(client, own === '' ? address6 : free6, 7000);
        });
      });

      it(`open connections, wherever the answers come in, with addresses that are ${mode}`, async (t) => {
        const lab = labFor(t, { queues });
        if (lab === null) return;
        const { free4 } = lab.server;
        const target = through(t, lab.client);
        const listener = target.listen('0.0.0.0');
        let answered = 0;
        target.kernel.spawn(
          listener.serve(function* (connection) {
            for (let buffer = yield* connection.pop(); buffer !== null; buffer = yield* connection.pop()) {
              if (buffer.text() === 'right') answered++;
              yield* connection.push(buffer);
            }
          }),
        );
        const argument = { host: lab.client.address4, port: portOf(listener), connections: CONNECTIONS };
        const own = mode === 'own' ? `,own=${free4}/24` : '';
        await withKernels(lab, own, expected, { entry: 'asks', argument }, async (workers) => {
          const failed = Promise.race(workers.map((worker) => worker.ended));
          const all = until(() => answered === 2 * CONNECTIONS, 'all answers are right', 30_000);
          await Promise.race([all, failed.then(() => assert.fail('a kernel ended'))]);
        });
      });
    }
  });
}
