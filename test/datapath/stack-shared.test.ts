/** Shared mode of the stack datapath, with a scripted host: which ports are taken from it, and when each is its own again. */
import assert from 'node:assert/strict';
import { it } from 'node:test';
import { StackDatapath } from '../../src/datapath/stack.ts';
import type { Connection } from '../../src/kernel/connection.ts';
import { Kernel } from '../../src/kernel/kernel.ts';
import type { Coroutine } from '../../src/kernel/scheduler.ts';
import { echo, failureOf, ip } from './conformance/world.ts';
import { wire } from './wire-link.ts';

it('serves the ports in use, and each for as long as a connection has it', () => {
  const calls: string[] = [];
  const [a, b] = wire({
    shared: (link) => ({
      firstEphemeral: 50_000,
      lastEphemeral: 50_003,
      lookup: ({ family, w0, w1, w2, w3 }) => {
        calls.push('lookup');
        const { other } = link;
        link.stack!.neighbours.set(family, w0, w1, w2, w3, other!.macHi, other!.macLo, false);
      },
      serve: (protocol, port, address) =>
        calls.push(`serve ${protocol} ${port} ${address === null ? '*' : address.w3 & 255}`),
      unserve: (protocol, port, address) =>
        calls.push(`unserve ${protocol} ${port} ${address === null ? '*' : address.w3 & 255}`),
      reserve: (protocol, port) => {
        calls.push(`reserve ${protocol} ${port}`);
        // One of them is a socket's of the host.
        return port !== 50_001;
      },
      unreserve: (protocol, port) => calls.push(`unreserve ${protocol} ${port}`),
    }),
  });
  let now = 1000;
  const clock = (): number => now;
  const [ka, kb] = [a, b].map(
    (link) => new Kernel(new StackDatapath(link, { now: clock, tcp: { timeWaitMs: 5000 } }), { now: clock }),
  ) as [Kernel, Kernel];
  const turns = (count = 20, ms = 0): void => {
    for (let i = 0; i < count; i++, now += ms) for (const k of [ka, kb]) k.turn(0);
  };
  const taken = (): string[] => calls.splice(0);
  const listener = kb.listen({ host: '10.0.0.2', port: 80 });
  const any = kb.listen({ host: '0.0.0.0', port: 81 });
  kb.listen({ host: '127.0.0.1', port: 82 }).close();
  assert.deepEqual(taken(), ['serve 6 80 2', 'serve 6 81 *']);
  any.close();
  turns(30, 50);
  assert.deepEqual(taken(), ['unserve 6 81 *']);

  kb.spawn(listener.serve(echo));
  let closing: Connection | null = null;
  ka.spawn(
    (function* (): Coroutine {
      for (let i = 0; i < 3; i++) closing = yield* ka.connect({ host: '10.0.0.2', port: 80 });
      // All that are left are taken by connections with the same other end.
      assert.equal(yield* failureOf(ka.connect({ host: '10.0.0.2', port: 80 })), 'EADDRNOTAVAIL');
    })(),
  );
  turns();
  const reserved = taken().filter((call) => call.startsWith('reserve') && !call.endsWith('50001'));
  assert.deepEqual(reserved.sort(), ['reserve 6 50000', 'reserve 6 50002', 'reserve 6 50003']);
  for (const qd of [1, 2, 3]) if (ka.isOpen(qd)) ka.close(qd);
  closing!.close();
  listener.close();
  turns(30, 50);
  // TIME_WAIT goes on for five seconds, and so do the ports of both sides.
  assert.deepEqual(
    taken().filter((call) => call.startsWith('un')),
    [],
  );
  ka.end();
  kb.end();
  turns(200, 50);
  const given = taken().filter((call) => call.startsWith('un'));
  assert.deepEqual(given.sort(), ['unreserve 6 50000', 'unreserve 6 50002', 'unreserve 6 50003', 'unserve 6 80 2']);

  const socket = ka.udp({ host: '0.0.0.0', port: 53 });
  const ephemeral = ka.udp();
  const { port } = ip(ephemeral.address);
  socket.close();
  ephemeral.close();
  const datagram = taken().filter((call) => !call.endsWith('50001'));
  assert.deepEqual(datagram, ['serve 17 53 *', `reserve 17 ${port}`, 'unserve 17 53 *', `unreserve 17 ${port}`]);
  ka.dispose();
  kb.dispose();
});
