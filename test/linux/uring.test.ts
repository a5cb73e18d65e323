/** io_uring under every set of set-up flags: queues, overflow, waiting, cancelling, files, buffers, and a whole echo. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Worker } from 'node:worker_threads';
import { EPOLLIN } from '../../src/linux/epoll.ts';
import { createEventfd, drainEventfd, signalEventfd } from '../../src/linux/eventfd.ts';
import { close } from '../../src/linux/libc.ts';
import { type MappedMemory, mapArena } from '../../src/linux/memory.ts';
import { MessageBatch } from '../../src/linux/message.ts';
import { AF_INET, AF_UNIX, readSockaddr, writeSockaddr } from '../../src/linux/sockaddr.ts';
import * as sys from '../../src/linux/socket.ts';
import { Ring, uringRefusal } from '../../src/linux/uring.ts';
import { CQE_BUFFER_SHIFT, CqeFlag, Feature, Op, Setup, SqeFlag } from '../../src/linux/uring-abi.ts';
import { ProvidedBuffers } from '../../src/linux/uring-buffers.ts';
import * as prep from '../../src/linux/uring-prep.ts';
import { type RingOptions, SETUP_STEPS } from '../../src/linux/uring-setup.ts';

const refusal = uringRefusal();
const skip = refusal === null ? false : refusal.message;

interface Completion {
  low: number;
  high: number;
  result: number;
  flags: number;
}

/** Takes what is there. */
function reap(ring: Ring): Completion[] {
  const got: Completion[] = [];
  const tail = ring.words[ring.cqTail]!;
  for (; ring.head !== tail; ring.head = (ring.head + 1) | 0) {
    const c = ring.cqes + ((ring.head & ring.cqMask) << 2);
    const [low, high, result, flags] = ring.words.subarray(c, c + 4) as unknown as [number, number, number, number];
    got.push({ low, high, result, flags });
  }
  return got;
}

/** Submits and waits until `count` completions have come, at most a few seconds. */
function collect(ring: Ring, count: number): Completion[] {
  const got: Completion[] = [];
  for (let tries = 0; got.length < count; tries++) {
    assert.ok(tries < 1000, `only ${got.length} of ${count} completions came`);
    ring.submitAndWait(1, 5_000_000);
    got.push(...reap(ring));
  }
  assert.equal(got.length, count);
  return got;
}

/** Set-ups this kernel takes, so that the ways of older kernels are exercised on newer ones. */
const setups: [string, RingOptions][] = SETUP_STEPS.map((step, i) => [`set-up step ${i}`, { steps: [step] }]);

for (const [name, options] of setups) {
  let why: string | false = skip;
  try {
    if (!skip) new Ring({ ...options, entries: 8 }).close();
  } catch (error) {
    why = (error as Error).message;
  }

  describe(`a ring by ${name}`, { skip: why }, () => {
    it('completes more operations than its submission queue holds', () => {
      const ring = new Ring({ ...options, entries: 8, completions: 64 });
      for (let i = 0; i < 50; i++) prep.prepNop(ring, i, -i);
      assert.ok(ring.pending <= 8);
      const got = collect(ring, 50);
      assert.deepEqual(
        got.map(({ low, high, result }) => [low, high, result]),
        Array.from({ length: 50 }, (_, i) => [i, i === 0 ? 0 : -i, 0]),
      );
      assert.equal(ring.room, 8);
      ring.close();
      ring.close();
    });

    it('loses no completion when the completion queue overflows', () => {
      const ring = new Ring({ ...options, entries: 8, completions: 8 });
      for (let i = 0; i < 200; i++) prep.prepNop(ring, i, 0);
      ring.submit(0);
      assert.ok(ring.overflowing);
      const got = collect(ring, 200);
      assert.deepEqual(new Set(got.map(({ low }) => low)).size, 200);
      assert.ok(!ring.overflowing);
      assert.equal(ring.lost, 0);
      ring.close();
    });

    it('waits no longer than asked', () => {
      const ring = new Ring({ ...options, entries: 8 });
      const before = performance.now();
      assert.equal(ring.submitAndWait(1, 20_000), 0);
      const waited = performance.now() - before;
      assert.ok(waited >= 19 && waited < 2000, `${waited} ms`);
      assert.equal(ring.submitAndWait(1, 0), 0);
      prep.prepNop(ring, 1, 0);
      assert.equal(ring.submitAndWait(1, 10_000_000), 1);
      assert.equal(reap(ring).length, 1);
      ring.close();
    });

    it('is content with fewer after a while', (t) => {
      const ring = new Ring({ ...options, entries: 8 });
      if (!(ring.features & Feature.MIN_TIMEOUT)) return t.skip('needs kernel 6.12');
      prep.prepNop(ring, 1, 0);
      const before = performance.now();
      assert.equal(ring.submitAndWait(4, 10_000_000, 20_000), 1);
      const waited = performance.now() - before;
      assert.ok(waited >= 19 && waited < 5000, `${waited} ms`);
      assert.equal(reap(ring).length, 1);
      for (let i = 0; i < 4; i++) prep.prepNop(ring, i, 0);
      assert.equal(ring.submitAndWait(4, 10_000_000, 5_000_000), 4);
      ring.close();
    });

    it('cancels by user data, by descriptor, everything', () => {
      const [a, b] = sys.socketpair();
      const ring = new Ring({ ...options, entries: 16 });
      const poll = (data: number): void => prep.prepPollAdd(ring, a, 0, EPOLLIN, data, 7);
      for (const data of [1, 2, 3, 4, 5]) poll(data);
      prep.prepCancelUserData(ring, 2, 7, 0, 100, 0);
      prep.prepCancelUserData(ring, 2, 8, 0, 101, 0);
      const first = collect(ring, 3);
      assert.deepEqual(
        first.map(({ low, result }) => [low, result]).sort((x, y) => x[0]! - y[0]!),
        [
          [2, -125],
          [100, 0],
          [101, -2],
        ],
      );
      prep.prepPollAdd(ring, b, 0, EPOLLIN, 6, 0);
      prep.prepCancelFd(ring, a, 0, 0, 102, 0);
      const second = collect(ring, 5);
      assert.equal(second.find(({ low }) => low === 102)?.result, 4);
      prep.prepCancelAll(ring, 0, 103, 0);
      assert.deepEqual(
        new Map(collect(ring, 2).map(({ low, result }) => [low, result])),
        new Map([
          [6, -125],
          [103, 1],
        ]),
      );
      poll(9);
      ring.submit(0);
      assert.ok(ring.cancelAll());
      assert.equal(collect(ring, 1)[0]?.result, -125);
      close(a);
      close(b);
      ring.close();
    });

    it('signals its eventfd, unless told not to', () => {
      const [a, b] = sys.socketpair();
      const ring = new Ring({ ...options, entries: 8 });
      const eventfd = createEventfd();
      ring.registerEventfd(eventfd);
      prep.prepPollAddMultishot(ring, a, 0, EPOLLIN, 1, 0);
      ring.submit(0);
      assert.equal(drainEventfd(eventfd), 0);
      const arena = mapArena(4096);
      sys.send(b, arena.address, 1, 0);
      assert.ok(drainEventfd(eventfd) > 0);
      assert.equal(collect(ring, 1)[0]!.flags & CqeFlag.MORE, CqeFlag.MORE);
      drainEventfd(eventfd);
      ring.setEventfdEnabled(false);
      sys.send(b, arena.address, 1, 0);
      collect(ring, 1);
      assert.equal(drainEventfd(eventfd), 0);
      ring.setEventfdEnabled(true);
      sys.send(b, arena.address, 1, 0);
      collect(ring, 1);
      assert.ok(drainEventfd(eventfd) > 0);
      ring.unregisterEventfd();
      for (const fd of [a, b, eventfd]) close(fd);
      ring.close();
      arena.close();
    });

    it('echoes: multishot accept and receive, provided buffers, sends without completions', () => echo(options));
    it('echoes over slots of the registered file table', () => echo({ ...options, entries: 8 }, true));
  });
}

/** Ten clients send and receive through a server that is nothing but a ring. */
function echo(options: RingOptions, direct = false): void {
  const ring = new Ring(options);
  const heap = mapArena(1 << 18);
  const client = mapArena(1 << 16);
  const buffers = new ProvidedBuffers(ring, { group: 3, entries: 16, addressHigh: heap.addressHigh });
  for (let id = 0; id < 16; id++) buffers.provide(id, id * 256, 256);
  buffers.publish();
  const listener = sys.socket(AF_INET, sys.SOCK_STREAM);
  sys.bind(listener, { host: '127.0.0.1', port: 0 });
  sys.setsockopt(listener, sys.IPPROTO_TCP, sys.TCP_NODELAY, 1); // inherited; else the client's delayed ACK is waited for
  sys.listen(listener, 64);
  const fixed = direct ? SqeFlag.FIXED_FILE : 0;
  if (direct) {
    ring.registerFiles(64);
    prep.prepAcceptMultishotDirect(ring, listener, 0, 1, 0);
  } else prep.prepAcceptMultishot(ring, listener, 0, sys.SOCK_CLOEXEC, 1, 0);

  let accepted = 0;
  let ended = 0;
  let starved = 0;
  const serve = (): void => {
    ring.submitAndWait(1, 2_000_000);
    for (const { low, high, result, flags } of reap(ring)) {
      if (low === 1) {
        assert.ok(result >= 0, `accept ${result}`);
        assert.ok(flags & CqeFlag.MORE);
        accepted++;
        prep.prepRecvMultishot(ring, result, fixed, 3, 2, result);
      } else if (low === 2 && result > 0) {
        assert.ok(flags & CqeFlag.BUFFER);
        const id = flags >>> CQE_BUFFER_SHIFT;
        const skipFlag = fixed | SqeFlag.CQE_SKIP;
        const msg = sys.MSG_DONTWAIT | sys.MSG_WAITALL | sys.MSG_NOSIGNAL;
        prep.prepSend(ring, high, skipFlag, heap.addressHigh, buffers.lows[id]!, result, msg, 3, high);
        ring.flush(); // the send is done here, so the buffer may go back at once
        buffers.recycle(id);
        if (!(flags & CqeFlag.MORE)) prep.prepRecvMultishot(ring, high, fixed, 3, 2, high);
      } else if (low === 2 && result === -105) {
        starved++;
        prep.prepRecvMultishot(ring, high, fixed, 3, 2, high);
      } else if (low === 2) {
        assert.equal(result, 0);
        ended++;
        if (direct) prep.prepCloseSlot(ring, high, 0, 4, high);
        else prep.prepClose(ring, high, 0, 4, high);
      } else assert.deepEqual([low, result], [4, 0]);
    }
    buffers.publish();
  };

  const address = sys.getsockname(listener);
  const clients = Array.from({ length: 10 }, () => {
    const fd = sys.socket(AF_INET, sys.SOCK_STREAM);
    sys.connect(fd, address);
    return fd;
  });
  while (accepted < 10) serve();
  for (let round = 0; round < 3; round++) {
    clients.forEach((fd, i) => {
      client.u8.fill(16 * round + i, 0, 1000);
      assert.equal(sys.send(fd, client.address, 1000, 0), 1000);
    });
    const received = clients.map(() => 0);
    while (received.some((n) => n < 1000)) {
      serve();
      clients.forEach((fd, i) => {
        for (;;) {
          const n = sys.recv(fd, client.address + 4096, 4096, 0);
          if (n < 0) break;
          assert.ok(client.u8.subarray(4096, 4096 + n).every((byte) => byte === 16 * round + i));
          received[i]! += n;
        }
      });
    }
    assert.deepEqual(
      received,
      clients.map(() => 1000),
    );
  }
  assert.ok(starved > 0, 'forty pieces at once for sixteen buffers: some receive must have found none');
  for (const fd of clients) close(fd);
  while (ended < 10) serve();
  buffers.close();
  close(listener);
  ring.close();
  heap.close();
  client.close();
}

describe('io_uring operations', { skip }, () => {
  const withRing = (body: (ring: Ring, arena: MappedMemory) => void): void => {
    const ring = new Ring({ entries: 32 });
    const arena = mapArena(1 << 16);
    body(ring, arena);
    ring.close();
    arena.close();
  };

  it('make sockets, connect, receive into given memory, shut down, close', () => {
    withRing((ring, arena) => {
      const listener = sys.socket(AF_INET, sys.SOCK_STREAM);
      sys.bind(listener, { host: '127.0.0.1', port: 0 });
      sys.listen(listener, 8);
      ring.registerFiles(8);
      prep.prepSocketDirect(ring, AF_INET, sys.SOCK_STREAM, 1, 0);
      const slot = collect(ring, 1)[0]!.result;
      assert.equal(slot, 0);
      const length = writeSockaddr(sys.getsockname(listener), arena.u8, 0, 'connect');
      prep.prepConnect(ring, slot, SqeFlag.FIXED_FILE, arena.addressHigh, 0, length, 2, 0);
      assert.equal(collect(ring, 1)[0]!.result, 0);
      const peer = sys.accept(listener);
      prep.prepFixedFdInstall(ring, slot, 3, 0);
      const installed = collect(ring, 1)[0]!.result;
      assert.deepEqual(sys.getpeername(installed), sys.getsockname(listener));
      close(installed);

      prep.prepRecv(ring, slot, SqeFlag.FIXED_FILE, arena.addressHigh, 4096, 100, 0, 4, 5);
      assert.equal(ring.submit(0), 0);
      arena.u8.set([9, 8, 7], 256);
      sys.send(peer, arena.address + 256, 3, 0);
      assert.deepEqual(collect(ring, 1), [{ low: 4, high: 5, result: 3, flags: 0 }]);
      assert.deepEqual([...arena.u8.subarray(4096, 4100)], [9, 8, 7, 0]);

      prep.prepShutdown(ring, slot, SqeFlag.FIXED_FILE, sys.SHUT_WR, 7, 0);
      assert.equal(collect(ring, 1)[0]!.result, 0);
      prep.prepCloseSlot(ring, slot, SqeFlag.CQE_SKIP, 8, 0);
      ring.submit(0);
      assert.equal(ring.available, 0);
      assert.equal(sys.recv(peer, arena.address, 65536, 0), 0);
      close(peer);
      close(listener);
    });
  });

  it('tell of a send that did not go through whole, and only of that', () => {
    withRing((ring, arena) => {
      const [a, b] = sys.socketpair();
      let short: Completion | undefined;
      for (let i = 0; short === undefined; i++) {
        assert.ok(i < 1000);
        const msg = sys.MSG_DONTWAIT | sys.MSG_WAITALL | sys.MSG_NOSIGNAL;
        prep.prepSend(ring, a, SqeFlag.CQE_SKIP, arena.addressHigh, 0, 60_000, msg, 6, i);
        ring.submit(0);
        short = reap(ring)[0];
        if (short) assert.deepEqual([short.low, short.high], [6, i]);
      }
      assert.ok(short.result === -11 || (short.result > 0 && short.result < 60_000), `${short.result}`);
      const sent = short.high * 60_000 + Math.max(0, short.result);
      let got = 0;
      for (let n = 0; n >= 0; n = sys.recv(b, arena.address, 65536, 0)) got += n;
      assert.equal(got, sent);
      close(a);
      close(b);
    });
  });

  it('put a descriptor into a chosen slot and keep others from it', () => {
    withRing((ring, arena) => {
      const [a, b] = sys.socketpair();
      ring.registerFiles(4);
      ring.reserveSlots(2, 2);
      ring.updateFile(0, a);
      close(a); // the table has its own reference
      prep.prepSend(ring, 0, SqeFlag.FIXED_FILE, arena.addressHigh, 0, 5, sys.MSG_NOSIGNAL, 1, 0);
      assert.equal(collect(ring, 1)[0]!.result, 5);
      for (let i = 0; i < 3; i++) prep.prepSocketDirect(ring, AF_UNIX, sys.SOCK_STREAM, i, 0);
      assert.deepEqual(
        collect(ring, 3).map(({ result }) => result),
        [2, 3, -23],
      );
      ring.updateFile(0, -1);
      assert.equal(sys.recv(b, arena.address, 9, 0), 5);
      assert.equal(sys.recv(b, arena.address, 9, 0), 0);
      close(b);
      assert.throws(() => ring.updateFile(9, -1), { code: 'EINVAL', syscall: 'io_uring_register' });
      assert.throws(() => ring.registerFiles(4), { code: 'EBUSY' });
    });
  });

  it('send without a copy and say when the memory is free', () => {
    withRing((ring, arena) => {
      const [a, b] = [sys.socket(AF_INET, sys.SOCK_DGRAM), sys.socket(AF_INET, sys.SOCK_DGRAM)];
      sys.bind(b, { host: '127.0.0.1', port: 0 });
      sys.connect(a, sys.getsockname(b));
      ring.registerBuffers([[arena.addressHigh, 0, 65536]]);
      arena.u8.fill(5, 0, 3000);
      prep.prepSendZc(ring, a, 0, arena.addressHigh, 0, 3000, sys.MSG_NOSIGNAL, 4, 0, 1, 0);
      const [sent, freed] = collect(ring, 2);
      assert.equal(sent!.result, 3000);
      assert.equal(sent!.flags & CqeFlag.MORE, CqeFlag.MORE);
      assert.equal(freed!.flags & CqeFlag.NOTIF, CqeFlag.NOTIF);
      const batch = new MessageBatch(1);
      batch.setVector(0, 0, arena.addressHigh, 0, 100);
      prep.prepSendmsgZc(ring, a, 0, batch.memory.addressHigh, batch.headerOffset(0), 0, 2, 0);
      assert.equal(collect(ring, 2)[0]!.result, 100);
      assert.equal(sys.recv(b, arena.address + 8192, 4096, 0), 3000);
      assert.equal(arena.u8[8192 + 2999], 5);
      assert.equal(sys.recv(b, arena.address + 8192, 4096, 0), 100);
      close(a);
      close(b);
      batch.close();
    });
  });

  it('receive datagrams with their senders, multishot, and answer by sendmsg', () => {
    withRing((ring, arena) => {
      const [a, b] = [sys.socket(AF_INET, sys.SOCK_DGRAM), sys.socket(AF_INET, sys.SOCK_DGRAM)];
      for (const fd of [a, b]) sys.bind(fd, { host: '127.0.0.1', port: 0 });
      const buffers = new ProvidedBuffers(ring, { group: 0, entries: 8, addressHigh: arena.addressHigh });
      for (let id = 0; id < 8; id++) buffers.provide(id, id * 2048, 2048);
      buffers.publish();
      const batch = new MessageBatch(2);
      batch.setNameLength(0, 32); // room for the name; multishot takes only the sizes from this header
      batch.setVectorCount(0, 0);
      prep.prepRecvmsgMultishot(ring, b, 0, batch.memory.addressHigh, batch.headerOffset(0), 0, 0, 1, 0);
      ring.submit(0);
      const to = writeSockaddr(sys.getsockname(b), batch.memory.u8, batch.nameOffset(1), 'send');
      for (const size of [1, 700]) {
        sys.sendto(a, arena.address + 32768, size, 0, batch.memory.address + batch.nameOffset(1), to);
        const [got] = collect(ring, 1);
        assert.ok(got!.flags & CqeFlag.MORE);
        const low = buffers.lows[got!.flags >>> CQE_BUFFER_SHIFT]!;
        const [nameLength, controlLength, payload, flags] = arena.i32.subarray(low >> 2, (low >> 2) + 4);
        assert.deepEqual([nameLength, controlLength, payload, flags], [16, 0, size, 0]);
        assert.deepEqual(readSockaddr(arena.u8, low + 16, nameLength!), sys.getsockname(a));
        // answer from where it lies: name and payload in the received buffer
        const header = batch.headerOffset(1) >> 2;
        batch.setVector(1, 0, arena.addressHigh, low + 16 + 32, size);
        batch.i32[header] = low + 16;
        batch.i32[header + 1] = arena.addressHigh;
        batch.i32[header + 2] = nameLength!;
        prep.prepSendmsg(ring, b, 0, batch.memory.addressHigh, batch.headerOffset(1), sys.MSG_NOSIGNAL, 2, 0);
        assert.equal(collect(ring, 1)[0]!.result, size);
        assert.equal(sys.recv(a, arena.address + 40960, 2000, 0), size);
      }
      buffers.close();
      prep.prepCancelFd(ring, b, 0, 0, 3, 0);
      collect(ring, 2);
      for (const fd of [a, b]) close(fd);
      batch.close();
    });
  });

  it('bundle what has arrived over several buffers', (t) => {
    withRing((ring, arena) => {
      if (!(ring.features & (1 << 14))) return t.skip('needs kernel 6.10');
      const [a, b] = sys.socketpair();
      const buffers = new ProvidedBuffers(ring, { group: 1, entries: 8, addressHigh: arena.addressHigh });
      for (let id = 0; id < 8; id++) buffers.provide(id, id * 64, 64);
      buffers.publish();
      arena.u8.fill(3, 4096, 4096 + 200);
      sys.send(a, arena.address + 4096, 200, 0);
      prep.prepRecvBundle(ring, b, 0, 1, 1, 0);
      let total = 0;
      let completions = 0;
      while (total < 200) {
        ring.submitAndWait(1, 5_000_000);
        for (const { result, flags } of reap(ring)) {
          assert.ok(result > 0, `${result}`);
          assert.equal((flags >>> CQE_BUFFER_SHIFT) * 64, total); // bundles follow each other in ring order
          total += result;
          completions++;
        }
      }
      assert.equal(total, 200);
      assert.ok(completions < 4, 'some completion covers several buffers');
      assert.ok(arena.u8.subarray(0, 200).every((byte) => byte === 3));
      close(a);
      close(b);
    });
  });

  it('keep time, alone and as a limit on another operation', () => {
    withRing((ring, arena) => {
      arena.i32.set([0, 0, 1_000_000, 0], 0); // 1 ms
      prep.prepTimeout(ring, arena.addressHigh, 0, 1, 0);
      assert.equal(collect(ring, 1)[0]!.result, -62);
      prep.prepTimeoutMultishot(ring, arena.addressHigh, 0, 3, 2, 0);
      assert.deepEqual(
        collect(ring, 3).map(({ result, flags }) => [result, flags & CqeFlag.MORE]),
        [
          [-62, 2],
          [-62, 2],
          [-62, 0],
        ],
      );
      const [a, b] = sys.socketpair();
      prep.prepPollAdd(ring, a, SqeFlag.LINK, EPOLLIN, 3, 0);
      prep.prepLinkTimeout(ring, arena.addressHigh, 0, 4, 0);
      const results = new Map(collect(ring, 2).map(({ low, result }) => [low, result]));
      assert.deepEqual(
        results,
        new Map([
          [3, -125],
          [4, -62],
        ]),
      ); // prettier-ignore
      arena.i32.set([3600, 0, 0, 0], 0);
      prep.prepTimeout(ring, arena.addressHigh, 0, 5, 6);
      prep.prepTimeoutRemove(ring, 5, 6, 7, 0);
      assert.deepEqual(
        new Map(collect(ring, 2).map(({ low, result }) => [low, result])),
        new Map([
          [5, -125],
          [7, 0],
        ]),
      ); // prettier-ignore
      close(a);
      close(b);
    });
  });

  it('read and write descriptors', () => {
    withRing((ring, arena) => {
      const eventfd = createEventfd();
      arena.i32[0] = 42;
      prep.prepWrite(ring, eventfd, 0, arena.addressHigh, 0, 8, -1, -1, 1, 0);
      assert.equal(collect(ring, 1)[0]!.result, 8);
      prep.prepRead(ring, eventfd, 0, arena.addressHigh, 64, 8, -1, -1, 2, 0);
      assert.equal(collect(ring, 1)[0]!.result, 8);
      assert.equal(arena.i32[16], 42);
      close(eventfd);
    });
  });

  it('are probed', () => {
    withRing((ring) => {
      const probe = ring.probe();
      for (const op of [Op.NOP, Op.ACCEPT, Op.RECV, Op.SEND, Op.ASYNC_CANCEL]) assert.ok(probe.supports(op));
      assert.ok(!probe.supports(127));
    });
  });

  it('show waiting work in shared memory when asked to', () => {
    const [a, b] = sys.socketpair();
    const ring = new Ring({ entries: 8, taskrunFlag: true });
    if (ring.flags & Setup.DEFER_TASKRUN) {
      const arena = mapArena(4096);
      prep.prepPollAdd(ring, a, 0, EPOLLIN, 1, 0);
      ring.submit(0);
      assert.ok(!ring.workWaiting);
      sys.send(b, arena.address, 1, 0);
      assert.ok(ring.workWaiting);
      assert.equal(ring.submit(0), 1);
      assert.ok(!ring.workWaiting);
      arena.close();
    }
    close(a);
    close(b);
    ring.close();
  });
});

describe('what cannot be', { skip }, () => {
  it('is told with a code and a hint', () => {
    assert.throws(() => new Ring({ entries: 3 }), RangeError);
    assert.throws(() => new Ring({ entries: 64, completions: 32 }), RangeError);
    assert.throws(() => new Ring({ entries: 131072 }), RangeError);
    assert.throws(() => new Ring({ steps: [1 << 30] }), {
      code: 'EINVAL',
      syscall: 'io_uring_setup',
      message: /too old; use --datapath kernel/,
    });
    const ring = new Ring({ entries: 8 });
    assert.throws(() => ring.registerFiles(1 << 24), { code: /EMFILE|EINVAL/ });
    assert.throws(() => ring.registerEventfd(-1), { code: 'EBADF', errno: -9 });
    const buffers = new ProvidedBuffers(ring, { group: 1, entries: 2, addressHigh: 0 });
    assert.throws(() => new ProvidedBuffers(ring, { group: 1, entries: 2, addressHigh: 0 }), { code: 'EEXIST' });
    assert.throws(() => new ProvidedBuffers(ring, { group: 1, entries: 3, addressHigh: 0 }), RangeError);
    assert.throws(() => new ProvidedBuffers(ring, { group: 65536, entries: 2, addressHigh: 0 }), RangeError);
    ring.close();
    buffers.close();
    assert.throws(() => ring.submit(0), { code: 'EBADF', syscall: 'io_uring_enter' });
  });
});

describe('rings in several threads', { skip }, () => {
  it('are independent, and one thread wakes another through an eventfd', async () => {
    const url = (file: string): string => JSON.stringify(new URL(`../../src/linux/${file}.js`, import.meta.url).href);
    const eventfd = createEventfd();
    const body = `
      const { parentPort } = require('node:worker_threads');
      (async () => {
        const { Ring } = await import(${url('uring')});
        const { prepPollAdd } = await import(${url('uring-prep')});
        const ring = new Ring({ entries: 8 });
        prepPollAdd(ring, ${eventfd}, 0, 1, 5, 6);
        ring.submit(0);
        parentPort.postMessage('armed');
        const ready = ring.submitAndWait(1, 5000000);
        const c = ring.cqes + ((ring.head & ring.cqMask) << 2);
        parentPort.postMessage([ready, ...ring.words.subarray(c, c + 4)]);
        ring.close();
      })();`;
    const worker = new Worker(body, { eval: true });
    const messages: unknown[] = [];
    const exited = new Promise((resolve, reject) => worker.once('exit', resolve).once('error', reject));
    worker.on('message', (message) => {
      messages.push(message);
      if (message === 'armed') assert.equal(signalEventfd(eventfd), 8);
    });
    await exited;
    assert.deepEqual(messages, ['armed', [1, 5, 6, 1, 0]]);
    close(eventfd);
  });
});
