/** AF_XDP sockets on a veth pair between two namespaces: bytes, rings, sharing, refusals. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { describe, it } from 'node:test';
import { XdpSocket } from '../../src/linux/af-xdp.ts';
import { xdpFeatures } from '../../src/linux/ethtool.ts';
import { close } from '../../src/linux/libc.ts';
import { mapArena } from '../../src/linux/memory.ts';
import { createNamespace } from '../../src/linux/namespace.ts';
import { NetworkSetup } from '../../src/linux/network-setup.ts';
import { AF_INET, writeSockaddr } from '../../src/linux/sockaddr.ts';
import { bind, listen, SOCK_DGRAM, SOCK_STREAM, sendto, socket } from '../../src/linux/socket.ts';
import { watchDescriptor } from '../../src/linux/watch.ts';
import { Protocol, XdpFilter } from '../../src/linux/xdp-filter.ts';
import { Heap, type HeapBuffer, heapBytes } from '../../src/ring/heap.ts';
import { type Ends, icmp, ipFrame, TCP, tcpSyn, udpFrame } from './frames.ts';
import { labFor, Station, until } from './lab-support.ts';

const FRAMES = 20_000;
const MANY = 250_000;

/** Ends of a flow between the two own addresses. */
function flow(client: Station, server: Station): Ends {
  const { side } = client;
  return { from: side.free4, to: server.side.free4, fromMac: side.mac, toMac: server.side.mac };
}

describe('AF_XDP', () => {
  for (const mode of ['native', 'generic'] as const) {
    it(`echoes frames of all lengths between two namespaces, byte by byte, ${mode} mode`, (t) => {
      const lab = labFor(t);
      if (lab === null) return;
      const server = new Station(t, lab.server, { mode });
      const client = new Station(t, lab.client, { mode });
      assert.deepEqual([server.filter.mode, client.filter.mode], [mode, mode]);
      assert.equal(server.socket.zeroCopy, false);
      server.filter.own(lab.server.free4);
      client.filter.own(lab.client.free4);
      const random = randomBytes(4096);
      const frames = Array.from({ length: 64 }, (_, i) => {
        const start = 13 * i;
        return udpFrame(flow(client, server), 1000 + i, 9, random.subarray(start, start + ((i * 73) % 1469) + 4));
      });
      const waiting: Uint8Array[] = [];
      let sent = 0;
      let got = 0;
      const deadline = performance.now() + 30_000;
      while (got < FRAMES) {
        assert.ok(performance.now() < deadline, `${got} of ${FRAMES}`);
        for (; sent < FRAMES && waiting.length < 32; sent++) {
          const frame = frames[sent % 64]!.slice();
          new DataView(frame.buffer).setUint32(42, sent);
          assert.ok(client.put(frame));
          waiting.push(frame);
        }
        assert.equal(client.socket.submit(), 0);
        server.each((memory, offset, length) => {
          const at = server.free.pop()!;
          memory.copyWithin(at, offset, offset + length);
          // Back to where it came from: MAC and IP addresses change places.
          for (let i = 0; i < 6; i++) [memory[at + i], memory[at + 6 + i]] = [memory[at + 6 + i]!, memory[at + i]!];
          for (let i = 26; i < 30; i++) [memory[at + i], memory[at + 4 + i]] = [memory[at + 4 + i]!, memory[at + i]!];
          server.socket.transmit(at, length);
        });
        assert.equal(server.socket.submit(), 0);
        client.each((memory, offset, length) => {
          const expected = waiting.shift()!;
          assert.equal(length, expected.length, `frame ${got}`);
          const same = Buffer.compare(memory.subarray(offset + 34, offset + length), expected.subarray(34)) === 0;
          assert.ok(same, `bytes of frame ${got}`);
          got++;
        });
        client.reap();
        server.reap();
      }
      // 64 entries to a ring: each went round some three hundred times.
      assert.equal(client.socket.receiveRing.index, FRAMES);
      assert.deepEqual(server.socket.statistics(), {
        receiveDropped: 0,
        receiveRingFull: 0,
        fillRingEmpty: 0,
        fillInvalid: 0,
        transmitInvalid: 0,
        transmitRingEmpty: server.socket.statistics().transmitRingEmpty,
      });
      assert.equal(server.filter.counters().redirected, FRAMES);
    });
  }

  it('moves half a million frames and loses neither a frame nor a chunk', (t) => {
    const lab = labFor(t);
    if (lab === null) return;
    const entries = { receiveEntries: 512, transmitEntries: 512, frames: 2048 };
    const server = new Station(t, lab.server, entries);
    const client = new Station(t, lab.client, entries);
    server.filter.own(lab.server.free4);
    client.filter.own(lab.client.free4);
    const there = udpFrame(flow(client, server), 1, 9, new Uint8Array(18));
    const back = udpFrame(flow(server, client), 9, 1, new Uint8Array(18));
    const seen = { server: 0, client: 0 };
    const held = process.memoryUsage().rss;
    const deadline = performance.now() + 60_000;
    const half = (station: Station, frame: Uint8Array, arrived: number): void => {
      for (let room = 64; room > 0 && station.sent < MANY && station.sent - arrived < 192; room--) station.put(frame);
      station.socket.submit();
      station.reap();
    };
    const count = (): void => {};
    while (seen.server < MANY || seen.client < MANY) {
      half(client, there, seen.server);
      half(server, back, seen.client);
      seen.server += server.each(count);
      seen.client += client.each(count);
      assert.ok(performance.now() < deadline, `${seen.server} and ${seen.client} of ${MANY}`);
    }
    for (const station of [server, client]) {
      while (station.socket.transmitting > 0) {
        station.socket.kick();
        station.reap();
        assert.ok(performance.now() < deadline, 'completions');
      }
      const inFillRing = station.socket.fillRing.entries - station.socket.fillRing.room();
      assert.equal(station.free.length + inFillRing, station.frames);
      assert.equal(new Set(station.free).size, station.free.length);
      const { receiveDropped, receiveRingFull, fillRingEmpty, transmitInvalid } = station.socket.statistics();
      assert.deepEqual({ receiveDropped, receiveRingFull, fillRingEmpty, transmitInvalid }, ZERO);
    }
    assert.ok(process.memoryUsage().rss - held < 64 << 20, 'memory grew');
  });

  it('takes the served ports and leaves ssh and echo requests to the kernel', async (t) => {
    const lab = labFor(t);
    if (lab === null) return;
    const { address4, mac, namespace, interfaceIndex } = lab.server;
    const server = new Station(t, lab.server);
    const client = new Station(t, lab.client);
    client.filter.own(lab.client.free4);
    server.filter.serve(address4, Protocol.TCP, 7000);
    const setup = namespace.run(() => new NetworkSetup());
    setup.setNeighbour(interfaceIndex, lab.client.free4, lab.client.mac);
    setup.close();
    const ssh = namespace.run(() => socket(AF_INET, SOCK_STREAM));
    t.after(() => close(ssh));
    bind(ssh, { host: address4, port: 22 });
    listen(ssh, 4);
    const ends: Ends = { from: lab.client.free4, to: address4, fromMac: lab.client.mac, toMac: mac };

    client.send(ipFrame(ends, 1, icmp(8, 0, new Uint8Array([1, 2, 3, 4, 5, 6]))));
    const reply = await client.receive((frame) => frame[23] === 1, 'echo reply');
    assert.deepEqual([...reply.slice(34, 35), ...reply.slice(38, 44)], [0, 1, 2, 3, 4, 5, 6]);

    client.send(ipFrame(ends, TCP, tcpSyn(ends, 4000, 22)));
    const accepted = await client.receive((frame) => frame[23] === TCP, 'SYN and ACK of the kernel');
    assert.deepEqual([accepted[35], accepted[47]], [22, 0x12]);

    client.send(ipFrame(ends, TCP, tcpSyn(ends, 4001, 7001)));
    const reset = await client.receive((frame) => frame[23] === TCP && frame[37] === (4001 & 255), 'RST of the kernel');
    assert.equal(reset[47]! & 4, 4);

    const syn = ipFrame(ends, TCP, tcpSyn(ends, 4002, 7000));
    client.send(syn);
    assert.deepEqual(await server.receive(() => true, 'SYN at the served port'), syn);
    assert.equal(server.filter.counters().redirected, 1);

    server.filter.unserve(address4, Protocol.TCP, 7000);
    client.send(ipFrame(ends, TCP, tcpSyn(ends, 4003, 7000)));
    await client.receive((frame) => frame[23] === TCP && frame[37] === (4003 & 255), 'RST once the port is not served');
  });

  it('falls back to generic mode on a device without native mode', async (t) => {
    if (labFor(t) === null) return;
    const namespace = createNamespace();
    t.after(() => namespace.close());
    const memory = mapArena(64 * 2048);
    const { filter, xsk, sender } = namespace.run(() => {
      const setup = new NetworkSetup();
      const { index } = setup.link('lo')!;
      setup.setLink(index, { up: true });
      setup.close();
      assert.equal(xdpFeatures(index)?.native ?? false, false);
      assert.throws(() => new XdpFilter(index, { mode: 'native' }), { code: 'EOPNOTSUPP' });
      const one = new XdpFilter(index);
      assert.equal(one.mode, 'generic');
      const xsk = new XdpSocket({ interfaceIndex: index, queue: 0, memory });
      return { filter: one, xsk, sender: socket(AF_INET, SOCK_DGRAM) };
    });
    t.after(() => {
      xsk.close();
      filter.close();
      close(sender);
      memory.close();
    });
    assert.match(filter.nativeRefusal!.message, /^EOPNOTSUPP.*native XDP/);
    filter.join(0, xsk.fd);
    filter.serve('127.0.0.1', Protocol.UDP, 5353);
    for (let i = 0; i < 32; i++) xsk.fill(i * 2048);
    xsk.publishFill();
    const arena = mapArena(4096);
    t.after(() => arena.close());
    arena.u8.set([1, 2, 3, 4, 5]);
    const length = writeSockaddr({ host: '127.0.0.1', port: 5353 }, arena.u8, 64, 'sendto');
    assert.equal(sendto(sender, arena.address, 5, 0, arena.address + 64, length), 5);
    await until(() => xsk.receive(8) > 0, 'the datagram');
    const at = xsk.receivedOffset(0);
    assert.equal(xsk.receivedLength(0), 14 + 20 + 8 + 5);
    assert.deepEqual([...memory.u8.subarray(at + 42, at + 47)], [1, 2, 3, 4, 5]);
  });

  it('wakes a watch when a frame is there', async (t) => {
    const lab = labFor(t);
    if (lab === null) return;
    const server = new Station(t, lab.server);
    const client = new Station(t, lab.client);
    server.filter.own(lab.server.free4);
    const frame = udpFrame(flow(client, server), 1, 2, new Uint8Array(30).fill(9));
    let got: Uint8Array[] = [];
    const woken = new Promise<void>((resolve) => {
      const watch = watchDescriptor(server.socket.fd, () => {
        got = got.concat(server.take());
        if (got.length < 3) client.send(frame);
        else {
          watch.close();
          resolve();
        }
      });
    });
    client.send(frame);
    await woken;
    assert.deepEqual(got, [frame, frame, frame]);
  });

  it('shares a UMEM among queues and sockets', async (t) => {
    const lab = labFor(t, { queues: 2 });
    if (lab === null) return;
    const server = new Station(t, lab.server);
    const { filter, memory, free } = server;
    filter.own(lab.server.free4);
    const second = new Station(t, lab.server, { queue: 1, filter, memory, free, shareWith: server.socket });
    const client = new Station(t, lab.client);
    const other = new Station(t, lab.client, {
      queue: 1,
      filter: client.filter,
      memory: client.memory,
      free: client.free,
      shareWith: client.socket,
    });
    assert.notEqual(second.socket.fillRing, server.socket.fillRing);
    const frame = (port: number): Uint8Array => udpFrame(flow(client, server), port, 2, new Uint8Array(20));
    client.send(frame(1)); // a veth keeps the number of the queue
    other.send(frame(2));
    assert.deepEqual(await server.receive(() => true, 'queue 0'), frame(1));
    assert.deepEqual(await second.receive(() => true, 'queue 1'), frame(2));

    const third = lab.server.namespace.run(
      () => new XdpSocket({ interfaceIndex: lab.server.interfaceIndex, queue: 0, memory, shareWith: server.socket }),
    );
    t.after(() => third.close());
    assert.equal(third.fillRing, server.socket.fillRing);
    filter.join(0, third.fd); // the queue's frames go to the third socket now
    client.send(frame(3));
    await until(() => third.receive(1) === 1, 'the third socket');
    assert.equal(third.receivedLength(0), frame(3).length);
    assert.equal(server.socket.receive(1), 0);
  });

  it('lays its UMEM over a part of the memory', async (t) => {
    const lab = labFor(t);
    if (lab === null) return;
    const memory = mapArena(1 << 20);
    t.after(() => memory.close());
    const { interfaceIndex, namespace, free4 } = lab.server;
    const part = { memory, offset: 65536, byteLength: 32 * 4096, frameBytes: 4096 };
    const xsk = namespace.run(() => new XdpSocket({ interfaceIndex, queue: 0, ...part }));
    const filter = namespace.run(() => new XdpFilter(interfaceIndex));
    t.after(() => {
      xsk.close();
      filter.close();
    });
    filter.join(0, xsk.fd);
    filter.own(free4);
    xsk.fill(65536 + 3 * 4096 + 5);
    xsk.publishFill();
    const client = new Station(t, lab.client);
    client.send(udpFrame({ from: '10.88.0.2', to: free4 }, 1, 2, new Uint8Array(99)));
    await until(() => xsk.receive(1) === 1, 'a frame');
    const at = xsk.receivedOffset(0);
    assert.ok(at >= 65536 + 3 * 4096 + 256 && at < 65536 + 4 * 4096, `${at}`);
    assert.throws(() => xsk.fill(65535), RangeError);
    assert.throws(() => xsk.fill(65536 + 32 * 4096), RangeError);
    assert.throws(() => xsk.transmit(65536 + 4000, 97), RangeError);
    assert.throws(() => xsk.transmit(65536, 0), RangeError);
  });

  it("receives into the heap's buffers, and sends from them", async (t) => {
    const lab = labFor(t);
    if (lab === null) return;
    const sizeClasses = [
      { bytes: 256, count: 16 },
      { bytes: 2048, count: 64 },
      { bytes: 16384, count: 3 },
    ];
    const heap = new Heap(mapArena(heapBytes(sizeClasses)), { sizeClasses });
    t.after(() => heap.region.close());
    const held = new Map<number, HeapBuffer>(); // by the chunk's offset, as a datapath keeps it
    const part = { memory: heap.region, offset: 3 * 16384, byteLength: 64 * 2048 };
    const { interfaceIndex, namespace, free4 } = lab.server;
    const { filter, xsk } = namespace.run(() => ({
      filter: new XdpFilter(interfaceIndex),
      xsk: new XdpSocket({ interfaceIndex, queue: 0, ...part }),
    }));
    t.after(() => {
      xsk.close();
      filter.close();
    });
    filter.join(0, xsk.fd);
    filter.own(free4);
    for (let i = 0; i < 8; i++) {
      const buffer = heap.alloc(2048);
      held.set(buffer.base, buffer);
      xsk.fill(buffer.base);
    }
    xsk.publishFill();
    const client = new Station(t, lab.client);
    client.filter.own(lab.client.free4);
    const frame = udpFrame({ from: lab.client.free4, to: free4 }, 1, 2, new Uint8Array(500).fill(3));
    client.send(frame);
    await until(() => xsk.receive(1) === 1, 'a frame');
    const at = xsk.receivedOffset(0);
    const buffer = held.get(at & -2048)!;
    buffer.offset = at;
    buffer.length = xsk.receivedLength(0);
    xsk.releaseReceived(1);
    assert.deepEqual(buffer.bytes, frame);
    const answer = udpFrame({ from: free4, to: lab.client.free4 }, 2, 1, new Uint8Array(500).fill(4));
    buffer.bytes.set(answer);
    xsk.transmit(buffer.offset, buffer.length);
    assert.equal(xsk.submit(), 0);
    assert.deepEqual(await client.receive(() => true, 'the answer'), answer);
    await until(() => xsk.completions(1) === 1, 'the completion');
    assert.equal(xsk.completedOffset(0), at);
    buffer.release();
  });

  it('refuses rings that hold what cannot be', (t) => {
    const lab = labFor(t);
    if (lab === null) return;
    const { socket: xsk } = new Station(t, lab.server);
    const corrupt = { code: 'ERR_RING_CORRUPT' };
    const { receiveRing: rx, completionRing, transmitRing: tx, fillRing } = xsk;
    for (const count of [65, -1, 0x7fffffff]) {
      rx.words[rx.producer] = count;
      assert.throws(() => xsk.receive(1), corrupt, `${count} received`);
    }
    rx.words[rx.producer] = 1;
    const frames = [
      [256, 0, 1793, 0],
      [256, 0, -1, 0],
      [256, 1, 60, 0],
      [256 * 2048, 0, 60, 0],
      [-2048, 0, 60, 0],
    ];
    for (const words of frames) {
      rx.words.set(words, rx.descriptors);
      assert.equal(xsk.receive(1), 1);
      assert.throws(() => xsk.receivedOffset(0), corrupt, words.join());
    }
    rx.words.set([256, 0, 1792, 0], rx.descriptors);
    assert.equal(xsk.receivedOffset(0), 256);
    rx.words[rx.producer] = 0;
    completionRing.words[completionRing.producer] = 1;
    completionRing.words.set([256 * 2048, 0], completionRing.descriptors);
    assert.equal(xsk.completions(8), 1);
    assert.throws(() => xsk.completedOffset(0), corrupt);
    completionRing.words[completionRing.producer] = -5;
    assert.throws(() => xsk.completions(8), corrupt);
    tx.words[tx.consumer] = 1;
    assert.throws(() => xsk.transmitRoom(), corrupt);
    fillRing.words[fillRing.consumer] = -1000;
    assert.throws(() => xsk.fillRoom(), corrupt);
  });

  it('and the kernel counts the descriptors that it refuses', (t) => {
    const lab = labFor(t);
    if (lab === null) return;
    const { socket: xsk } = new Station(t, lab.server);
    const { transmitRing: tx } = xsk;
    tx.words.set([0x7ffff000, 0, 60, 0], tx.descriptors);
    tx.index = 1;
    xsk.submit();
    assert.equal(xsk.statistics().transmitInvalid, 1);
    // Some kernels give it back as if it had been sent. It is none of ours, so it is refused.
    if (xsk.completions(1) === 1) assert.throws(() => xsk.completedOffset(0), { code: 'ERR_RING_CORRUPT' });
  });

  it('says what is wrong with a request', (t) => {
    const lab = labFor(t);
    if (lab === null) return;
    const memory = mapArena(64 * 2048);
    t.after(() => memory.close());
    const { interfaceIndex, namespace } = lab.server;
    const make = (options: object): XdpSocket =>
      namespace.run(() => new XdpSocket({ interfaceIndex, queue: 0, memory, ...options }));
    const first = make({});
    t.after(() => first.close());
    assert.throws(() => make({}), { code: 'EBUSY', message: /another AF_XDP socket has this queue/ });
    assert.throws(() => make({ queue: 9 }), { code: 'EINVAL', message: /no such queue/ });
    assert.throws(() => make({ interfaceIndex: 99 }), { code: 'ENODEV' });
    assert.throws(() => make({ receiveEntries: 100 }), RangeError);
    assert.throws(() => make({ frameBytes: 1024 }), RangeError);
    assert.throws(() => make({ offset: 2048 }), RangeError);
    assert.throws(() => make({ byteLength: 65 * 2048 }), RangeError);
    first.close();
    first.close();
    make({}).close(); // waits for the queue to be free again
    assert.throws(() => make({ zeroCopy: 'must' }), { code: 'EOPNOTSUPP', message: /no zero copy/ });
  });
});

const ZERO = { receiveDropped: 0, receiveRingFull: 0, fillRingEmpty: 0, transmitInvalid: 0 };
