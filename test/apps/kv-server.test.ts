/** The key-value server on the simulated datapath: faults, limits, slow and broken clients, in virtual time. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { KvServer } from '../../src/apps/kv/server.ts';
import { type Faults, IDEAL } from '../../src/datapath/simulated/faults.ts';
import { SimulatedNetwork } from '../../src/datapath/simulated/network.ts';
import { simulatedKernel } from '../../src/datapath/simulated.ts';
import type { Connection, Coroutine, IpAddress, Kernel } from '../../src/index.ts';

const EPOCH = 1_750_000_000_000;
const SPLITTING: Faults = {
  ...IDEAL,
  latencyUs: [10, 300],
  split: 0.4,
  coalesce: 0.3,
  stall: 0.05,
  stallUs: [100, 5000],
};

function setUp({ faults = IDEAL, seed = 1 }: { faults?: Faults; seed?: number } = {}) {
  const network = new SimulatedNetwork({ faults, seed });
  const k = simulatedKernel(network, { checked: true });
  const peers = simulatedKernel(network, {
    checked: true,
    sizeClasses: [
      { bytes: 2048, count: 2048 },
      { bytes: 65536, count: 64 },
    ],
  });
  const server = new KvServer(k, { wallClock: () => EPOCH + network.now() });
  const listener = server.listen({ host: '127.0.0.1', port: 0 });
  const task = k.spawn(server.run());
  const address = listener.address as IpAddress;
  /** Ends the server and checks that nothing is left of it. */
  const end = () => {
    task.cancel();
    network.run(network.now() + 60_000);
    assert.equal(k.openQueues, 0);
    assert.equal(server.waiting, 0);
    assert.equal(server.behind.size, 0);
    assert.equal(k.heap.inUse, 0);
    assert.equal(k.scheduler.alive, 0);
  };
  return { network, k, peers, server, task, address, end };
}

/** A client that keeps all it gets; `reading` false leaves it unread. */
class Peer {
  conn: Connection | null = null;
  got = '';
  ended = false;
  error = '';
  reading = true;
  readonly #k: Kernel;
  readonly #address: IpAddress;

  constructor(k: Kernel, address: IpAddress, first = '') {
    this.#k = k;
    this.#address = address;
    k.spawn(this.#run(first));
  }

  *#run(first: string): Coroutine {
    try {
      this.conn = (yield* this.#k.connect(this.#address)).detach();
      if (first !== '') this.say(first);
      for (;;) {
        while (!this.reading) yield* this.#k.sleep(1);
        const buffer = yield* this.conn.pop();
        if (buffer === null) break;
        this.got += Buffer.from(buffer.bytes).toString('latin1');
        buffer.release();
      }
    } catch (error) {
      this.error = (error as { code: string }).code;
    }
    this.ended = true;
    this.conn?.close();
  }

  say(text: string): void {
    const { conn } = this;
    const bytes = Buffer.from(text, 'latin1');
    this.#k.spawn(
      (function* () {
        try {
          for (let at = 0; at < bytes.length; at += 60_000) yield* conn!.write(bytes.subarray(at, at + 60_000));
        } catch (error) {
          if (!/^(EPIPE|ECONNRESET|ECANCELED|EBADF)$/.test((error as { code: string }).code)) throw error;
        }
      })(),
    );
  }
}

function resp(...words: string[]): string {
  return `*${words.length}\r\n${words.map((word) => `$${word.length}\r\n${word}\r\n`).join('')}`;
}

function bulk(text: string): string {
  return `$${text.length}\r\n${text}\r\n`;
}

describe('KvServer', () => {
  it('answers pipelines, inline commands and several clients', () => {
    const { network, peers, address, end } = setUp();
    const ann = new Peer(peers, address, resp('SET', 'k', 'v') + resp('GET', 'k') + resp('INCR', 'n'));
    network.run(10);
    const bob = new Peer(peers, address, 'PING\r\nget k\r\n');
    network.run(20);
    assert.equal(ann.got, '+OK\r\n$1\r\nv\r\n:1\r\n');
    assert.equal(bob.got, '+PONG\r\n$1\r\nv\r\n');
    end();
    assert.ok(ann.ended && bob.ended);
  });

  it('holds nothing for a client that reads as fast as it asks', () => {
    const { network, k, peers, server, address, end } = setUp({ faults: { ...IDEAL, latencyUs: [10, 20] } });
    const peer = new Peer(peers, address, resp('PING'));
    network.run(10);
    const { inUse } = k.heap;
    for (let i = 0; i < 500; i++) {
      peer.say(resp('PING').repeat(1 + (i % 20)));
      network.run(20 + i);
    }
    assert.equal(peer.got.length, 7 * (1 + 500 * 10.5));
    for (let i = 0; i < 50; i++) peer.say(resp('PING')); // all in one turn, each in a buffer of its own
    network.run(1000);
    assert.equal(peer.got.length, 7 * (51 + 500 * 10.5));
    assert.deepEqual([server.timesBehind, server.waiting, k.heap.inUse], [0, 0, inUse]);
    end();
  });

  it('gives the same replies however the network cuts and delays requests', () => {
    const word = fc.string({ minLength: 0, maxLength: 20 });
    const size = fc.oneof(fc.integer({ min: 0, max: 50 }), fc.integer({ min: 1000, max: 90_000 }));
    const command = fc.oneof(
      fc.tuple(fc.constant('set'), word, size),
      fc.tuple(fc.constant('get'), word, size),
      fc.tuple(fc.constant('echo'), word, size),
      fc.tuple(fc.constant('ping'), word, size),
    );
    fc.assert(
      fc.property(fc.array(command, { minLength: 1, maxLength: 25 }), fc.integer(), (commands, seed) => {
        const { network, peers, address, end } = setUp({ faults: SPLITTING, seed });
        const values = new Map<string, string>();
        let requests = '';
        let replies = '';
        for (const [name, text, length] of commands) {
          const key = Buffer.from(text).toString('latin1');
          const value = 'x'.repeat(length);
          if (name === 'set') {
            values.set(key, value);
            requests += resp('SET', key, value);
            replies += '+OK\r\n';
          } else if (name === 'get') {
            const found = values.get(key);
            requests += resp('GET', key);
            replies += found === undefined ? '$-1\r\n' : bulk(found);
          } else if (name === 'echo') {
            requests += resp('ECHO', value);
            replies += bulk(value);
          } else {
            requests += 'PING\r\n';
            replies += '+PONG\r\n';
          }
        }
        const peer = new Peer(peers, address, requests);
        network.run(20_000);
        assert.equal(peer.got.length, replies.length);
        assert.ok(peer.got === replies);
        end();
      }),
      { numRuns: 60, seed: 21 },
    );
  });

  it('sends values larger than the whole heap, and lets others be served meanwhile', () => {
    const { network, k, peers, server, address, end } = setUp({ faults: SPLITTING });
    const value = 'v'.repeat(6_000_000);
    const large = new Peer(peers, address, resp('SET', 'large', value));
    network.run(5_000);
    assert.equal(large.got, '+OK\r\n');
    large.got = '';
    large.reading = false;
    large.say(resp('GET', 'large') + resp('PING'));
    network.run(6_000);
    assert.ok(server.behind.size === 1 && server.waiting > 4_000_000);
    const looking = new Peer(peers, address, resp('CLIENT', 'LIST'));
    network.run(6_050);
    const omem = [...looking.got.matchAll(/ omem=(\d+)/g)].map(([, bytes]) => Number(bytes));
    assert.ok(omem[0]! > 4_000_000 && omem[1] === 0, `${omem}`);
    assert.ok(k.heap.stats()[1]!.inUse < 64, 'small buffers stay free');
    const small = new Peer(peers, address, resp('PING'));
    network.run(6_100);
    assert.equal(small.got, '+PONG\r\n');
    large.reading = true;
    network.run(20_000);
    assert.ok(large.got === `${bulk(value)}+PONG\r\n`);
    assert.equal(server.waiting, 0);
    end();
  });

  it('runs on for a client that sends all before it reads, up to the soft limit, and then waits for it', () => {
    const { network, peers, server, address, end } = setUp();
    server.outputSoft = 1_000_000;
    const peer = new Peer(peers, address, resp('SET', 'k', 'v'.repeat(10_000)));
    network.run(10);
    peer.got = '';
    peer.reading = false;
    peer.say(resp('GET', 'k').repeat(1000));
    network.run(5_000);
    assert.ok(server.waiting > 500_000, `${server.waiting} wait`);
    assert.ok(server.waiting < 1_500_000, `${server.waiting} wait`);
    const calls = server.engine.table.byName('get')!.calls;
    assert.ok(calls > 80 && calls < 400, `${calls} were run`);
    peer.reading = true;
    network.run(30_000);
    assert.equal(peer.got.length, 1000 * bulk('v'.repeat(10_000)).length);
    assert.equal(server.engine.table.byName('get')!.calls, 1000);
    end();
  });

  it('closes a client that leaves more unread than the hard limit', () => {
    const { network, peers, server, address, end } = setUp();
    server.engine.config.set('client-output-buffer-limit', 'normal 1mb 512kb 60');
    const peer = new Peer(peers, address, resp('SET', 'k', 'v'.repeat(3_000_000)));
    network.run(1_000);
    const other = new Peer(peers, address, resp('PING'));
    peer.say(resp('GET', 'k'));
    network.run(2_000);
    assert.equal(peer.ended, true);
    assert.equal(server.outputLimitDisconnections, 1);
    assert.equal(other.got, '+PONG\r\n');
    assert.equal(server.clients, 1);
    end();
  });

  it('closes a client whose small replies add up to the hard limit, where there is no soft one', () => {
    const { network, peers, server, address, end } = setUp();
    server.engine.config.set('client-output-buffer-limit', 'normal 2mb 0 0');
    const peer = new Peer(peers, address);
    network.run(10);
    peer.reading = false;
    const request = resp('ECHO', 'e'.repeat(500)).repeat(100);
    let sent = 0;
    for (; sent < 20_000_000 && server.clients > 0; sent += request.length) {
      peer.say(request);
      network.run(10 + sent / request.length);
    }
    assert.equal(server.outputLimitDisconnections, 1);
    assert.ok(sent > 2_000_000 && sent < 4_000_000, `${sent} bytes were asked for`);
    peer.reading = true;
    end();
  });

  it('closes a client that takes nothing for the stated time, but not one that reads slowly', () => {
    const { network, peers, server, address, end } = setUp();
    server.engine.config.set('client-output-buffer-limit', 'normal 256mb 100kb 10');
    const writer = new Peer(peers, address, resp('SET', 'k', 'v'.repeat(1_000_000)));
    network.run(1_000);
    const never = new Peer(peers, address, resp('GET', 'k'));
    never.reading = false;
    const slow = new Peer(peers, address, resp('GET', 'k'));
    slow.reading = false;
    for (let s = 2; s < 30; s++) {
      slow.reading = true;
      network.run(s * 1000 + 20);
      slow.reading = false;
      network.run(s * 1000 + 999);
      if (s === 9) assert.equal(server.clients, 3);
    }
    assert.equal(server.outputLimitDisconnections, 1);
    assert.equal(server.clients, 2);
    slow.reading = true;
    network.run(40_000);
    assert.equal(slow.got.length, bulk('v'.repeat(1_000_000)).length);
    assert.equal(writer.ended, false);
    end();
  });

  it('refuses clients beyond maxclients in the words of redis', () => {
    const { network, peers, server, address, end } = setUp();
    server.engine.config.set('maxclients', '2');
    const peersOf = Array.from({ length: 4 }, () => new Peer(peers, address, resp('PING')));
    network.run(3_000);
    const refused = peersOf.filter((peer) => peer.ended);
    assert.deepEqual(
      refused.map((peer) => [peer.got, peer.error]),
      Array(2).fill(['-ERR max number of clients reached\r\n', '']),
    );
    assert.equal(server.rejected, 2);
    peersOf.find((peer) => !peer.ended)!.conn!.close();
    network.run(4_000);
    const next = new Peer(peers, address, resp('PING'));
    network.run(5_000);
    assert.equal(next.got, '+PONG\r\n');
    end();
  });

  it('closes idle clients after the timeout, and only those', () => {
    const { network, peers, server, address, end } = setUp();
    server.engine.config.set('timeout', '5');
    const idle = new Peer(peers, address, resp('PING'));
    const busy = new Peer(peers, address, resp('PING'));
    for (let s = 1; s < 12; s++) {
      network.run(s * 1000);
      busy.say(resp('PING'));
      assert.equal(idle.ended, s > 7 || idle.ended, `at ${s} s`);
      if (s < 5) assert.equal(idle.ended, false);
    }
    assert.equal(idle.ended, true);
    assert.equal(busy.ended, false);
    assert.equal(server.idleDisconnections, 1);
    end();
  });

  it('answers QUIT and protocol errors before it closes, whatever else was sent', () => {
    const { network, peers, address, end } = setUp({ faults: SPLITTING });
    const quit = new Peer(peers, address, resp('PING') + resp('QUIT') + resp('PING').repeat(5000));
    const wrong = new Peer(peers, address, `${resp('PING')}*1\r\n$x\r\n${'z'.repeat(50_000)}`);
    network.run(5_000);
    assert.deepEqual([quit.got, quit.ended, quit.error], ['+PONG\r\n+OK\r\n', true, '']);
    assert.equal(wrong.got, '+PONG\r\n-ERR Protocol error: invalid bulk length\r\n');
    assert.deepEqual([wrong.ended, wrong.error], [true, '']);
    end();
  });

  it('gives a client that has closed its half all its replies', () => {
    const { network, peers, address, end } = setUp({ faults: SPLITTING });
    const peer = new Peer(peers, address, resp('SET', 'k', 'v'.repeat(300_000)) + resp('GET', 'k').repeat(10));
    network.run(100);
    peers.spawn(
      (function* () {
        yield* peers.sleep(0);
        peer.conn!.end();
      })(),
    );
    network.run(20_000);
    assert.equal(peer.got.length, 5 + 10 * bulk('v'.repeat(300_000)).length);
    assert.deepEqual([peer.ended, peer.error], [true, '']);
    end();
  });

  it('kills clients at the word of another', () => {
    const { network, peers, server, address, end } = setUp();
    const victim = new Peer(peers, address, resp('CLIENT', 'ID'));
    network.run(10);
    const id = victim.got.trim().slice(1);
    const killer = new Peer(peers, address, resp('CLIENT', 'KILL', 'ID', id) + resp('CLIENT', 'KILL', 'ID', id));
    network.run(2_000);
    assert.equal(killer.got, ':1\r\n:0\r\n');
    assert.equal(victim.ended, true);
    assert.equal(server.clients, 1);
    end();
  });

  it('survives every mixture of faults without a leak', () => {
    fc.assert(
      fc.property(fc.integer(), (seed) => {
        const faults: Faults = { ...SPLITTING, reset: 0.02, windowBytes: [1000, 60_000] };
        const { network, peers, server, address, end } = setUp({ faults, seed });
        server.engine.config.set('client-output-buffer-limit', 'normal 256mb 100kb 5');
        const clients = Array.from({ length: 12 }, (_, i) => {
          const peer = new Peer(
            peers,
            address,
            resp('SET', `k${i}`, 'v'.repeat(i * 9000)) + resp('GET', `k${i}`).repeat(30),
          );
          peer.reading = i % 4 !== 0;
          return peer;
        });
        network.run(60_000);
        for (const peer of clients) peer.reading = true;
        network.run(90_000);
        for (const [i, { got, error, ended }] of clients.entries()) {
          const expected = `+OK\r\n${bulk('v'.repeat(i * 9000)).repeat(30)}`;
          assert.ok(expected.startsWith(got), 'what arrives is right');
          if (!ended && error === '') assert.equal(got.length, expected.length);
        }
        end();
      }),
      { numRuns: 15, seed: 33 },
    );
  });

  it('reports itself in INFO', () => {
    const { network, peers, address, end } = setUp();
    const first = new Peer(peers, address, resp('PING'));
    network.run(10);
    const peer = new Peer(peers, address, resp('INFO'));
    network.run(20);
    assert.match(peer.got, /\r\nconnected_clients:2\r\n/);
    assert.match(peer.got, /\r\ntotal_connections_received:2\r\n/);
    assert.match(peer.got, /\r\nrejected_connections:0\r\n/);
    assert.match(peer.got, /\r\n# Isthmus\r\ndatapath:simulated\r\n/);
    assert.match(peer.got, /\r\nused_cpu_user:\d+\.\d{6}\r\n/);
    assert.match(peer.got, /\r\ninstantaneous_ops_per_sec:\d+\r\n/);
    assert.equal(first.got, '+PONG\r\n');
    end();
  });
});
