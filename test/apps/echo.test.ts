/** The echo server on the simulated datapath: every protocol, faults, and nothing left in the heap. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { echo } from '../../src/apps/echo.ts';
import { IDEAL } from '../../src/datapath/simulated/faults.ts';
import { SimulatedNetwork } from '../../src/datapath/simulated/network.ts';
import { simulatedKernel } from '../../src/datapath/simulated.ts';
import type { Address, Kernel } from '../../src/index.ts';
import { runApp } from '../support/run-app.ts';

const SPLITTING = {
  ...IDEAL,
  latencyUs: [10, 300] as const,
  split: 0.3,
  coalesce: 0.3,
  stall: 0.1,
  stallUs: [100, 5000] as const,
};

function setUp(faults = IDEAL, seed = 1) {
  const network = new SimulatedNetwork({ faults, seed });
  const options = { checked: true };
  return { network, server: simulatedKernel(network, options), client: simulatedKernel(network, options) };
}

function* talk(k: Kernel, address: Address, messages: readonly string[]) {
  const conn = yield* k.connect(address);
  for (const message of messages) yield* conn.write(message);
  conn.end();
  let text = '';
  for (;;) {
    const buffer = yield* conn.pop();
    if (buffer === null) break;
    text += buffer.text();
    buffer.release();
  }
  conn.close();
  return text;
}

describe('echo', () => {
  it('sends back streams and datagrams on one port', () => {
    const { network, server, client } = setUp();
    const app = runApp(server, echo, { port: 0 });
    network.run();
    const port = app.port('tcp');
    assert.equal(app.port('udp'), port);
    const got: string[] = [];
    client.spawn(
      (function* () {
        got.push(yield* talk(client, { host: '127.0.0.1', port }, ['one ', 'two']));
        const socket = client.udp();
        yield* socket.push(client.alloc(5).fill('three'), { host: '127.0.0.1', port });
        const buffer = yield* socket.pop();
        assert.deepEqual(buffer.peer, { host: '127.0.0.1', port });
        got.push(buffer.text());
        buffer.release();
        socket.close();
      })(),
    );
    network.run();
    assert.deepEqual(got, ['one two', 'three']);
    app.task.cancel();
    network.run();
    assert.equal(server.heap.inUse, 0);
    assert.equal(server.openQueues, 0);
  });

  it('listens on a Unix socket instead of a port', () => {
    const { network, server, client } = setUp();
    const app = runApp(server, echo, { path: '/tmp/echo.sock' });
    network.run();
    assert.deepEqual(app.listening, [{ protocol: 'unix', address: { path: '/tmp/echo.sock' } }]);
    const talking = client.spawn(talk(client, { path: '/tmp/echo.sock' }, ['hello']));
    let text = '';
    client.spawn(
      (function* () {
        text = yield* talking.join();
      })(),
    );
    network.run();
    assert.equal(text, 'hello');
  });

  it('serves datagrams alone', () => {
    const { network, server } = setUp();
    const app = runApp(server, echo, { port: 0, udp: true });
    network.run();
    assert.deepEqual(
      app.listening.map(({ protocol }) => protocol),
      ['udp'],
    );
    app.task.cancel();
    assert.equal(server.openQueues, 0);
  });

  it('says that its port is in use', () => {
    const { network, server } = setUp();
    const first = runApp(server, echo, { port: 7 });
    network.run();
    assert.equal(first.port('tcp'), 7);
    runApp(server, echo, { port: 7 });
    assert.throws(() => network.run(), { code: 'EADDRINUSE' });
  });

  it('gives back every byte in order, however the network cuts the stream', () => {
    fc.assert(
      fc.property(
        fc.integer(),
        fc.array(fc.string({ minLength: 1, maxLength: 3000 }), { maxLength: 12 }),
        (seed, messages) => {
          const { network, server, client } = setUp(SPLITTING, seed);
          const app = runApp(server, echo, { port: 7 });
          network.run(1);
          let text: string | null = null;
          client.spawn(
            (function* () {
              text = yield* talk(client, { host: '127.0.0.1', port: 7 }, messages);
            })(),
          );
          network.run();
          assert.equal(text, messages.join(''));
          app.task.cancel();
          network.run();
          assert.equal(server.heap.inUse, 0);
        },
      ),
      { numRuns: 40, seed: 5 },
    );
  });

  it('goes on when connections are reset', () => {
    const { network, server, client } = setUp({ ...SPLITTING, reset: 0.05 }, 9);
    runApp(server, echo, { port: 7 });
    network.run(1);
    let ended = 0;
    for (let i = 0; i < 50; i++) {
      client.spawn(
        (function* () {
          try {
            yield* talk(client, { host: '127.0.0.1', port: 7 }, ['some', 'more', 'words']);
          } catch (error) {
            assert.match((error as { code: string }).code, /^(ECONNRESET|EPIPE)$/);
          }
          ended++;
        })(),
      );
    }
    network.run();
    assert.equal(ended, 50);
    assert.ok(network.brokenConnections > 0);
    assert.equal(server.openQueues, 2);
    assert.equal(server.heap.inUse, 0);
  });
});
