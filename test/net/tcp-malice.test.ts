/**
 * A third party that guesses, floods and disturbs: what two honest ends have with each other keeps at least half of its
 * throughput, byte for byte, and nothing grows without bound. All of it in virtual time, so that it comes out the same always.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Random } from '../../src/datapath/simulated/random.ts';
import { Flag } from '../../src/net/wire/tcp.ts';
import { Mallory } from './mallory.ts';
import { type SimulationPlan, World } from './tcp-simulation.ts';

/** Without timestamps: with them, whatever a guesser says is dropped before anything else (RFC 7323 3.2). */
const CONFIG = { receiveBuffer: 32768, timestamps: false, timeWaitMs: 1000 };
/** Both send a megabyte at once; a round trip takes 10 ms. */
const PLAN: SimulationPlan = {
  loss: 0,
  duplicate: 0,
  reorder: 0,
  corrupt: 0,
  delayMs: 5,
  jitterMs: 0,
  bytes: 1_000_000,
  connections: 1,
  family: 4,
  configs: [CONFIG, { ...CONFIG, maxConnections: 64, maxOutOfOrder: 32, maxOutOfOrderTotal: 64 }],
  steady: true,
};
const BACKLOG = 8;

interface Course {
  readonly world: World;
  /** Virtual time that the transfer took. */
  readonly ms: number;
  /** The most that the server had at any time. */
  readonly connections: number;
  readonly buffers: number;
  readonly timers: number;
}

/** The transfer, with what somebody else does between any two turns as long as it goes on. */
function course(act: (mallory: Mallory, random: Random, world: World) => void): Course {
  const world = new World(9, PLAN);
  const mallory = new Mallory(world);
  const random = new Random(1);
  const { heap, tcp, wheel } = world.server;
  let connections = 0;
  let buffers = 0;
  let timers = 0;
  world.onTurn = () => {
    act(mallory, random, world);
    connections = Math.max(connections, tcp.table.size);
    buffers = Math.max(buffers, heap.inUse);
    timers = Math.max(timers, wheel.size);
  };
  world.onServed = () => mallory.leave();
  world.run();
  return { world, ms: world.servedAt, connections, buffers, timers };
}

const calm = course(() => {});

interface Bounds {
  /** How many more than in calm the server may have at any time. */
  readonly connections?: number;
  readonly buffers?: number;
}

/** @returns the server's counters, to see that the attack was one */
function withstands(act: Parameters<typeof course>[0], bounds: Bounds = {}): World['server']['tcp']['counters'] {
  const disturbed = course(act);
  assert.ok(disturbed.ms <= 2 * calm.ms, `${disturbed.ms} ms against ${calm.ms} undisturbed`);
  const { connections = 0, buffers = 0 } = bounds;
  assert.ok(disturbed.connections <= calm.connections + connections, `${disturbed.connections} connections`);
  assert.ok(disturbed.buffers <= calm.buffers + buffers, `${disturbed.buffers} buffers against ${calm.buffers}`);
  assert.ok(disturbed.timers <= calm.timers + connections, `${disturbed.timers} timers`);
  return disturbed.world.server.tcp.counters;
}

test('undisturbed, the transfer is as fast as windows and round trips allow', () => {
  assert.ok(calm.ms < 400, `${calm.ms} ms`);
});

describe('whoever cannot see the connection', () => {
  test('does not end it by resets with guessed sequence numbers', () => {
    const counters = withstands((mallory, random) => {
      const { victim } = mallory;
      // Even with the ports known, the numbers are not; some are guessed inside the window.
      for (let i = 0; i < 20 && victim !== null; i++) {
        const seq = i < 10 ? (victim.rcvNxt + random.between([1, 60000])) | 0 : random.next() | 0;
        mallory.forge({ flags: Flag.RST, seq });
      }
    });
    assert.ok(counters.badResets > 100);
  });

  test('does not end it by SYNs', () => {
    const counters = withstands((mallory, random) => {
      if (mallory.victim !== null) mallory.forge({ flags: Flag.SYN, seq: random.next() | 0 });
    });
    assert.ok(counters.challengeAcks > 0 && counters.challengesSuppressed > 0);
  });

  test('does not get data into it, since the acknowledgement is guessed too', () => {
    const counters = withstands((mallory, random) => {
      const { victim } = mallory;
      if (victim === null) return;
      for (let i = 0; i < 10; i++) mallory.forge({ seq: random.next() | 0, ack: random.next() | 0 }, 100);
      mallory.forge({ seq: victim.rcvNxt, ack: (victim.sndNxt + 100_000_000) | 0 }, 100);
      mallory.forge({ seq: victim.rcvNxt, ack: (victim.sndUna - 100_000_000) | 0 }, 100);
    });
    assert.ok(counters.outOfWindow > 300 && counters.challengesSuppressed > 50);
  });
});

test('an acknowledgement storm is answered at most twice a second', () => {
  let answers = 0;
  let last = 0;
  withstands((mallory, _, { server, now }) => {
    const { victim } = mallory;
    if (victim === null) return;
    const before = server.tcp.counters.segmentsOut;
    for (let i = 0; i < 50; i++) mallory.forge({ seq: (victim.rcvNxt + 900_000) | 0, ack: victim.sndNxt });
    answers += server.tcp.counters.segmentsOut - before;
    last = now;
  });
  assert.ok(answers <= 2 + last / 500, `${answers} answers in ${last} ms`);
});

describe('a flood of SYNs', () => {
  const flood = (mallory: Mallory, random: Random): void => {
    for (let i = 0; i < 30; i++) {
      mallory.forge({ sourcePort: random.between([1, 30000]), flags: Flag.SYN, seq: random.next() | 0 });
    }
  };

  test('does not slow down a connection that stands', () => {
    const counters = withstands(
      (mallory, random) => {
        if (mallory.victim !== null) flood(mallory, random);
      },
      { connections: BACKLOG },
    );
    assert.ok(counters.cookiesSent > 1000);
  });

  test('does not keep an honest connection from being made', () => {
    const counters = withstands(flood, { connections: BACKLOG });
    assert.ok(counters.cookiesSent > 1000);
  });
});

describe('a peer with connections of its own', () => {
  test('keeps what fits the bounds of segments out of order, whatever overlaps', () => {
    const counters = withstands(
      (mallory, random, { server }) => {
        if (mallory.own.length < 6) mallory.connect(60_000);
        for (const own of mallory.own) {
          // Never the next byte, so that nothing of it can ever be read.
          for (let i = 0; i < 20; i++) mallory.say(own, { seq: 1 + random.below(60_000) }, 1 + random.below(1400));
        }
        assert.ok(server.tcp.outOfOrderHeld <= 64, `${server.tcp.outOfOrderHeld} held`);
      },
      { connections: 6, buffers: 64 },
    );
    assert.ok(counters.outOfOrder > 100 && counters.outOfOrderDropped > 1000);
  });

  test('gets few segments for the tiny windows that it offers', () => {
    let tiny = 0;
    let turns = 0;
    const counters = withstands(
      (mallory, _, { server }) => {
        if (mallory.own.length < 6) mallory.connect(1);
        turns++;
        for (const own of mallory.own) {
          const { end } = own;
          const data = end?.writable === true && end.sendQueue.count === 0 ? server.heap.tryAlloc(2048) : null;
          if (data !== null && !end!.send(data)) data.release();
          const before = own.heard;
          // A byte of room, as often as it likes.
          for (let i = 0; i < 10; i++) mallory.say(own, { seq: 0, window: 1 });
          if (own.heard !== before) tiny++;
        }
      },
      { connections: 6, buffers: 6 },
    );
    assert.ok(counters.segmentsIn > 60 * turns - 1000);
    assert.ok(tiny < turns, `${tiny} segments in ${turns} turns of six connections`);
  });

  test('makes nothing grow by never reading', () => {
    withstands(
      (mallory, _, { server }) => {
        if (mallory.own.length < 6) mallory.connect(1000);
        for (const own of mallory.own) {
          const { end } = own;
          const data = end?.writable === true ? server.heap.tryAlloc(2048) : null;
          if (data !== null && !end!.send(data)) data.release();
          mallory.say(own, { seq: 0, window: 0 });
        }
      },
      { connections: 6, buffers: 6 * 130 },
    );
  });
});
