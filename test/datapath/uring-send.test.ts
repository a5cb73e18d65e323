/**
 * The sending half of the io_uring datapath against a kernel made of arrays: it takes as many bytes as it likes, or none.
 * Whatever it does, each stream arrives whole and in order, each datagram at most once, and every buffer comes back.
 */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { decodeSockaddr } from '../../src/address/sockaddr.ts';
import { Outbox } from '../../src/datapath/sockets/outbox.ts';
import { Phase } from '../../src/datapath/sockets/sock.ts';
import { Batch, batchBytes } from '../../src/datapath/uring/batch.ts';
import { Sender } from '../../src/datapath/uring/send.ts';
import { KIND_MASK, Kind, SLOT_SHIFT, UringSocket } from '../../src/datapath/uring/socket.ts';
import { ERRNO } from '../../src/errors.ts';
import { SocketType } from '../../src/kernel/datapath.ts';
import type { Kernel } from '../../src/kernel/kernel.ts';
import { Opcode, type Operation, OperationTable, State } from '../../src/kernel/operation.ts';
import { Scheduler } from '../../src/kernel/scheduler.ts';
import { mapArena } from '../../src/linux/memory.ts';
import type { Ring } from '../../src/linux/uring.ts';
import { Op, SqeFlag } from '../../src/linux/uring-abi.ts';
import { Heap, type HeapBuffer } from '../../src/ring/heap.ts';
import { localRegion } from '../../src/ring/region.ts';

const ENTRIES = 8;
const COMPLETIONS = 8;
const SOCKETS = 4;
const LIMIT = 4096;
const DATAGRAM_SOCKET = SOCKETS - 1;
const DONTWAIT = 0x40;

/** A send with a completion that the kernel has not finished. */
interface Waiting {
  readonly slot: number;
  readonly generation: number;
  readonly bytes: Uint8Array;
  readonly to: string;
}

/** The side of the ring that is Linux's: entries in, completions out. */
class FakeRing {
  readonly entries = ENTRIES;
  readonly completions = COMPLETIONS;
  readonly sqMask = ENTRIES - 1;
  readonly cqMask = COMPLETIONS - 1;
  readonly sqes = new Int32Array(ENTRIES * 16);
  /** The tail, then the completions. */
  readonly words = new Int32Array(4 + COMPLETIONS * 4);
  readonly cqTail = 0;
  readonly cqes = 4;
  tail = 0;
  submitted = 0;
  head = 0;
  overflowing = false;

  sqe(): number {
    assert.ok(this.room > 0, 'nothing is handed over behind the sender');
    return (this.tail++ & this.sqMask) << 4;
  }
  get room(): number {
    return this.entries - this.pending;
  }
  get pending(): number {
    return this.tail - this.submitted;
  }
  get available(): number {
    return this.words[0]! - this.head;
  }
  complete(low: number, high: number, result: number): void {
    assert.ok(this.available < COMPLETIONS, 'a completion of failure always finds room');
    const k = this.cqes + ((this.words[0]! & this.cqMask) << 2);
    this.words.set([low, high, result, 0], k);
    this.words[0]!++;
  }
}

class World {
  readonly ring = new FakeRing();
  readonly region = localRegion(1 << 20);
  readonly heap = new Heap(this.region, { checked: true, sizeClasses: [{ bytes: 256, count: 1024 }] });
  readonly outbox = new Outbox();
  readonly control = mapArena(batchBytes(ENTRIES));
  readonly sender: Sender;
  readonly table = new OperationTable(null as unknown as Kernel, new Scheduler());
  readonly sockets: UringSocket[] = [];
  readonly expected: number[][] = [];
  readonly arrived: number[][] = [];
  readonly datagrams: string[] = [];
  readonly waiting: Waiting[] = [];
  readonly broken: number[] = [];
  /** Bytes that a stream still takes, per socket. */
  readonly space: number[] = [];
  counter = 0;

  constructor() {
    const batch = new Batch(this.ring as unknown as Ring, this.heap, this.outbox, this.control, 0);
    this.sender = new Sender(this.heap, this.outbox, batch, LIMIT);
    this.sender.onBroken = (socket) => this.broken.push(socket.slot);
    this.outbox.withNames();
    for (let slot = 0; slot < SOCKETS; slot++) {
      const socket = new UringSocket(slot);
      const type = slot === DATAGRAM_SOCKET ? SocketType.DGRAM : SocketType.STREAM;
      socket.open(100 + slot, slot === 0 ? SqeFlag.FIXED_FILE : 0, 2, type, Phase.OPEN);
      this.sockets.push(socket);
      this.expected.push([]);
      this.arrived.push([]);
      this.space.push(0);
    }
  }

  buffer(length: number): HeapBuffer {
    const buffer = this.heap.alloc(length);
    for (let i = 0; i < length; i++) buffer.memory[buffer.offset + i] = this.counter++ & 255;
    return buffer;
  }

  push(slot: number, lengths: readonly number[]): Operation<void> {
    const socket = this.sockets[slot]!;
    const buffers = lengths.map((length) => this.buffer(length));
    if (socket.failed === 0) for (const buffer of buffers) this.expected[slot]!.push(...buffer.bytes);
    const op = this.table.acquire<void>(Opcode.PUSH, slot, null);
    const before = socket.unsent;
    const bytes = lengths.reduce((sum, length) => sum + length, 0);
    const failed = socket.failed !== 0;
    this.sender.pushes.push(socket, buffers.length === 1 ? buffers[0]! : buffers, op);
    const waits = before + bytes > LIMIT;
    assert.equal(op.state, failed ? State.FAILED : waits ? State.PENDING : State.DONE);
    return op;
  }

  pushTo(length: number, port: number): void {
    const socket = this.sockets[DATAGRAM_SOCKET]!;
    socket.failed = 0;
    const buffer = this.buffer(length);
    const op = this.table.acquire<void>(Opcode.PUSH, DATAGRAM_SOCKET, null);
    this.expected[DATAGRAM_SOCKET]!.push(0);
    this.sender.pushes.pushTo(socket, buffer, { host: '127.0.0.1', port }, op);
  }

  /** The one call of a turn. `choices` says what the kernel makes of each entry. */
  submit(choices: Iterator<number>): void {
    do {
      this.sender.transmit();
      this.take(choices);
      this.sender.settle();
      this.ring.head = this.ring.words[0]!; // a poll reads what came
    } while (this.sender.crowded);
  }

  private take(choices: Iterator<number>): void {
    const { ring } = this;
    while (ring.pending > 0) {
      const k = (ring.submitted++ & ring.sqMask) << 4;
      const m = ring.sqes;
      const flags = (m[k]! >> 8) & 255;
      const [low, high] = [m[k + 8]!, m[k + 9]!];
      const slot = low >>> SLOT_SHIFT;
      assert.equal(m[k + 1], 100 + slot);
      assert.equal(flags & SqeFlag.FIXED_FILE, slot === 0 ? SqeFlag.FIXED_FILE : 0);
      const { bytes, to } = this.read(k);
      const choice = (choices.next().value as number | undefined) ?? 0;
      if ((low & KIND_MASK) === Kind.SEND) {
        assert.equal(m[k + 7]! & DONTWAIT, 0);
        assert.equal(flags & SqeFlag.CQE_SKIP, 0);
        this.waiting.push({ slot, generation: high, bytes, to });
        continue;
      }
      assert.equal(low & KIND_MASK, Kind.SEND_NOW);
      assert.equal(m[k + 7]! & DONTWAIT, DONTWAIT);
      assert.equal(flags & SqeFlag.CQE_SKIP, SqeFlag.CQE_SKIP);
      if (slot === DATAGRAM_SOCKET) this.takeDatagram(choice, bytes, to, low, high);
      else this.takeBytes(slot, choice, bytes, low, high);
    }
  }

  private takeDatagram(choice: number, bytes: Uint8Array, to: string, low: number, high: number): void {
    if (choice % 3 === 0) this.datagrams.push(`${to} ${bytes}`);
    else if (choice % 3 === 1) this.ring.complete(low, high, -ERRNO.EAGAIN);
    else this.ring.complete(low, high, -ERRNO.ECONNREFUSED);
  }

  private takeBytes(slot: number, choice: number, bytes: Uint8Array, low: number, high: number): void {
    if (this.broken.includes(slot)) return;
    this.space[slot] = Math.max(this.space[slot]!, choice * 16);
    const taken = Math.min(bytes.length, this.space[slot]!);
    this.space[slot]! -= taken;
    this.arrived[slot]!.push(...bytes.subarray(0, taken));
    if (taken < bytes.length) this.ring.complete(low, high, taken > 0 ? taken : -ERRNO.EAGAIN);
  }

  /** What an entry sends, and where to. */
  private read(k: number): { bytes: Uint8Array; to: string } {
    const m = this.ring.sqes;
    const { u8 } = this.region;
    if ((m[k]! & 255) === Op.SEND) {
      const bytes = u8.slice(m[k + 4]!, m[k + 4]! + m[k + 6]!);
      const name = m[k + 11]! === 0 ? null : decodeSockaddr(this.control.u8, m[k + 2]!);
      return { bytes, to: name === null ? '' : `${name.host}:${name.port}` };
    }
    assert.equal(m[k]! & 255, Op.SENDMSG);
    assert.equal(m[k + 5], this.control.addressHigh);
    const h = this.control.i32.subarray(m[k + 4]! >> 2);
    assert.equal(h[2], 0, 'no name on a stream');
    assert.equal(h[5], this.control.addressHigh);
    const parts: number[] = [];
    for (let i = 0, v = h[4]! >> 2; i < h[6]!; i++, v += 4) {
      const at = this.control.i32[v]!;
      parts.push(...u8.subarray(at, at + this.control.i32[v + 2]!));
    }
    return { bytes: Uint8Array.from(parts), to: '' };
  }

  /** The kernel finishes a send that had a completion: wholly, or with an error. */
  finish(choice: number): void {
    const [send] = this.waiting.splice(choice % Math.max(1, this.waiting.length), 1);
    if (send === undefined) return;
    const socket = this.sockets[send.slot]!;
    assert.equal(socket.generation, send.generation);
    if (send.slot === DATAGRAM_SOCKET && choice % 3 === 2) {
      this.sender.sent(socket, -ERRNO.ECONNREFUSED);
      return;
    }
    if (send.slot === DATAGRAM_SOCKET) this.datagrams.push(`${send.to} ${send.bytes}`);
    else this.arrived[send.slot]!.push(...send.bytes);
    this.sender.sent(socket, send.bytes.length);
  }
}

const step = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({ slot: fc.nat(SOCKETS - 2), lengths: fc.array(fc.nat(256), { minLength: 1, maxLength: 5 }) }),
  },
  { weight: 2, arbitrary: fc.record({ length: fc.nat(200), port: fc.integer({ min: 1, max: 3 }) }) },
  { weight: 3, arbitrary: fc.record({ choices: fc.array(fc.nat(40), { maxLength: 12 }) }) },
  { weight: 2, arbitrary: fc.record({ finish: fc.nat(7) }) },
);
type Step =
  | { slot: number; lengths: number[] }
  | { length: number; port: number }
  | { choices: number[] }
  | { finish: number };

function perform(world: World, steps: readonly Step[]): Operation<void>[] {
  const ops: Operation<void>[] = [];
  for (const one of steps) {
    if ('slot' in one) ops.push(world.push(one.slot, one.lengths));
    else if ('port' in one) world.pushTo(one.length, one.port);
    else if ('choices' in one) world.submit(one.choices[Symbol.iterator]());
    else world.finish(one.finish);
  }
  return ops;
}

/** The peers read everything. */
function drain(world: World): void {
  const generous = { next: () => ({ done: false as const, value: 3_000_000 }) };
  for (let i = 0; i < 2000 && world.sockets.some((socket) => socket.outHead >= 0); i++) {
    world.submit(generous);
    world.finish(0);
  }
}

describe('sending through io_uring', () => {
  it('loses, repeats and reorders nothing, whatever the kernel takes at once', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 80 }), (steps) => {
        const world = new World();
        const ops = perform(world, steps);
        drain(world);
        for (let slot = 0; slot < DATAGRAM_SOCKET; slot++) {
          assert.deepEqual(world.arrived[slot], world.expected[slot], `stream ${slot}`);
          assert.equal(world.sockets[slot]!.unsent, 0);
        }
        const { length } = world.expected[DATAGRAM_SOCKET]!;
        const { refused } = world.sender;
        assert.equal(world.datagrams.length + refused, length, 'every datagram was sent once or refused twice');
        for (const op of ops) assert.equal(op.state, State.DONE);
        assert.equal(world.heap.inUse, 0);
        world.control.close();
      }),
      { numRuns: 300 },
    );
  });

  it('sends the datagrams of a burst in order when none is refused', () => {
    const world = new World();
    for (let i = 0; i < 20; i++) world.pushTo(i, 1 + (i % 3));
    world.submit([0, 0, 0, 1, 1, 1, 1, 1][Symbol.iterator]());
    drain(world);
    const lengths = world.datagrams.map(
      (text) =>
        text
          .split(' ')[1]!
          .split(',')
          .filter((byte) => byte !== '').length,
    );
    assert.deepEqual(
      lengths,
      Array.from({ length: 20 }, (_, i) => i),
    );
    const ports = world.datagrams.map((text) => text.split(' ')[0]);
    assert.deepEqual(
      ports,
      Array.from({ length: 20 }, (_, i) => `127.0.0.1:${1 + (i % 3)}`),
    );
  });

  it('takes back a push that waits, and only one that has not begun', () => {
    const world = new World();
    const first = world.push(
      1,
      Array.from({ length: 20 }, () => 256),
    );
    const second = world.push(1, [100]);
    const third = world.push(1, [7]);
    world.sender.withdraw(world.sockets[1]!, second as Operation<unknown>);
    world.submit([1][Symbol.iterator]()); // sixteen bytes are on their way
    world.sender.withdraw(world.sockets[1]!, first as Operation<unknown>);
    drain(world);
    const { length } = world.arrived[1]!;
    assert.equal(length, 20 * 256 + 7);
    assert.deepEqual(world.arrived[1], [...world.expected[1]!.slice(0, 5120), ...world.expected[1]!.slice(5220)]);
    assert.equal(third.state, State.DONE);
    assert.equal(world.heap.inUse, 0);
  });

  it('fails pushes on a broken connection, those that wait and those that come after', () => {
    const world = new World();
    const socket = world.sockets[2]!;
    world.push(2, [200]);
    const waiting = world.push(
      2,
      Array.from({ length: 20 }, () => 256),
    );
    world.submit([0][Symbol.iterator]());
    world.submit([][Symbol.iterator]());
    assert.equal(world.waiting.length, 1, 'goes on with a completion');
    world.waiting.pop();
    world.sender.sent(socket, -ERRNO.ECONNRESET);
    assert.equal(waiting.state, State.FAILED);
    assert.equal((waiting.error as NodeJS.ErrnoException).code, 'ECONNRESET');
    assert.deepEqual(world.broken, [2]);
    const late = world.push(2, [1, 2, 3]);
    assert.equal((late.error as NodeJS.ErrnoException).code, 'ECONNRESET');
    assert.equal(world.heap.inUse, 0);
  });
});
