import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseIp } from '../../src/address/ip.ts';
import { Flow } from '../../src/net/flow.ts';
import { wordsOfText } from '../../src/net/ip/words.ts';
import type { FaultOptions } from '../../src/net/middleware/faults.ts';
import type { TcpConfig } from '../../src/net/tcp/config.ts';
import type { Connection } from '../../src/net/tcp/connection.ts';
import type { Listener } from '../../src/net/tcp/listener.ts';
import type { Tcp } from '../../src/net/tcp/tcp.ts';
import { icmpFrame } from './frames.ts';
import { type Host, type HostOptions, World } from './hosts.ts';

const TCP: Partial<TcpConfig> = {
  timeWaitMs: 1000,
  finWait2Ms: 60_000,
  dataRetries: 30,
  synRetries: 10,
  synAckRetries: 10,
};

function byteAt(i: number, salt: number): number {
  return (Math.imul(i + salt, 2654435761) >>> 24) & 255;
}

/** One end of a stream that sends `total` bytes and checks what comes, as a program would: in turns. */
class End {
  readonly connection: Connection;
  readonly host: Host;
  readonly total: number;
  readonly salt: number;
  readonly peerSalt: number;
  sent = 0;
  received = 0;
  done = false;

  constructor(host: Host, connection: Connection, total: number, salt: number, peerSalt: number) {
    this.host = host;
    this.connection = connection;
    this.total = total;
    this.salt = salt;
    this.peerSalt = peerSalt;
  }

  turn(): void {
    const { connection } = this;
    for (let got = connection.read(); got !== null; got = connection.read()) {
      for (let i = 0; i < got.length; i++) {
        if (got.memory[got.offset + i] !== byteAt(this.received + i, this.peerSalt)) {
          assert.fail(`wrong byte at ${this.received + i}`);
        }
      }
      this.received += got.length;
      got.release();
    }
    while (this.sent < this.total && connection.writable) {
      const length = Math.min(1800, this.total - this.sent);
      const buffer = this.host.heap.tryAlloc(length + 124);
      if (buffer === null) return;
      // Now with room for headers in front, now without.
      buffer.offset = buffer.base + (this.sent % 3 === 0 ? 124 : 0);
      buffer.length = length;
      for (let i = 0; i < length; i++) buffer.memory[buffer.offset + i] = byteAt(this.sent + i, this.salt);
      if (!connection.send(buffer)) {
        buffer.release();
        return;
      }
      this.sent += length;
      if (this.sent === this.total) connection.shutdown();
    }
    if (connection.ended && this.sent === this.total && !this.done) {
      this.done = true;
      connection.close();
    }
  }
}

interface Pair {
  readonly world: World;
  readonly a: Host;
  readonly b: Host;
}

function pair(seed: number, options: HostOptions = {}, faults?: Omit<FaultOptions, 'seed'>): Pair {
  const world = new World(seed);
  const host = (n: number): Host => {
    const bad = faults === undefined ? {} : { faults: { ...faults, seed: seed * 2 + n } };
    return world.host({ addresses: [`10.0.0.${n}/24`, `fd00::${n}/64`], tcp: TCP, checked: false, ...options, ...bad });
  };
  return { world, a: host(1), b: host(2) };
}

function listen(tcp: Tcp, port: number): Listener {
  return tcp.listen(new Flow().setLocal(new Uint8Array(16), port), 16, true);
}

function connect(host: Host, to: string, port: number): Connection {
  const flow = new Flow().setRemote(parseIp(to)!.bytes, port);
  assert.equal(host.stack.output.selectSource(flow), 0);
  return host.tcp!.connect(flow);
}

/** Runs a stream each way between a client of `a` and a server of `b`, to the end; gives the simulated time it took. */
function stream({ world, a, b }: Pair, to: string, bytes: number, limitMs: number): number {
  const listener = listen(b.tcp!, 80);
  const began = world.now;
  const client = new End(a, connect(a, to, 80), bytes, 1, 2);
  let server: End | null = null;
  const turn = (): void => {
    const accepted = listener.accept();
    if (accepted !== null) server = new End(b, accepted, bytes, 2, 1);
    client.turn();
    server?.turn();
  };
  while (!(client.done && (server as End | null)?.done)) {
    assert.equal(client.connection.error, 0, `connection failed after ${client.received} bytes`);
    assert.ok(
      world.now - began < limitMs,
      `stuck: ${client.received} and ${(server as End | null)?.received} of ${bytes}`,
    );
    world.run(20, turn);
  }
  const took = world.now - began;
  assert.equal(client.received, bytes);
  assert.equal((server as unknown as End).received, bytes);
  listener.close();
  return took;
}

/** Everything is over: no connection, no buffer. */
function end({ world, a, b }: Pair): void {
  world.run(200_000);
  assert.equal(a.tcp!.table.size, 0);
  assert.equal(b.tcp!.table.size, 0);
  assert.equal(world.dispose(), 0);
}

test('a stream each way over the whole stack, IPv4 and IPv6', () => {
  for (const to of ['10.0.0.2', 'fd00::2']) {
    const hosts = pair(1);
    stream(hosts, to, 300_000, 10_000);
    assert.equal(hosts.a.count('arpRequestsOut') + hosts.a.count('solicitationsOut'), 1);
    end(hosts);
  }
});

test('to ourselves over loopback', () => {
  const world = new World(1);
  const a = world.host({ addresses: ['10.0.0.1/24'], tcp: TCP, checked: false });
  for (const to of ['127.0.0.1', '10.0.0.1', '::1']) stream({ world, a, b: a }, to, 200_000, 10_000);
  assert.equal(world.carried, 0);
  end({ world, a, b: a });
});

test('with buffers checked for use after they were freed, and a device that sends one frame at a time', () => {
  for (let seed = 1; seed <= 3; seed++) {
    const hosts = pair(seed, { checked: true }, { loss: 0.02, reordering: 0.02, delayMs: 1 });
    hosts.world.rate = 1;
    stream(hosts, '10.0.0.2', 25_000, 600_000);
    end(hosts);
  }
});

test('byte-exact with frames lost, doubled, out of order, corrupted and late, by seed', () => {
  let repaired = 0;
  for (let seed = 1; seed <= 60; seed++) {
    const rate = seed % 3 === 0 ? 0.05 : 0.02;
    const hosts = pair(
      seed,
      {},
      {
        loss: rate,
        duplication: rate,
        reordering: rate,
        corruption: rate,
        delayMs: seed % 4,
        jitterMs: seed % 2,
      },
    );
    stream(hosts, seed % 2 === 0 ? '10.0.0.2' : 'fd00::2', 60_000, 600_000);
    repaired += hosts.a.tcp!.counters.retransmits + hosts.b.tcp!.counters.retransmits;
    end(hosts);
  }
  assert.ok(repaired > 100, `${repaired} retransmissions`);
});

test('nobody there: the attempt to connect ends with EHOSTUNREACH; no route: at once', () => {
  const { world, a } = pair(1);
  const connection = connect(a, '10.0.0.77', 80);
  world.run(2900);
  assert.equal(connection.error, 0);
  world.run(200);
  assert.equal(connection.error, 113);
  const flow = new Flow().setRemote(parseIp('8.8.8.8')!.bytes, 80);
  assert.equal(a.stack.output.selectSource(flow), 101);
  assert.equal(world.dispose(), 0);
});

test('a reset for a port of nobody, and for a group nothing', () => {
  const hosts = pair(1);
  const connection = connect(hosts.a, '10.0.0.2', 81);
  hosts.world.settle();
  assert.equal(connection.error, 111);
  const flow = new Flow().setRemote(parseIp('10.0.0.255')!.bytes, 80);
  assert.equal(hosts.a.stack.output.selectSource(flow), 0);
  hosts.a.tcp!.connect(flow).close();
  hosts.a.tcp!.flush();
  hosts.world.settle();
  assert.equal(hosts.b.count('drop.tcpUnwanted'), 1);
  end(hosts);
});

test('path MTU: a router in between drops what is too long and says so; the stream goes on in smaller segments', () => {
  for (const [to, from, least] of [
    ['10.0.0.2', '10.0.0.1', 1000],
    ['fd00::2', 'fd00::1', 1280],
  ] as const) {
    const hosts = pair(1);
    let dropped = 0;
    let longest = 0;
    const router = to.includes(':') ? 'fd00::99' : '10.0.0.99';
    hosts.world.carry = (frame, host) => {
      longest = frame.length;
      if (frame.length - 14 <= least) return true;
      dropped++;
      const mac = host === hosts.a ? 1 : 2;
      const source = host === hosts.a ? from : to;
      const ends = { fromMac: 99, toMac: mac, from: router, to: source };
      const quote = frame.slice(14, 14 + 200);
      host.receive(to.includes(':') ? icmpFrame(ends, 2, 0, least, quote) : icmpFrame(ends, 3, 4, least, quote));
      return false;
    };
    stream(hosts, to, 60_000, 60_000);
    assert.ok(dropped > 0 && dropped < 60, `${dropped} dropped`);
    assert.ok(longest > 0);
    assert.equal(hosts.a.count('pathMtuLowered'), 1);
    assert.equal(hosts.b.count('pathMtuLowered'), 1);
    end(hosts);
  }
});

test('a forged "too big" about data that is not in flight changes nothing', () => {
  const hosts = pair(1);
  const listener = listen(hosts.b.tcp!, 80);
  const connection = connect(hosts.a, '10.0.0.2', 80);
  let quote = new Uint8Array(0);
  hosts.world.carry = (frame, host) => {
    if (host === hosts.a && frame[23] === 6) quote = frame.slice(14, 14 + 28);
    return true;
  };
  hosts.world.settle();
  quote.set([5, 220], 2);
  quote[24] = quote[24]! ^ 0x40;
  hosts.a.receive(icmpFrame({ fromMac: 9, toMac: 1, from: '10.0.0.99', to: '10.0.0.1' }, 3, 4, 600, quote));
  assert.equal(hosts.a.stack.output.mtu(connection.flow), 1500);
  assert.equal(hosts.a.count('drop.icmpQuote'), 1);
  connection.abort();
  hosts.world.settle();
  listener.accept()?.abort();
  listener.close();
  end(hosts);
});

test('a neighbour that answers in TCP is not asked again (RFC 4861 7.3.1)', () => {
  const hosts = pair(1);
  const { world, a, b } = hosts;
  const listener = listen(b.tcp!, 80);
  const client = connect(a, '10.0.0.2', 80);
  let server: Connection | null = null;
  const turn = (): void => {
    server ??= listener.accept();
    server?.read()?.release();
  };
  world.settle(turn);
  for (let second = 0; second < 200; second++) {
    assert.equal(client.send(a.buffer('tick')), true);
    world.run(1000, turn);
  }
  assert.equal(a.count('arpRequestsOut'), 1);
  client.abort();
  world.settle(turn);
  (server as Connection | null)?.abort();
  listener.close();
  end(hosts);
});

test('a device that takes little at a time slows the stream and loses nothing', () => {
  const hosts = pair(1);
  hosts.a.device.limit = 4;
  hosts.b.device.limit = 4;
  stream(hosts, '10.0.0.2', 100_000, 60_000);
  assert.equal(hosts.a.tcp!.counters.retransmits, 0);
  end(hosts);
});

test('hosts of different networks talk through a router’s address', () => {
  const world = new World(1);
  const a = world.host({ addresses: ['10.0.0.1/24'], tcp: TCP, checked: false });
  const b = world.host({ addresses: ['10.1.0.2/24'], tcp: TCP, checked: false });
  // Each believes the other's address to be on its link behind a router; the segment carries for both.
  a.stack.addRoute('0.0.0.0', 0, '10.0.0.254');
  b.stack.addRoute('0.0.0.0', 0, '10.1.0.254');
  a.stack.neighbours.set(4, 0, 0, 0, wordsOfText('10.0.0.254').w3, b.device.macHi, b.device.macLo, true);
  b.stack.neighbours.set(4, 0, 0, 0, wordsOfText('10.1.0.254').w3, a.device.macHi, a.device.macLo, true);
  stream({ world, a, b }, '10.1.0.2', 50_000, 10_000);
  assert.equal(a.count('arpRequestsOut'), 0);
  end({ world, a, b });
});
