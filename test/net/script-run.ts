/**
 * Runs one packet script against one TCP in virtual time: segments in, segments expected out, calls between.
 * Whatever is sent must have been expected, at its time; in the end nothing may be left in the heap.
 */
import assert from 'node:assert/strict';
import { ERRNO, type ErrnoName, errnoName } from '../../src/errors.ts';
import { TimerWheel } from '../../src/kernel/timers.ts';
import { Flow } from '../../src/net/flow.ts';
import type { TcpConfig } from '../../src/net/tcp/config.ts';
import type { Connection } from '../../src/net/tcp/connection.ts';
import { TcpEvent, TcpState } from '../../src/net/tcp/constants.ts';
import type { Listener } from '../../src/net/tcp/listener.ts';
import { Tcp } from '../../src/net/tcp/tcp.ts';
import { TcpSegment } from '../../src/net/wire/tcp.ts';
import { Heap } from '../../src/ring/heap.ts';
import { localRegion } from '../../src/ring/region.ts';
import type { Script, ScriptLine, ScriptSegment } from './script-lines.ts';
import { buildSegment, FlatOutput, flagText, streamByte } from './segment-tools.ts';
import { viewOf } from './view.ts';

const LOCAL_PORT = 80;
const START_MS = 1000;
/** The peer's initial sequence number: near the end, so that every script wraps. */
const PEER_ISS = -3000;
const SIZE_CLASSES = [
  { bytes: 256, count: 512 },
  { bytes: 2048, count: 512 },
  { bytes: 65536, count: 32 },
];
/** Plain by default: a script names the options it is about. */
const SCRIPT_CONFIG: Partial<TcpConfig> = { timestamps: false, windowScaling: false, sack: false, firstPort: 80 };

interface Sent {
  readonly bytes: Uint8Array;
  readonly at: number;
  readonly port: number;
}

/** One end of the wire that the script plays. */
interface Peer {
  readonly port: number;
  iss: number | null;
  connection: Connection | null;
  /** Stream bytes the application has sent and read. */
  written: number;
  read: number;
}

class Recorder extends FlatOutput {
  readonly queue: Sent[] = [];
  now: () => number = () => 0;

  override sent(flow: Flow, bytes: Uint8Array): void {
    this.queue.push({ bytes, at: this.now(), port: flow.remotePort });
  }
}

export class ScriptRun {
  readonly #heap = new Heap(localRegion(8 << 20), { sizeClasses: SIZE_CLASSES, checked: true });
  readonly #output = new Recorder(this.#heap);
  readonly #wheel = new TimerWheel(START_MS);
  readonly #tcp: Tcp;
  readonly #peers = new Map<number, Peer>();
  #now = START_MS;
  #listener: Listener | null = null;
  readonly #segment = new TcpSegment();
  #seed = 1;

  constructor(config: Readonly<Record<string, string>>) {
    const parsed: Record<string, unknown> = { ...SCRIPT_CONFIG };
    for (const [key, value] of Object.entries(config)) {
      if (key === 'mtu') this.#output.mtuBytes = Number(value);
      else
        parsed[key] = value === 'true' ? true : value === 'false' ? false : /^\d+$/.test(value) ? Number(value) : value;
    }
    this.#output.now = () => this.#now;
    this.#tcp = new Tcp({
      heap: this.#heap,
      output: this.#output,
      timers: this.#wheel,
      secret: Int32Array.of(1, 2, 3, 4),
      random: () => (this.#seed = Math.imul(this.#seed, 1664525) + 1013904223),
      now: START_MS,
      config: parsed as Partial<TcpConfig>,
    });
  }

  run(script: Script): void {
    for (const line of script.lines) {
      try {
        this.#line(line);
      } catch (error) {
        const detail = error instanceof Error ? error.message : String(error);
        throw new Error(`line ${line.number}: ${line.text}\n${detail}`, { cause: error });
      }
    }
    this.#expectQuiet();
    this.#end();
  }

  #line(line: ScriptLine): void {
    if (line.verb === '>') {
      this.#expect(line);
      return;
    }
    const { time } = line;
    if (time.kind === 'whenever') throw new SyntaxError('only > may come whenever');
    this.#advance(time.kind === 'relative' ? this.#now + time.ms : START_MS + time.ms);
    this.#expectQuiet();
    if (line.segment !== null) {
      this.#inject(line.peer, line.segment);
      if (line.verb === '<') this.#tcp.flush();
      return;
    }
    this.#call(line);
    this.#tcp.flush();
  }

  /** Lets time pass, timer by timer; stops early where `untilSent` and something is sent. */
  #advance(to: number, untilSent = false): void {
    for (;;) {
      if (untilSent && this.#output.queue.length > 0) return;
      const next = this.#wheel.nextDeadline();
      if (next > to) break;
      this.#now = Math.max(this.#now, next);
      this.#tcp.setTime(this.#now);
      this.#wheel.advance(this.#now);
      this.#tcp.flush();
    }
    if (to === Number.POSITIVE_INFINITY) return;
    this.#now = Math.max(this.#now, to);
    this.#tcp.setTime(this.#now);
    this.#wheel.advance(this.#now);
  }

  #expectQuiet(): void {
    const sent = this.#output.queue[0];
    if (sent !== undefined) assert.fail(`nobody expected: ${this.#describe(sent)}`);
  }

  #expect(line: ScriptLine): void {
    const { time } = line;
    let at: number | null = null;
    if (time.kind === 'whenever') this.#advance(Number.POSITIVE_INFINITY, true);
    else {
      at = time.kind === 'relative' ? this.#now + time.ms : START_MS + time.ms;
      if (at > this.#now) this.#expectQuiet();
      this.#advance(at);
    }
    const sent = this.#output.queue.shift();
    if (sent === undefined) assert.fail('nothing was sent');
    const text = this.#describe(sent);
    if (at !== null)
      assert.ok(Math.abs(sent.at - at) <= 1, `sent at ${sent.at - START_MS}, not ${at - START_MS}: ${text}`);
    const peer = this.#peerByPort(sent.port);
    if (this.#peers.get(line.peer) !== undefined) assert.equal(peer, this.#peer(line.peer), `to another peer: ${text}`);
    this.#compare(peer, line.segment!, sent, text);
  }

  #compare(peer: Peer, wanted: ScriptSegment, sent: Sent, text: string): void {
    const segment = this.#segment;
    assert.ok(segment.parse(viewOf(sent.bytes), 0, sent.bytes.length));
    const got = segment.flags & ~8;
    // PSH is compared only where the script names it.
    const mask = (wanted.flags & 8) !== 0 ? 0xff : ~8;
    assert.equal(segment.flags & mask, wanted.flags & mask, `flags differ: ${text}`);
    if (peer.iss === null && (got & 2) !== 0) peer.iss = segment.seq;
    const base = this.#ourIss(peer);
    assert.equal((segment.seq - base) | 0, wanted.seq, `sequence number differs: ${text}`);
    assert.equal(segment.dataLength, wanted.length, `length differs: ${text}`);
    if (wanted.ack !== null) assert.equal((segment.ack - PEER_ISS) | 0, wanted.ack, `acknowledgement differs: ${text}`);
    if (wanted.window !== null) assert.equal(segment.window, wanted.window, `window differs: ${text}`);
    this.#compareOptions(peer, wanted, segment, text);
    const start = (segment.seq - base - 1) | 0;
    for (let i = 0; i < segment.dataLength; i++) {
      assert.equal(sent.bytes[segment.dataAt + i], streamByte(start + i), `byte ${i} of the data differs: ${text}`);
    }
  }

  #compareOptions(peer: Peer, wanted: ScriptSegment, segment: TcpSegment, text: string): void {
    const { options } = wanted;
    if (options === null) return;
    assert.equal(segment.mss === 0 ? null : segment.mss, options.mss, `MSS differs: ${text}`);
    assert.equal(segment.windowScale < 0 ? null : segment.windowScale, options.windowScale, `scale differs: ${text}`);
    assert.equal(segment.sackPermitted, options.sackPermitted, `SACK permitted differs: ${text}`);
    assert.equal(segment.hasTimestamps, options.timestamps !== null, `timestamps differ: ${text}`);
    if (options.timestamps !== null && options.timestamps !== 'any') {
      const offset = peer.connection?.tsOffset ?? 0;
      assert.equal((segment.tsVal - offset - START_MS) | 0, options.timestamps[0], `TSval differs: ${text}`);
      assert.equal(segment.tsEcr, options.timestamps[1], `TSecr differs: ${text}`);
    }
    const blocks: [number, number][] = [];
    for (let i = 0; i < segment.sackCount; i++) {
      blocks.push([(segment.sack[2 * i]! - PEER_ISS) | 0, (segment.sack[2 * i + 1]! - PEER_ISS) | 0]);
    }
    assert.deepEqual(blocks, options.sack ?? [], `SACK blocks differ: ${text}`);
  }

  #describe(sent: Sent): string {
    const segment = this.#segment;
    if (!segment.parse(viewOf(sent.bytes), 0, sent.bytes.length)) return 'a broken segment';
    const peer = this.#peerByPort(sent.port);
    const base = peer.iss ?? peer.connection?.iss ?? segment.seq;
    const ack = (segment.flags & 16) !== 0 ? ` ack ${(segment.ack - PEER_ISS) | 0}` : '';
    const seq = `${(segment.seq - base) | 0}(${segment.dataLength})`;
    const options: string[] = [];
    if (segment.mss > 0) options.push(`mss ${segment.mss}`);
    if (segment.windowScale >= 0) options.push(`ws ${segment.windowScale}`);
    if (segment.sackPermitted) options.push('sackok');
    if (segment.hasTimestamps) {
      options.push(`ts ${(segment.tsVal - (peer.connection?.tsOffset ?? 0) - START_MS) | 0} ${segment.tsEcr}`);
    }
    if (segment.sackCount > 0) {
      const edges = [...segment.sack.subarray(0, 2 * segment.sackCount)].map((edge) => (edge - PEER_ISS) | 0);
      options.push(`sack ${edges.map((edge, i) => (i % 2 === 0 ? `${edge}:` : `${edge} `)).join('')}`.trim());
    }
    return `${sent.at - START_MS} > ${flagText(segment.flags)} ${seq}${ack} win ${segment.window} <${options.join(', ')}>`;
  }

  #peer(number: number): Peer {
    let peer = this.#peers.get(number);
    if (peer === undefined) {
      peer = { port: 40000 + number, iss: null, connection: null, written: 0, read: 0 };
      this.#peers.set(number, peer);
    }
    return peer;
  }

  #peerByPort(port: number): Peer {
    return this.#peer(port - 40000);
  }

  #ourIss(peer: Peer): number {
    return peer.iss ?? peer.connection?.iss ?? 0;
  }

  #flow(peer: Peer): Flow {
    return new Flow().setLocal(Uint8Array.of(10, 0, 0, 1), LOCAL_PORT).setRemote(Uint8Array.of(10, 0, 0, 2), peer.port);
  }

  #inject(number: number, segment: ScriptSegment): void {
    const peer = this.#peer(number);
    const flow = this.#flow(peer);
    const { options } = segment;
    let timestamps: [number, number] | null = null;
    if (options?.timestamps === 'any') throw new SyntaxError('ts needs values');
    if (options?.timestamps != null) {
      const [value, echo] = options.timestamps;
      const offset = peer.connection?.tsOffset ?? this.#tcp.table.find(flow)?.tsOffset ?? 0;
      timestamps = [value, (echo + START_MS + offset) | 0];
    }
    const packet = buildSegment(
      this.#heap,
      flow,
      {
        sourcePort: peer.port,
        destinationPort: LOCAL_PORT,
        seq: (PEER_ISS + segment.seq) | 0,
        ack: segment.ack === null ? 0 : (this.#ourIss(peer) + segment.ack) | 0,
        flags: segment.flags,
        window: segment.window ?? 65535,
        mss: options?.mss ?? null,
        windowScale: options?.windowScale ?? null,
        sackPermitted: options?.sackPermitted ?? false,
        sack: options?.sack?.map(([a, b]) => [(this.#ourIss(peer) + a) | 0, (this.#ourIss(peer) + b) | 0]) ?? null,
        timestamps,
      },
      segment.length,
      (i) => streamByte(segment.seq - 1 + i),
      segment.badChecksum,
    );
    assert.ok(packet);
    this.#tcp.input(packet, packet.offset, packet.length, flow);
    packet.release();
    peer.connection ??= this.#tcp.table.find(flow);
  }

  #call(line: ScriptLine): void {
    const peer = this.#peer(line.peer);
    const [word, second, third] = line.words;
    const amount = Number(word);
    switch (line.verb) {
      case 'listen':
        this.#listener = this.#tcp.listen(new Flow().setLocal(new Uint8Array(4), LOCAL_PORT), word ? amount : 16);
        return;
      case 'unlisten':
        this.#listener!.close();
        return;
      case 'connect':
        peer.connection = this.#tcp.connect(this.#flow(peer));
        peer.iss = peer.connection.iss;
        return;
      case 'accept': {
        const connection = this.#listener!.accept();
        if (word === 'none') assert.equal(connection, null);
        else assert.equal(connection, peer.connection ?? 'no connection');
        return;
      }
      case 'established':
        this.#establish(peer, line.words);
        return;
      case 'forget':
        peer.connection = null;
        peer.iss = null;
        peer.read = 0;
        peer.written = 0;
        return;
      case 'send':
        this.#send(peer, amount, second === undefined ? null : Number(second));
        return;
      case 'read':
        this.#read(peer, word!);
        return;
      case 'shutdown':
        peer.connection!.shutdown();
        return;
      case 'close':
        peer.connection!.close();
        return;
      case 'abort':
        peer.connection!.abort();
        return;
      case 'discard':
        peer.connection!.discarding = true;
        return;
      case 'wait':
        return;
      case 'state':
        assert.equal(nameOf(TcpState, this.#state(peer)), word);
        return;
      case 'events':
        this.#events(peer, word!);
        return;
      case 'error':
        assert.equal(peer.connection!.error === 0 ? 'none' : errnoName(peer.connection!.error), word);
        return;
      case 'counter':
        assert.equal(this.#tcp.counters[word as keyof Tcp['counters']], Number(second));
        return;
      case 'is': {
        const value = peer.connection![word as keyof Connection];
        const wanted = second === 'true' ? true : second === 'false' ? false : Number(second);
        if (third === undefined) assert.equal(value, wanted, word);
        else assert.ok((value as number) >= Number(second) && (value as number) <= Number(third), `${word}: ${value}`);
        return;
      }
      case 'set':
        (peer.connection as unknown as Record<string, unknown>)[word!] =
          second === 'true' ? true : second === 'false' ? false : Number(second);
        return;
      case 'keepalive':
        peer.connection!.setKeepAlive(word !== 'off');
        return;
      case 'room':
        this.#output.available = amount;
        return;
      case 'too-big':
        this.#tcp.packetTooBig(this.#flow(peer), (this.#ourIss(peer) + amount) | 0, Number(second));
        return;
      case 'unreachable': {
        const errno = ERRNO[second as ErrnoName];
        this.#tcp.unreachable(this.#flow(peer), (this.#ourIss(peer) + amount) | 0, errno, third === 'hard');
        return;
      }
      default:
        throw new SyntaxError(`no such call: ${line.verb}`);
    }
  }

  /** The handshake in one line: `established [client] [win N] [mss N] [ws N] [sack] [ts] [rtt N]`; with ts the peer's value is 100. */
  #establish(peer: Peer, words: readonly string[]): void {
    const value = (name: string, or: number | null): number | null => {
      const at = words.indexOf(name);
      return at < 0 ? or : Number(words[at + 1]);
    };
    const client = words.includes('client');
    const ts = words.includes('ts');
    const rtt = value('rtt', 0)!;
    const syn = (flags: number, ack: number | null): ScriptSegment => ({
      flags,
      seq: 0,
      length: 0,
      ack,
      window: Math.min(65535, value('win', 65535)!),
      options: {
        mss: value('mss', 1000),
        windowScale: value('ws', null),
        sackPermitted: words.includes('sack'),
        sack: null,
        timestamps: ts ? [100, this.#now - START_MS] : null,
      },
      badChecksum: false,
    });
    const number = peer.port - 40000;
    if (client) {
      peer.connection = this.#tcp.connect(this.#flow(peer));
      peer.iss = peer.connection.iss;
      this.#output.queue.length = 0;
      this.#advance(this.#now + rtt);
      this.#inject(number, syn(18, 1));
      this.#tcp.flush();
    } else {
      this.#listener ??= this.#tcp.listen(new Flow().setLocal(new Uint8Array(4), LOCAL_PORT), 16);
      this.#inject(number, syn(2, null));
      peer.iss = peer.connection!.iss;
      this.#advance(this.#now + rtt);
      this.#inject(number, {
        ...syn(16, 1),
        seq: 1,
        options: ts
          ? { mss: null, windowScale: null, sackPermitted: false, sack: null, timestamps: [100, this.#now - START_MS] }
          : null,
        window: (value('win', 65535)! >> (value('ws', null) === null ? 0 : value('ws', 0)!)) & 65535,
      });
      assert.equal(this.#listener.accept(), peer.connection);
    }
    this.#output.queue.length = 0;
    assert.equal(peer.connection!.state, TcpState.ESTABLISHED);
    peer.connection!.takeEvents();
  }

  /** `send N [M]`: N bytes in buffers of M bytes (one buffer by default). */
  #send(peer: Peer, amount: number, each: number | null): void {
    let left = amount;
    while (left > 0) {
      const bytes = Math.min(left, each ?? amount, 65536);
      const buffer = this.#heap.alloc(bytes);
      for (let i = 0; i < bytes; i++) buffer.memory[buffer.offset + i] = streamByte(peer.written++);
      assert.ok(peer.connection!.send(buffer), 'send was refused');
      left -= bytes;
    }
  }

  #read(peer: Peer, what: string): void {
    const connection = peer.connection!;
    if (what === 'none') {
      assert.equal(connection.receiveQueue.count, 0);
      assert.ok(!connection.ended, 'the stream has ended');
      return;
    }
    if (what === 'eof') {
      assert.ok(connection.ended, 'the stream has not ended');
      return;
    }
    let left = Number(what);
    while (left > 0) {
      const buffer = connection.read();
      assert.ok(buffer, `${left} bytes are missing`);
      assert.ok(buffer.length <= left, `${buffer.length - left} bytes more than expected`);
      for (let i = 0; i < buffer.length; i++) {
        assert.equal(buffer.memory[buffer.offset + i], streamByte(peer.read++), `byte ${peer.read - 1} of the stream`);
      }
      left -= buffer.length;
      buffer.release();
    }
  }

  /** Of a connection in TIME_WAIT only the TCP knows whether it is still. */
  #state({ connection }: Peer): number {
    const { state, flow } = connection!;
    return state === TcpState.TIME_WAIT && this.#tcp.timeWait.find(flow) < 0 ? TcpState.CLOSED : state;
  }

  #events(peer: Peer, wanted: string): void {
    const events = peer.connection!.takeEvents();
    const names = Object.entries(TcpEvent).filter(([, bit]) => (events & bit) !== 0);
    assert.equal(names.map(([name]) => name).join('|') || 'none', wanted);
  }

  #end(): void {
    for (const connection of [...this.#tcp.table]) connection.abort();
    for (const { connection } of this.#peers.values()) connection?.close();
    this.#listener?.close();
    this.#tcp.timeWait.clear();
    assert.equal(this.#tcp.table.size, 0, 'connections are left');
    assert.equal(this.#tcp.outOfOrderHeld, 0, 'packets out of order are left');
    assert.equal(this.#wheel.size, 0, 'timers are left');
    assert.equal(this.#heap.inUse, 0, 'buffers are left');
  }
}

function nameOf(names: Readonly<Record<string, number>>, value: number): string {
  return Object.keys(names).find((name) => names[name] === value) ?? String(value);
}
