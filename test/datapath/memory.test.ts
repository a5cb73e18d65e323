/** `memory:NAME` between processes: bytes and datagrams, the death of a peer, and peers that do not keep to the protocol. */
import assert from 'node:assert/strict';
import { type ChildProcess, fork } from 'node:child_process';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import {
  DATAGRAM_SLOT,
  KIND_SHIFT,
  Kind,
  LINK_BYTES,
  RING_SLOTS,
  SLOT_MASK,
  SLOTS,
  SLOTS_EACH,
  WINDOW,
  windowOffset,
} from '../../src/datapath/memory/layout.ts';
import { portName, reach } from '../../src/datapath/memory/names.ts';
import { type MemoryDatapath, openMemory } from '../../src/datapath/memory.ts';
import { SocketOption } from '../../src/kernel/datapath.ts';
import { EVENT_LOOP, Host } from '../../src/kernel/host.ts';
import { Kernel } from '../../src/kernel/kernel.ts';
import type { Coroutine } from '../../src/kernel/scheduler.ts';
import { createEventfd } from '../../src/linux/eventfd.ts';
import { close } from '../../src/linux/libc.ts';
import { createMemoryFile } from '../../src/linux/memory.ts';
import { sendDescriptors } from '../../src/linux/pass-descriptors.ts';
import { createSealedMemory } from '../../src/linux/sealed-memory.ts';
import { echo, failureOf, ip, openDescriptors, pattern, readAll, SMALL_HEAP, until } from './conformance/world.ts';
import { HandMadePeer } from './memory-peer.ts';

const MEMORY_MESSAGE = `isthmus memory 1 memory ${LINK_BYTES}`;
const SERVER = new URL(`./fixtures/memory-server${import.meta.url.endsWith('.ts') ? '.ts' : '.js'}`, import.meta.url);
let networks = 0;

function freshName(): string {
  return `t-${process.pid}-${networks++}`;
}

interface Server {
  readonly child: ChildProcess;
  readonly stream: number;
  readonly datagram: number;
  readonly said: unknown[];
}

async function startServer(network: string, what: string): Promise<Server> {
  const child = fork(SERVER, [network, what], { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
  const said: unknown[] = [];
  child.on('message', (message) => said.push(message));
  await until(() => said.length > 0, 'the server listens');
  const { stream, datagram } = said.shift() as { stream: number; datagram: number };
  return { child, stream, datagram, said };
}

/** A kernel on the network in this process, for the time of `body`; every buffer must come back. */
async function withKernel(
  network: string,
  body: (k: Kernel, datapath: MemoryDatapath) => Coroutine<unknown>,
): Promise<void> {
  const datapath = openMemory(network, { heap: { checked: true, sizeClasses: SMALL_HEAP } });
  const k = new Kernel(datapath);
  // Not the own core's policy: its naps would block the other kernels of this thread.
  const host = new Host(k, EVENT_LOOP).start();
  try {
    await k.spawn(body(k, datapath)).join();
  } finally {
    k.end();
    await until(() => k.draining === 0, 'closed queues are drained').finally(() => {
      host.stop();
      k.dispose();
    });
  }
  assert.equal(k.heap.inUse, 0);
  assert.equal(k.operations.inUse, 0);
}

/** Another kernel on the network in this process, for the length of a block. */
function another(network: string): Disposable & { readonly k: Kernel } {
  const k = new Kernel(openMemory(network, { heap: { sizeClasses: SMALL_HEAP } }));
  const host = new Host(k, EVENT_LOOP).start();
  return {
    k,
    [Symbol.dispose]: () => {
      host.stop();
      k.dispose();
    },
  };
}

describe('two processes on one memory network', () => {
  it('echoes streams and datagrams byte for byte, and tells a name that nobody has', async () => {
    const network = freshName();
    const server = await startServer(network, 'echo');
    try {
      await withKernel(network, function* (k) {
        const bytes = 8 << 20;
        const block = pattern(3, 40_009);
        const conn = yield* k.connect({ host: '127.0.0.1', port: server.stream });
        const sending = k.spawn(
          (function* () {
            for (let at = 0; at < bytes; at += block.length) {
              const part = block.subarray(0, Math.min(block.length, bytes - at));
              yield* conn.push(k.alloc(part.length).fill(part));
            }
            conn.end();
          })(),
        );
        let got = 0;
        for (;;) {
          const buffer = yield* conn.pop();
          if (buffer === null) break;
          for (let at = 0; at < buffer.length; ) {
            const from = got % block.length;
            const length = Math.min(buffer.length - at, block.length - from);
            const same = Buffer.compare(buffer.bytes.subarray(at, at + length), block.subarray(from, from + length));
            assert.equal(same, 0, `bytes from ${got} on`);
            got += length;
            at += length;
          }
          buffer.release();
        }
        yield* sending.join();
        assert.equal(got, bytes);
        conn.close();

        const udp = k.udp({ host: '127.0.0.1' });
        const to = { host: '127.0.0.1', port: server.datagram };
        for (const size of [0, 1, 7, 64, 1000, 65_507, 64]) {
          yield* udp.push(k.alloc(size).fill(pattern(size, size)), to);
          const reply = yield* udp.pop({ timeout: 30_000 });
          assert.ok(Buffer.from(reply.bytes).equals(pattern(size, size)), `${size} bytes`);
          assert.deepEqual(reply.peer, to);
          reply.release();
        }
        udp.close();
        assert.equal(yield* failureOf(k.connect({ host: '127.0.0.1', port: 9 })), 'ECONNREFUSED');
      });
    } finally {
      server.child.kill('SIGKILL');
    }
  });

  it('delivers what a killed peer had written, then says ECONNRESET; its port can be had again', async () => {
    const network = freshName();
    const server = await startServer(network, 'write');
    try {
      await withKernel(network, function* (k) {
        const address = { host: '127.0.0.1', port: server.stream };
        const conn = yield* k.connect(address);
        while (server.said.length === 0) yield* k.sleep(1);
        server.child.kill('SIGKILL');
        assert.ok((yield* readAll(conn, 5000)).equals(pattern(1, 5000)));
        assert.equal(yield* failureOf(conn.pop()), 'ECONNRESET');
        assert.match(yield* failureOf(conn.write('anybody?')), /^(EPIPE|ECONNRESET)$/);
        assert.equal(yield* failureOf(k.connect(address)), 'ECONNREFUSED');
        conn.close();
        const again = k.listen(address);
        k.spawn(again.serve(echo));
        const second = yield* k.connect(address);
        yield* second.write('here');
        assert.equal((yield* readAll(second, 4)).toString(), 'here');
        second.close();
        again.close();
      });
    } finally {
      server.child.kill('SIGKILL');
    }
  });

  it('finds a port that has moved to another datapath', async () => {
    const network = freshName();
    await withKernel(network, function* (k) {
      using other = another(network);
      const first = k.listen({ host: '127.0.0.1' });
      k.spawn(first.serve(echo));
      const { address } = first;
      (yield* k.connect(address)).close();
      first.close();
      other.k.spawn(other.k.listen(ip(address)).serve(echo));
      const conn = yield* k.connect(address);
      yield* conn.write('moved');
      assert.equal((yield* readAll(conn, 5)).toString(), 'moved');
      conn.close();
      yield* k.sleep(1);
    });
  });
});

describe('a port that several share', () => {
  it('gives each of them connections, and the others all when one has gone', async () => {
    const network = freshName();
    await withKernel(network, function* (k) {
      const served = [0, 0];
      using first = another(network);
      using second = another(network);
      const others = [first.k, second.k];
      const port = ip(others[0]!.listen({ host: '127.0.0.1', reusePort: true }).address).port;
      others[0]!.end();
      const listeners = others.map((other) => other.listen({ host: '127.0.0.1', port, reusePort: true }));
      for (const [i, other] of others.entries()) {
        other.spawn(
          listeners[i]!.serve(function* (conn) {
            served[i]!++;
            yield* echo(conn);
          }),
        );
      }
      const connect = function* (): Coroutine {
        const conn = yield* k.connect({ host: '127.0.0.1', port });
        yield* conn.write('x');
        assert.equal((yield* readAll(conn, 1)).toString(), 'x');
        conn.close();
      };
      for (let i = 0; i < 200; i++) yield* connect();
      assert.ok(served[0]! > 30 && served[1]! > 30, `${served}`);
      assert.throws(() => k.listen({ host: '127.0.0.1', port }), { code: 'EADDRINUSE' });
      listeners[0]!.close();
      for (let i = 0; i < 50; i++) yield* connect();
    });
  });
});

// ---- Peers that nobody can trust ---------------------------------------------------------------------------------

/** A server whose turns the test calls itself, so that nothing depends on time. */
class Victim {
  readonly network = freshName();
  readonly datapath = openMemory(this.network, { heap: { checked: true, sizeClasses: SMALL_HEAP }, spinUs: 0 });
  readonly errors: Error[] = [];
  readonly k = new Kernel(this.datapath, { onUncaught: (error) => this.errors.push(error) });
  readonly listener = this.k.listen({ host: '127.0.0.1' });
  readonly udp = this.k.udp({ host: '127.0.0.1' });

  constructor() {
    const { udp } = this;
    this.k.spawn(this.listener.serve(echo));
    this.k.spawn(
      (function* () {
        for (;;) yield* udp.push(yield* udp.pop());
      })(),
    );
    this.turns(2);
  }

  get port(): number {
    return ip(this.listener.address).port;
  }

  turns(count: number): void {
    for (let i = 0; i < count; i++) this.k.turn(0);
  }

  /** An honest client is still served. */
  serves(): void {
    const { k } = this;
    let said = '';
    const { address } = this.listener;
    k.spawn(
      (function* () {
        const conn = yield* k.connect(address);
        yield* conn.write('honest');
        said = (yield* readAll(conn, 6)).toString();
        conn.close();
      })(),
    );
    for (let i = 0; i < 1000 && said === ''; i++) k.turn(0);
    assert.equal(said, 'honest');
  }

  close(): void {
    this.k.dispose();
    assert.deepEqual(this.errors, []);
    assert.equal(this.k.heap.inUse, 0, 'every buffer is back');
  }
}

const anyWord = fc.oneof(
  fc.integer(),
  fc.constantFrom(0, 1, -1, WINDOW, WINDOW + 1, 0x7fffffff, -0x80000000),
  fc.integer({ min: 0, max: 4096 }),
);
const anySlot = fc.oneof(
  fc.integer({ min: 0, max: 6 }),
  fc.integer({ min: SLOTS_EACH - 2, max: SLOTS_EACH + 2 }),
  fc.constantFrom(SLOTS - 1, SLOTS, DATAGRAM_SLOT, DATAGRAM_SLOT - 1),
);

type Act =
  | { readonly say: readonly [number, number, number, number, number] }
  | { readonly open: number }
  | { readonly poke: readonly [number, number] }
  | { readonly ring: readonly ['tail' | 'head', number] }
  | { readonly turns: number };

const anyAct: fc.Arbitrary<Act> = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.record({ say: fc.tuple(fc.integer({ min: 0, max: 255 }), anySlot, anyWord, anyWord, anyWord) }),
  },
  {
    weight: 8,
    arbitrary: fc.record({
      say: fc.tuple(fc.integer({ min: 1, max: 9 }), anySlot, fc.integer({ min: 0, max: 70_000 }), anyWord, anyWord),
    }),
  },
  { weight: 6, arbitrary: fc.record({ open: fc.integer({ min: 0, max: 6 }) }) },
  { weight: 1, arbitrary: fc.record({ poke: fc.tuple(fc.integer({ min: 0, max: 40_000 }), anyWord) }) },
  { weight: 1, arbitrary: fc.record({ ring: fc.tuple(fc.constantFrom('tail' as const, 'head' as const), anyWord) }) },
  { weight: 4, arbitrary: fc.record({ turns: fc.integer({ min: 1, max: 5 }) }) },
);

function perform(victim: Victim, peer: HandMadePeer, act: Act): void {
  if ('say' in act) peer.say(...act.say);
  else if ('turns' in act) victim.turns(act.turns);
  else if ('poke' in act) peer.write(act.poke[0], act.poke[1]);
  else if ('ring' in act) peer.write(peer.ring[act.ring[0]], act.ring[1]);
  else {
    const name = portName('s4', victim.port);
    peer.name(windowOffset(peer.link.end, act.open), name);
    peer.say(Kind.OPEN, act.open, name.length, 1234);
    peer.say(Kind.DATA, act.open, 100);
    victim.turns(2);
  }
}

it('gives a peer up that does not read what was pushed before the close', async () => {
  const network = freshName();
  await withKernel(network, function* (k) {
    const listener = k.listen({ host: '127.0.0.1' });
    const accepting = listener.accept();
    const conn = yield* k.connect(listener.address);
    const peer = yield* accepting;
    k.setsockopt(conn.qd, SocketOption.LINGER, 1);
    for (let i = 0; i < 4; i++) conn.push(k.alloc(65_536)).abandon();
    conn.close();
    assert.equal(k.draining, 1);
    const start = performance.now();
    while (k.draining > 0) yield* k.sleep(10);
    assert.ok(performance.now() - start > 900, 'not before its time');
    // What stood in the window is read, then the reset.
    assert.equal((yield* readAll(peer, WINDOW)).length, WINDOW);
    assert.equal(yield* failureOf(peer.pop()), 'ECONNRESET');
    listener.close();
  });
});

it('keeps what is due, and its order, while the ring to the peer is full', () => {
  const victim = new Victim();
  const listener = victim.k.listen({ host: '127.0.0.1' });
  const greet = listener.serve(function* (conn) {
    yield* conn.write('hello');
  });
  victim.k.spawn(greet);
  const peer = HandMadePeer.connect(victim.network, ip(listener.address).port, victim.k);
  // Each refusal is a message, and the peer takes none of them.
  const refusals = RING_SLOTS + 100;
  for (let i = 0; i < refusals; i++) {
    peer.say(Kind.OPEN, 7, 1);
    if (i % 64 === 63) victim.turns(2);
  }
  const name = portName('s4', ip(listener.address).port);
  peer.name(windowOffset(peer.link.end, 0), name);
  peer.say(Kind.OPEN, 0, name.length, 1);
  victim.turns(10);
  assert.equal(victim.datapath.brokenLinks, 0);
  const heard: string[] = [];
  for (let rounds = 0; rounds < 10; rounds++) {
    const count = peer.link.arrivals();
    for (let i = 0; i < count; i++) {
      const word0 = peer.link.i32[peer.link.messageAt(i)]!;
      heard.push(`${word0 >>> KIND_SHIFT} ${word0 & SLOT_MASK}`);
    }
    peer.link.release(count);
    victim.turns(10);
  }
  assert.equal(heard.filter((each) => each === `${Kind.ANSWER} 7`).length, refusals);
  const about0 = heard.filter((each) => each.endsWith(' 0'));
  const expected = [Kind.ANSWER, Kind.DATA, Kind.FIN, Kind.GONE].map((kind) => `${kind} 0`);
  assert.deepEqual(about0, expected);
  peer.close();
  victim.turns(4);
  victim.close();
});

it('sends what a name found during a nap has brought about, before it sleeps elsewhere', () => {
  const victim = new Victim();
  const datapath = openMemory(victim.network, { heap: { sizeClasses: SMALL_HEAP }, spinUs: 0 });
  const k = new Kernel(datapath);
  let connected = false;
  k.spawn(
    (function* () {
      const conn = yield* k.connect(victim.listener.address);
      connected = true;
      conn.close();
    })(),
  );
  k.turn(0);
  victim.turns(3); // hello, and hello
  datapath.submit(1000);
  victim.turns(3); // the memory, and the connection that is asked for in it
  assert.ok(datapath.arrived, 'the answer is there');
  for (let i = 0; i < 10; i++) k.turn(0);
  assert.ok(connected);
  k.dispose();
  victim.close();
});

describe('a peer that breaks the protocol', () => {
  it('is cut off, whatever it writes where, and others are served', () => {
    const victim = new Victim();
    try {
      fc.assert(
        fc.property(fc.array(anyAct, { minLength: 1, maxLength: 40 }), (acts) => {
          const peer = HandMadePeer.connect(victim.network, victim.port, victim.k);
          try {
            for (const act of acts) perform(victim, peer, act);
            victim.turns(10);
          } finally {
            peer.close();
          }
          victim.turns(4);
          assert.deepEqual(victim.errors, []);
        }),
        { numRuns: Number(process.env['FUZZ_RUNS'] ?? 120) },
      );
      assert.ok(victim.datapath.brokenLinks > 10, `${victim.datapath.brokenLinks} links were broken`);
      victim.serves();
    } finally {
      victim.close();
    }
  });

  for (const [what, break_] of [
    ['an index far ahead', (peer: HandMadePeer) => peer.write(peer.ring.tail, 0x12345)],
    ['an index that goes back', (peer: HandMadePeer) => peer.write(peer.ring.tail, -1)],
    ['a message about a slot that does not exist', (peer: HandMadePeer) => peer.say(Kind.DATA, SLOTS, 1)],
    ['data for a connection that does not exist', (peer: HandMadePeer) => peer.say(Kind.DATA, 1, 1)],
    ['a connection on a slot of the other end', (peer: HandMadePeer) => peer.say(Kind.OPEN, SLOTS_EACH, 5)],
    ['a name longer than any', (peer: HandMadePeer) => peer.say(Kind.OPEN, 0, 65)],
    ['a datagram larger than any', (peer: HandMadePeer) => peer.say(Kind.DATAGRAM, DATAGRAM_SLOT, 65_508)],
    ['a datagram of less than nothing', (peer: HandMadePeer) => peer.say(Kind.DATAGRAM, DATAGRAM_SLOT, -1)],
    ['credit that nobody owes', (peer: HandMadePeer) => peer.say(Kind.CREDIT, DATAGRAM_SLOT, 1)],
  ] as const) {
    it(`notices ${what}`, () => {
      const victim = new Victim();
      const peer = HandMadePeer.connect(victim.network, victim.port, victim.k);
      break_(peer);
      victim.turns(3);
      assert.equal(victim.datapath.brokenLinks, 1);
      assert.match((victim.datapath.lastBroken as NodeJS.ErrnoException).code!, /^ERR_(PEER_PROTOCOL|RING_CORRUPT)$/);
      victim.serves();
      peer.close();
      victim.close();
    });
  }

  it('notices more data than the window holds, and data after the end', () => {
    for (const acts of [
      [
        [Kind.DATA, WINDOW - 100],
        [Kind.DATA, 101],
      ],
      [
        [Kind.FIN, 0],
        [Kind.DATA, 1],
      ],
      [
        [Kind.GONE, 0],
        [Kind.GONE, 0],
      ],
    ] as const) {
      const victim = new Victim();
      // Nobody accepts, so nobody reads.
      const listener = victim.k.listen({ host: '127.0.0.1' });
      const peer = HandMadePeer.connect(victim.network, ip(listener.address).port, victim.k);
      const name = portName('s4', ip(listener.address).port);
      peer.name(windowOffset(peer.link.end, 0), name);
      peer.say(Kind.OPEN, 0, name.length, 1);
      victim.turns(2);
      assert.equal(victim.datapath.brokenLinks, 0);
      for (const [kind, word1] of acts) peer.say(kind, 0, word1);
      victim.turns(3);
      assert.equal(victim.datapath.brokenLinks, 1);
      peer.close();
      victim.close();
    }
  });

  it('survives greetings that are none, and keeps none of their descriptors', () => {
    const victim = new Victim();
    victim.turns(2);
    const before = openDescriptors();
    const unsealed = createMemoryFile(1 << 29);
    const small = createSealedMemory(4096);
    const event = createEventfd();
    const hello = `isthmus memory 1 hello ${'0'.repeat(32)}`;
    const offers: readonly (readonly (readonly [string, readonly number[]])[])[] = [
      [['', []]],
      [['hello', []]],
      [['isthmus memory 1 hello ', []]],
      [[`isthmus memory 1 hello ${'z'.repeat(32)}`, []]],
      [[hello, [event, event]]],
      [
        [hello, []],
        [hello, []],
      ],
      ...[unsealed, small, event].map(
        (fd) =>
          [
            [hello, []],
            [MEMORY_MESSAGE, [fd, event]],
          ] as const,
      ),
      [
        [hello, []],
        [MEMORY_MESSAGE, [event]],
      ],
      [
        [hello, []],
        [MEMORY_MESSAGE, [event, event, event, event]],
      ],
    ];
    for (const messages of offers) {
      const reached = reach(victim.network, portName('s4', victim.port))!;
      for (const [text, descriptors] of messages) {
        sendDescriptors(reached.fd, Buffer.from(text, 'latin1'), descriptors);
        victim.turns(3);
      }
      close(reached.fd);
      victim.turns(3);
    }
    for (const fd of [unsealed, small, event]) close(fd);
    assert.ok(openDescriptors() <= before, `${openDescriptors()} descriptors, ${before} before`);
    victim.serves();
    victim.close();
  });
});
