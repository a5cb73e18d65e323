/**
 * Two TCPs and a bad network in virtual time, all from one seed: who sends what, what is lost, late, doubled or damaged.
 * Everything a seed decides is drawn from one generator, so that a failing seed replays exactly.
 */
import assert from 'node:assert/strict';
import { Random } from '../../src/datapath/simulated/random.ts';
import { TimerWheel } from '../../src/kernel/timers.ts';
import { Flow } from '../../src/net/flow.ts';
import type { TcpConfig } from '../../src/net/tcp/config.ts';
import type { Connection } from '../../src/net/tcp/connection.ts';
import { TcpEvent, TcpState } from '../../src/net/tcp/constants.ts';
import { Tcp } from '../../src/net/tcp/tcp.ts';
import { Heap } from '../../src/ring/heap.ts';
import { localRegion } from '../../src/ring/region.ts';
import { checkConnection } from './invariants.ts';
import { FlatOutput, streamByte } from './segment-tools.ts';

export interface SimulationPlan {
  /** Probabilities per segment. */
  readonly loss: number;
  readonly duplicate: number;
  readonly reorder: number;
  readonly corrupt: number;
  readonly delayMs: number;
  readonly jitterMs: number;
  /** Most bytes that each connection sends in each direction. */
  readonly bytes: number;
  readonly connections: number;
  readonly family: 4 | 6;
  readonly configs: readonly [Partial<TcpConfig>, Partial<TcpConfig>];
  /** Everybody sends exactly `bytes` and reads at once: for those who measure. */
  readonly steady?: boolean;
}

/** A plan drawn from a seed: mild or harsh, small or large, every option on or off. */
export function planOf(random: Random): SimulationPlan {
  const harsh = random.chance(0.3) ? 0.15 : 0.03;
  const fault = (): number => (random.chance(0.5) ? random.unit() * harsh : 0);
  const config = (): Partial<TcpConfig> => ({
    receiveBuffer: random.chance(0.3) ? random.between([600, 6000]) : 65536 << random.below(3),
    sendBuffer: random.between([1000, 100000]),
    sack: random.chance(0.7),
    timestamps: random.chance(0.7),
    windowScaling: random.chance(0.7),
    rack: random.chance(0.7),
    noDelay: random.chance(0.6),
    congestion: random.chance(0.5) ? 'cubic' : 'newreno',
    scatterGather: random.chance(0.5),
    maxOutOfOrder: random.chance(0.2) ? 3 : 256,
    maxReceiveBuffers: random.chance(0.2) ? 20 : 1024,
    synCookies: random.chance(0.2) ? 'always' : 'pressure',
    maxSegment: random.chance(0.3) ? random.between([100, 1400]) : 0,
    timeWaitMs: 2000,
    finWait2Ms: 600_000,
    dataRetries: 40,
    synRetries: 20,
    synAckRetries: 20,
  });
  return {
    loss: fault(),
    duplicate: fault(),
    reorder: fault(),
    corrupt: fault(),
    delayMs: random.chance(0.3) ? 0.02 : random.between([1, 60]),
    jitterMs: random.chance(0.5) ? 0 : random.between([1, 20]),
    bytes: random.chance(0.7) ? 4000 : 60000,
    connections: random.between([1, 3]),
    family: random.chance(0.3) ? 6 : 4,
    configs: [config(), config()],
  };
}

interface Arrival {
  readonly at: number;
  readonly order: number;
  readonly to: Host;
  readonly bytes: Uint8Array;
}

/** What has yet to happen, earliest first. */
class Arrivals {
  readonly #heap: Arrival[] = [];

  get first(): Arrival | undefined {
    return this.#heap[0];
  }

  push(arrival: Arrival): void {
    const heap = this.#heap;
    let i = heap.length;
    heap.push(arrival);
    while (i > 0) {
      const parent = (i - 1) >> 1;
      if (before(heap[parent]!, arrival)) break;
      heap[i] = heap[parent]!;
      i = parent;
    }
    heap[i] = arrival;
  }

  shift(): Arrival {
    const heap = this.#heap;
    const first = heap[0]!;
    const last = heap.pop()!;
    if (heap.length === 0) return first;
    let i = 0;
    for (;;) {
      let child = 2 * i + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && before(heap[child + 1]!, heap[child]!)) child++;
      if (before(last, heap[child]!)) break;
      heap[i] = heap[child]!;
      i = child;
    }
    heap[i] = last;
    return first;
  }
}

function before(a: Arrival, b: Arrival): boolean {
  return a.at < b.at || (a.at === b.at && a.order < b.order);
}

/** One connection's end as a program sees it: it writes so many bytes, reads all it gets, then closes. */
class Program {
  readonly connection: Connection;
  readonly #toSend: number;
  readonly #host: Host;
  sent = 0;
  received = 0;
  ended = false;
  closed = false;
  readonly #slow: boolean;

  constructor(host: Host, connection: Connection, toSend: number, slow: boolean) {
    this.#host = host;
    this.connection = connection;
    this.#toSend = toSend;
    this.#slow = slow;
  }

  step(): void {
    const { connection } = this;
    const { random, heap } = this.#host;
    while (this.sent < this.#toSend && connection.writable) {
      const buffer = heap.tryAlloc(Math.min(random.between([1, 3000]), this.#toSend - this.sent) + 128);
      if (buffer === null) break;
      buffer.length -= 128;
      if (random.chance(0.5)) buffer.offset += 128;
      for (let i = 0; i < buffer.length; i++) buffer.memory[buffer.offset + i] = streamByte(this.sent++);
      assert.ok(connection.send(buffer), 'refused while writable');
    }
    if (this.sent === this.#toSend && !connection.finQueued) connection.shutdown();
    if (this.#slow && random.chance(0.7)) return;
    for (let buffer = connection.read(); buffer !== null; buffer = connection.read()) {
      for (let i = 0; i < buffer.length; i++) {
        if (buffer.memory[buffer.offset + i] !== streamByte(this.received + i)) {
          assert.fail(`wrong byte ${this.received + i}`);
        }
      }
      this.received += buffer.length;
      buffer.release();
    }
    if (connection.ended && !this.ended) this.ended = true;
    const over = connection.state === TcpState.CLOSED || connection.state === TcpState.TIME_WAIT;
    if (!this.closed && this.ended && (over || this.sent === this.#toSend)) {
      this.closed = true;
      connection.close();
    }
  }
}

export class Host extends FlatOutput {
  readonly tcp: Tcp;
  readonly wheel: TimerWheel;
  readonly random: Random;
  readonly programs: Program[] = [];
  readonly #world: World;
  readonly address: number;
  peer!: Host;

  constructor(world: World, address: number, config: Partial<TcpConfig>) {
    super(
      new Heap(localRegion(3 << 20), {
        sizeClasses: [
          { bytes: 256, count: 1024 },
          { bytes: 2048, count: 768 },
          { bytes: 4096, count: 128 },
        ],
      }),
    );
    this.#world = world;
    this.address = address;
    this.random = world.random;
    this.wheel = new TimerWheel(0);
    this.tcp = new Tcp({
      heap: this.heap,
      output: this,
      timers: this.wheel,
      secret: Int32Array.of(1, 2, 3, address),
      random: () => world.random.next() | 0,
      now: 0,
      config,
    });
  }

  override sent(flow: Flow, bytes: Uint8Array): void {
    if (flow.remote3 === this.peer.address) this.#world.carry(this.peer, bytes);
    else this.#world.onStray(flow, bytes);
  }

  receive(bytes: Uint8Array): void {
    const packet = this.heap.tryAlloc(bytes.length + 128);
    if (packet === null) return;
    packet.offset += 100;
    packet.length = bytes.length;
    packet.memory.set(bytes, packet.offset);
    this.ends(this.#world.flow);
    this.tcp.input(packet, packet.offset, packet.length, this.#world.flow);
    packet.release();
  }

  /** Sets the addresses of a flow as this host sees it. */
  ends(flow: Flow): Flow {
    const { family } = this.#world.plan;
    flow.family = family;
    flow.local3 = this.address;
    flow.remote3 = this.peer.address;
    flow.local0 = flow.remote0 = family === 6 ? 0x20010db8 : 0;
    return flow;
  }

  turn(now: number): void {
    this.tcp.setTime(now);
    this.wheel.advance(now);
    this.serve();
    this.tcp.flush();
    for (const connection of this.tcp.table) checkConnection(connection);
  }

  serve(): void {
    for (let c = this.tcp.nextReady(); c !== null; c = this.tcp.nextReady()) {
      const events = c.takeEvents();
      if ((events & TcpEvent.ACCEPT) !== 0) {
        const accepted = c.listener?.accept() ?? null;
        if (accepted?.flow.remote3 === this.peer.address) this.adopt(accepted);
        else if (accepted !== null) this.#world.onStranger(accepted);
      }
      if ((events & TcpEvent.CLOSED) !== 0 && c.error !== 0) this.#world.failed.push(c.error);
    }
    for (const program of this.programs) if (!program.closed) program.step();
  }

  /** A program has something to read and has not got round to it. */
  get busy(): boolean {
    return this.programs.some((program) => !program.closed && program.connection.readable);
  }

  adopt(connection: Connection): void {
    const { random, plan } = this.#world;
    const program = plan.steady
      ? new Program(this, connection, plan.bytes, false)
      : new Program(this, connection, random.below(plan.bytes + 1), random.chance(0.3));
    this.programs.push(program);
  }
}

/** Runs one seed to its end. Throws where a byte is wrong, a connection does not end, or a buffer is left. */
export class World {
  readonly random: Random;
  readonly plan: SimulationPlan;
  readonly flow = new Flow();
  readonly failed: number[] = [];
  readonly client: Host;
  readonly server: Host;
  readonly #arrivals = new Arrivals();
  now = 0;
  #order = 0;
  segments = 0;
  /** Called between turns as long as the programs have something to do: for a third party. */
  onTurn: () => void = () => {};
  /** A segment for an address that is neither host's. */
  onStray: (flow: Flow, bytes: Uint8Array) => void = () => {};
  /** A connection with such an address was accepted, and is the callee's. */
  onStranger: (connection: Connection) => void = (connection) => connection.abort();
  /** Called once, when they have done what they came for. */
  onServed: () => void = () => {};
  /** When that was, in ms. */
  servedAt = -1;

  constructor(seed: number, plan?: SimulationPlan) {
    this.random = new Random(seed);
    this.plan = plan ?? planOf(this.random);
    this.client = new Host(this, 0x0a000001, this.plan.configs[0]);
    this.server = new Host(this, 0x0a000002, this.plan.configs[1]);
    this.client.peer = this.server;
    this.server.peer = this.client;
  }

  carry(to: Host, bytes: Uint8Array): void {
    const { random, plan } = this;
    this.segments++;
    if (random.chance(plan.loss)) return;
    if (random.chance(plan.corrupt)) bytes[random.below(bytes.length)]! ^= 1 << random.below(8);
    this.#schedule(to, bytes);
    if (random.chance(plan.duplicate)) this.#schedule(to, bytes.slice());
  }

  #schedule(to: Host, bytes: Uint8Array): void {
    const { random, plan } = this;
    let delay = plan.delayMs;
    if (random.chance(plan.reorder)) delay += random.unit() * (plan.jitterMs + 5);
    this.#arrivals.push({ at: this.now + delay, order: this.#order++, to, bytes });
  }

  run(limitMs = 3_600_000): void {
    const { client, server } = this;
    const listening = new Flow();
    listening.localPort = 80;
    listening.family = this.plan.family;
    server.tcp.listen(listening, 8);
    for (let i = 0; i < this.plan.connections; i++) {
      const ends = client.ends(new Flow());
      ends.remotePort = 80;
      client.adopt(client.tcp.connect(ends));
    }
    client.turn(this.now);
    while (!this.#over()) {
      const at = Math.min(
        this.#arrivals.first?.at ?? Number.POSITIVE_INFINITY,
        client.wheel.nextDeadline(),
        server.wheel.nextDeadline(),
        client.busy || server.busy ? this.now + 10 : Number.POSITIVE_INFINITY,
      );
      if (at === Number.POSITIVE_INFINITY || at > limitMs) this.#stuck();
      this.now = Math.max(this.now, at);
      this.#arrive();
      if (this.servedAt < 0) this.#thirdParty();
      client.turn(this.now);
      server.turn(this.now);
    }
    this.#check();
  }

  #thirdParty(): void {
    if (!this.#served()) {
      this.onTurn();
      return;
    }
    this.servedAt = this.now;
    this.onServed();
  }

  /** Everything that arrives now, as batches of one host each. */
  #arrive(): void {
    for (let next = this.#arrivals.first; next !== undefined && next.at <= this.now; next = this.#arrivals.first) {
      this.#arrivals.shift();
      next.to.tcp.setTime(this.now);
      next.to.receive(next.bytes);
    }
  }

  /** Every program has done what it came for. */
  #served(): boolean {
    const programs = [...this.client.programs, ...this.server.programs];
    return programs.length === 2 * this.plan.connections && programs.every((program) => program.closed);
  }

  #over(): boolean {
    const { client, server } = this;
    if (client.busy || server.busy || this.#arrivals.first !== undefined) return false;
    return [client, server].every(({ tcp }) => tcp.table.size + tcp.timeWait.size === 0);
  }

  #stuck(): never {
    const lines = [this.client, this.server].flatMap((host) =>
      [...host.tcp.table].map((c) => {
        const { state, sndUna, sndNxt, sndEnd, sndWnd, rcvNxt, rcvAdv, phase, cwnd, retransmitKind } = c;
        const text = { state, flight: sndNxt - sndUna, unsent: sndEnd - sndNxt, sndWnd, rcvNxt, rcvAdv, phase, cwnd };
        return JSON.stringify({ ...text, retransmitKind, unread: c.receiveQueue.bytes, lost: c.lostBytes });
      }),
    );
    assert.fail(`stuck at ${this.now} ms\n${lines.join('\n')}`);
  }

  #check(): void {
    assert.deepEqual(this.failed, [], 'connections failed');
    for (const host of [this.client, this.server]) {
      assert.equal(host.programs.length, this.plan.connections, 'connections are missing');
      for (const program of host.programs) assert.ok(program.ended && program.closed, 'a stream did not end');
      assert.equal(host.heap.inUse, 0, 'buffers are left');
      assert.equal(host.wheel.size, 0, 'timers are left');
      assert.equal(host.tcp.outOfOrderHeld, 0, 'packets out of order are left');
    }
    const sent = (host: Host): number => host.programs.reduce((sum, program) => sum + program.sent, 0);
    const received = (host: Host): number => host.programs.reduce((sum, program) => sum + program.received, 0);
    assert.equal(received(this.server), sent(this.client), 'bytes from the client');
    assert.equal(received(this.client), sent(this.server), 'bytes from the server');
  }
}
