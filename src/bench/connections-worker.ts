/**
 * Echo on a number of connections between two stacks in memory, in a process of its own; a program for fork, --expose-gc.
 * It touches only its memory, the clock and its channel to the parent.
 */
import type { Connection } from '../net/tcp/connection.ts';
import { TcpState } from '../net/tcp/constants.ts';
import type { SizeClass } from '../ring/heap.ts';
import { BackToBack } from './back-to-back.ts';
import type { Sample } from './bench.ts';
import { QueuesBackToBack } from './connections-queues.ts';

export interface ConnectionsRequest {
  readonly connections: number;
  /** With kernels, queues and coroutines above the stacks. */
  readonly queues: boolean;
  readonly seconds: number;
  readonly warmup: number;
}

const PORT = 7000;
const MESSAGE_BYTES = 64;
/** Messages under way at once, each on a connection drawn by chance, so that all are used alike. */
const UNDER_WAY = 64;
const BATCH = 64;
/** Connections begun together. */
const TOGETHER = 256;
const PORTS_EACH = 25_000;

const { gc } = globalThis as { gc?: () => void };

const SIZES: readonly SizeClass[] = [
  // What is sent stays until it is acknowledged, up to 40 ms later where a connection has nothing else to say.
  { bytes: 384, count: 1 << 17 },
  { bytes: 2240, count: 1024 },
];

process.on('message', (request: ConnectionsRequest) => {
  process.send!(request.queues ? measureQueues(request) : measure(request));
});

function measure({ connections, seconds, warmup }: ConnectionsRequest): Sample {
  const net = new BackToBack({
    sizeClasses: SIZES,
    clientAddresses: Math.ceil(connections / PORTS_EACH),
    tcp: { maxConnections: connections + 1, firstPort: 1024, lastPort: 65_535 },
  });
  const before = memory();
  const open = establish(net, connections);
  const after = memory();
  const echo = new Echo(net, open);
  echo.run(warmup);
  return sampleOf(connections, after - before, echo.run(seconds));
}

function measureQueues({ connections, seconds, warmup }: ConnectionsRequest): Sample {
  const net = new QueuesBackToBack(connections, MESSAGE_BYTES, SIZES);
  const before = memory();
  net.establish(connections, TOGETHER);
  const after = memory();
  net.start(UNDER_WAY, drawing());
  net.run(warmup);
  return sampleOf(connections, after - before, net.run(seconds));
}

function sampleOf(connections: number, bytes: number, messagesPerSecond: number): Sample {
  // Each stands at both ends.
  return { messagesPerSecond, nsPerMessage: 1e9 / messagesPerSecond, bytesPerConnection: bytes / connections / 2 };
}

/** Numbers by chance (xorshift32). */
function drawing(): () => number {
  let x = 1;
  return () => {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    return x >>> 0;
  };
}

/** Bytes in use, in V8's heap and outside of it. */
function memory(): number {
  gc?.();
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}

function establish(net: BackToBack, connections: number): Connection[] {
  const { client, server } = net;
  const listener = server.tcp.listen(net.listenFlow(PORT), TOGETHER);
  listener.noDelay = true;
  const open: Connection[] = [];
  while (open.length < connections) {
    const begun: Connection[] = [];
    while (begun.length < TOGETHER && open.length + begun.length < connections) {
      begun.push(net.connect(Math.floor((open.length + begun.length) / PORTS_EACH), PORT));
    }
    for (let accepted = 0; accepted < begun.length; ) {
      turn(net);
      for (let c = server.tcp.nextReady(); c !== null; c = server.tcp.nextReady()) c.takeEvents();
      for (let c = client.tcp.nextReady(); c !== null; c = client.tcp.nextReady()) c.takeEvents();
      while (listener.accept() !== null) accepted++;
    }
    for (const c of begun) if (c.state !== TcpState.ESTABLISHED) throw new Error(`a connection is in state ${c.state}`);
    for (const c of begun) c.noDelay = true;
    open.push(...begun);
  }
  return open;
}

/** Both ends take in and send what there is. */
function turn({ client, server }: BackToBack): void {
  const now = performance.now();
  server.receive(now, BATCH);
  server.tcp.flush();
  client.receive(now, BATCH);
  client.tcp.flush();
}

class Echo {
  readonly #net: BackToBack;
  readonly #open: readonly Connection[];
  /** Bytes of a message that has come in part, by connection. */
  readonly #partial: Int32Array;
  readonly #draw = drawing();

  constructor(net: BackToBack, open: readonly Connection[]) {
    this.#net = net;
    this.#open = open;
    this.#partial = new Int32Array(open.length);
    for (const [i, c] of open.entries()) c.user = i;
    for (let i = 0; i < UNDER_WAY; i++) this.#send();
  }

  #send(): void {
    const { heap } = this.#net;
    const buffer = heap.alloc(MESSAGE_BYTES);
    buffer.length = MESSAGE_BYTES;
    this.#open[this.#draw() % this.#open.length]!.send(buffer);
  }

  /** @returns messages per second */
  run(seconds: number): number {
    const { client, server } = this.#net;
    const start = performance.now();
    let answered = 0;
    let elapsed: number;
    do {
      for (let i = 0; i < 64; i++) {
        const now = performance.now();
        client.tcp.flush();
        server.receive(now, BATCH);
        for (let c = server.tcp.nextReady(); c !== null; c = server.tcp.nextReady()) {
          c.takeEvents();
          for (let buffer = c.read(); buffer !== null; buffer = c.read()) c.send(buffer);
        }
        server.tcp.flush();
        client.receive(now, BATCH);
        for (let c = client.tcp.nextReady(); c !== null; c = client.tcp.nextReady()) {
          c.takeEvents();
          for (let buffer = c.read(); buffer !== null; buffer = c.read()) {
            // Messages on one connection may come as one, or in parts.
            const index = c.user as number;
            let bytes = this.#partial[index]! + buffer.length;
            buffer.release();
            for (; bytes >= MESSAGE_BYTES; bytes -= MESSAGE_BYTES) {
              answered++;
              this.#send();
            }
            this.#partial[index] = bytes;
          }
        }
      }
      elapsed = performance.now() - start;
    } while (elapsed < seconds * 1000);
    return (answered * 1000) / elapsed;
  }
}
