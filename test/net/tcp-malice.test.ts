/** A third party that guesses, floods and disturbs: the connection between two honest ends goes on, and nothing grows. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Random } from '../../src/datapath/simulated/random.ts';
import { Flow } from '../../src/net/flow.ts';
import type { Connection } from '../../src/net/tcp/connection.ts';
import { Flag } from '../../src/net/wire/tcp.ts';
import { buildSegment, type SegmentFields } from './segment-tools.ts';
import { type Host, type SimulationPlan, World } from './tcp-simulation.ts';

const PLAN: SimulationPlan = {
  loss: 0,
  duplicate: 0,
  reorder: 0,
  corrupt: 0,
  delayMs: 5,
  jitterMs: 0,
  bytes: 400_000,
  connections: 1,
  family: 4,
  configs: [
    { receiveBuffer: 65536, timeWaitMs: 1000 },
    { receiveBuffer: 65536, timeWaitMs: 1000 },
  ],
};

/** Gives the server a segment that claims to come from the client, or from anywhere. */
function forge(host: Host, c: Connection | null, fields: Partial<SegmentFields> & { port?: number }, length = 0): void {
  const flow = host.ends(new Flow());
  const packet = buildSegment(
    host.heap,
    flow,
    {
      sourcePort: fields.port ?? c?.flow.remotePort ?? 1,
      destinationPort: 80,
      seq: 0,
      ack: 0,
      flags: Flag.ACK,
      window: 1000,
      ...fields,
    },
    length,
    () => 0xee,
  );
  if (packet === null) return;
  host.tcp.input(packet, packet.offset, packet.length, flow);
  packet.release();
}

function firstConnection(host: Host): Connection | null {
  for (const c of host.tcp.table) if (c.state >= 3 && c.state <= 5) return c;
  return null;
}

/** Runs the same transfer with and without the attack, and gives how long each took, in virtual time. */
function compare(attack: (world: World, random: Random) => void): { calm: number; disturbed: number; world: World } {
  const calm = new World(9, PLAN);
  calm.run();
  const world = new World(9, PLAN);
  const random = new Random(1);
  world.onTurn = () => attack(world, random);
  world.run();
  return { calm: calm.now, disturbed: world.now, world };
}

describe('a blind attacker', () => {
  test('resets with guessed sequence numbers do not end the connection', () => {
    const { calm, disturbed, world } = compare(({ server }, random) => {
      const c = firstConnection(server);
      // Even with the ports known, the numbers are not; some are guessed inside the window.
      for (let i = 0; i < 20 && c !== null; i++) {
        const seq = i < 10 ? (c.rcvNxt + random.between([1, 60000])) | 0 : random.next() | 0;
        forge(server, c, { flags: Flag.RST, seq });
      }
    });
    assert.ok(world.server.tcp.counters.badResets > 10);
    assert.ok(disturbed < 2 * calm, `${disturbed} ms against ${calm}`);
  });

  test('SYNs on an open connection do not end it', () => {
    const { calm, disturbed } = compare(({ server }, random) => {
      const c = firstConnection(server);
      if (c !== null) forge(server, c, { flags: Flag.SYN, seq: random.next() | 0 });
    });
    assert.ok(disturbed < 2 * calm, `${disturbed} ms against ${calm}`);
  });

  test('data with guessed numbers is not taken, since its acknowledgement is guessed too', () => {
    const { calm, disturbed, world } = compare(({ server }, random) => {
      const c = firstConnection(server);
      if (c === null) return;
      forge(server, c, { seq: random.next() | 0, ack: random.next() | 0 }, 100);
      forge(server, c, { seq: c.rcvNxt, ack: (c.sndNxt + 100_000_000) | 0 }, 100);
    });
    assert.ok(world.server.tcp.counters.segmentsIn > 100);
    assert.ok(disturbed < 2 * calm, `${disturbed} ms against ${calm}`);
  });
});

test('an acknowledgement storm: two ends that disagree answer each other at most twice a second', () => {
  const world = new World(9, PLAN);
  const { server } = world;
  let out = 0;
  world.onTurn = () => {
    const c = firstConnection(server);
    if (c === null) return;
    const before = server.tcp.counters.segmentsOut;
    for (let i = 0; i < 50; i++) forge(server, c, { seq: (c.rcvNxt + 900_000) | 0, ack: c.sndNxt });
    out += server.tcp.counters.segmentsOut - before;
  };
  world.run();
  assert.ok(out <= 2 + world.now / 500, `${out} answers in ${world.now} ms`);
});

test('a SYN flood: an honest connection is made and served, and no state grows', () => {
  const { calm, disturbed, world } = compare(({ server }, random) => {
    for (let i = 0; i < 30; i++)
      forge(server, null, { port: random.between([1, 30000]), flags: Flag.SYN, seq: random.next() | 0 });
    assert.ok(server.tcp.table.size <= 8 + 4, `${server.tcp.table.size} connections`);
  });
  assert.ok(world.server.tcp.counters.cookiesSent > 100);
  assert.ok(disturbed < 2 * calm + 130_000, `${disturbed} ms against ${calm}`);
});

test('a SYN flood does not slow down a connection that stands', () => {
  const { calm, disturbed, world } = compare(({ server }, random) => {
    if (firstConnection(server) === null) return;
    for (let i = 0; i < 30; i++)
      forge(server, null, { port: random.between([1, 30000]), flags: Flag.SYN, seq: random.next() | 0 });
    assert.ok(server.tcp.table.size <= 8 + 4, `${server.tcp.table.size} connections`);
  });
  assert.ok(world.server.tcp.counters.cookiesSent > 100);
  assert.ok(disturbed < 2 * calm, `${disturbed} ms against ${calm}`);
});

test('segments that overlap and lie out of order, for ever: their connection keeps what fits its window and no more', () => {
  const world = new World(9, PLAN);
  const random = new Random(3);
  const { server } = world;
  let most = 0;
  const start = server.heap.inUse;
  world.onTurn = () => {
    const c = firstConnection(server);
    if (c === null) return;
    // Beyond the next byte, so that nothing of it is ever read: what came in order goes on.
    for (let i = 0; i < 40; i++) {
      const seq = (c.rcvNxt + c.tcp.config.receiveBuffer - 2000 + random.below(1900)) | 0;
      forge(server, c, { seq, ack: c.sndNxt }, 1 + random.below(100));
    }
    most = Math.max(most, server.heap.inUse - start);
  };
  world.run(2000);
  // Windows and queues of one connection: buffers of a segment each.
  assert.ok(most > 10 && most < 256, `${most} buffers`);
});

test('a receiver that offers a tiny window gets no stream of tiny segments', () => {
  const tiny: SimulationPlan = {
    ...PLAN,
    bytes: 20_000,
    configs: [PLAN.configs[0], { receiveBuffer: 300, timeWaitMs: 1000 }],
  };
  const world = new World(4, tiny);
  world.run();
  const sent = world.client.programs[0]!.sent;
  assert.ok(
    world.client.tcp.counters.segmentsOut < sent / 60,
    `${world.client.tcp.counters.segmentsOut} for ${sent} bytes`,
  );
});
