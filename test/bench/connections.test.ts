/** Two stacks on the wire in memory, with and without kernels above them, as `bench connections` uses them. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BackToBack } from '../../src/bench/back-to-back.ts';
import { QueuesBackToBack } from '../../src/bench/connections-queues.ts';
import { TcpState } from '../../src/net/tcp/constants.ts';

const SIZES = [
  { bytes: 384, count: 1024 },
  { bytes: 2240, count: 64 },
];

test('stacks back to back connect from several addresses, and give every buffer back', () => {
  const both = new BackToBack({ sizeClasses: SIZES, clientAddresses: 3 });
  const listener = both.server.tcp.listen(both.listenFlow(7000), 8);
  const begun = [0, 1, 2].map((address) => both.connect(address, 7000));
  for (let turn = 0; turn < 10; turn++) {
    both.server.receive(performance.now(), 64);
    both.server.tcp.flush();
    both.client.receive(performance.now(), 64);
    both.client.tcp.flush();
  }
  assert.deepEqual(
    begun.map(({ state }) => state),
    [TcpState.ESTABLISHED, TcpState.ESTABLISHED, TcpState.ESTABLISHED],
  );
  assert.equal(listener.waiting, 3);
  both.client.tcp.dispose();
  both.server.tcp.dispose();
  assert.equal(both.heap.inUse, 0);
});

test('kernels back to back answer on more connections than messages, and on fewer', () => {
  for (const connections of [3, 40]) {
    const net = new QueuesBackToBack(connections, 64, SIZES);
    net.establish(connections, 8);
    let next = 0;
    net.start(16, () => next++);
    assert.ok(net.run(0.01) > 0);
  }
});
