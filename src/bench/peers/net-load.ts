/**
 * The load of `node:net` on itself: what a client written with Node's own module sees, in a closed loop as our load's.
 * A program for fork that answers as load-worker.ts does; it touches its sockets and its channel to the parent.
 */
import { connect, type Socket } from 'node:net';
import { LatencyHistogram, UNITS_PER_US } from '../../apps/load/histogram.ts';
import type { LoadReport } from '../../apps/load/report.ts';
import { parseOptions } from '../../apps/options.ts';
import { configOf, loadOptions, ownCpuNs, probeOf } from '../../cli/commands/load.ts';
import type { LoadAnswer, LoadRequest } from '../load-worker.ts';

process.on('message', (request: LoadRequest) => {
  void load(request)
    .catch((error: Error) => ({ error: error.message }))
    .then((answer) => process.send!(answer));
});
process.on('disconnect', () => process.exit());
process.on('SIGINT', () => {});

/** Sends `depth` messages, awaits them back, and so on, until `stopped`. */
class Client {
  readonly #socket: Socket;
  readonly #batch: Buffer;
  readonly #answered: (ms: number) => void;
  #left = 0;
  #since = 0;

  constructor(socket: Socket, bytes: number, answered: (ms: number) => void) {
    this.#socket = socket;
    this.#batch = Buffer.alloc(bytes, 0x61);
    this.#answered = answered;
    socket.on('data', (chunk: Buffer) => this.#take(chunk.length));
  }

  send(): void {
    this.#left = this.#batch.length;
    this.#since = performance.now();
    this.#socket.write(this.#batch);
  }

  #take(bytes: number): void {
    this.#left -= bytes;
    if (this.#left > 0) return;
    this.#answered(performance.now() - this.#since);
    this.send();
  }
}

async function load({ args }: LoadRequest): Promise<LoadAnswer> {
  const parsed = parseOptions(loadOptions, args, { positionals: ['TARGET'] });
  const { address, connections, depth, size, seconds, warmup } = configOf(parsed);
  if (!('port' in address)) throw new Error('node:net is driven over TCP only');
  const pid = parsed.values['server-pid'];
  const server = pid === undefined ? undefined : await probeOf(pid);
  const histogram = new LatencyHistogram();
  let measuring = false;
  const sockets = await Promise.all(
    Array.from({ length: connections }, () => opened(connect({ ...address, noDelay: true }))),
  );
  const failed = new Promise<never>((_, reject) => {
    for (const socket of sockets) {
      socket.once('error', reject);
      socket.once('end', () => reject(new Error('the server closed a connection')));
    }
  });
  failed.catch(() => {});
  for (const socket of sockets) {
    const client = new Client(socket, depth * size, (ms) => {
      if (measuring) histogram.record(ms * 1000 * UNITS_PER_US, depth);
    });
    client.send();
  }
  try {
    await Promise.race([sleep(warmup), failed]);
    const before = { own: ownCpuNs(), server: server?.cpuNs() ?? 0, time: performance.now() };
    measuring = true;
    await Promise.race([sleep(seconds), failed]);
    measuring = false;
    const took = (performance.now() - before.time) / 1000;
    const cost = (ns: number) => ({ cpu: ns / 1e9 / took, cpuNsPerMessage: ns / Math.max(1, histogram.count) });
    const report = {
      messages: histogram.count,
      messagesPerSecond: histogram.count / took,
      p50Us: histogram.percentileUs(50),
      p99Us: histogram.percentileUs(99),
      p999Us: histogram.percentileUs(99.9),
      errors: { refused: 0, reset: 0, closed: 0, timeout: 0, unanswered: 0, wrong: 0, protocol: 0, other: 0 },
      load: cost(ownCpuNs() - before.own),
      ...(server && { server: { ...cost(server.cpuNs() - before.server), rssBytes: server.rssBytes() } }),
    };
    return { report: report as LoadReport };
  } finally {
    for (const socket of sockets) socket.destroy();
  }
}

function opened(socket: Socket): Promise<Socket> {
  return new Promise((resolve, reject) => {
    socket.once('error', reject);
    socket.once('connect', () => {
      socket.off('error', reject);
      resolve(socket);
    });
  });
}

function sleep(seconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, seconds * 1000));
}
