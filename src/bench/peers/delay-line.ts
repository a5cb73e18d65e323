/**
 * A wire of a given length: a TCP proxy on loopback where every byte arrives a fixed time after it was sent, in order, both ways.
 * It runs in a thread of its own, so that neither its spinning nor its copying is in the way of who measures.
 */
import { once } from 'node:events';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';

/** Timers fire up to this much late: the rest is spun. */
const TIMER_SLACK_MS = 1.5;
/** Bytes on the wire one way at most; then the sender is held back. */
const MAX_IN_FLIGHT = 64 * 1024 * 1024;

export interface DelayLineOptions {
  readonly port: number;
  readonly host?: string;
  /** Address to listen on. Default loopback. */
  readonly listenHost?: string;
  /** Milliseconds from one end to the other; the round trip has twice this. */
  readonly oneWayMs: number;
}

/** Arrives at `due` (performance.now()); null: the end of the stream. */
interface Piece {
  readonly due: number;
  readonly to: Socket;
  readonly from: Socket;
  readonly bytes: Buffer | null;
}

export interface DelayLine {
  /** Connect here instead. */
  readonly port: number;
  setOneWayMs(oneWayMs: number): void;
  /** Cuts every connection, as a network that fails; new ones work. */
  cut(): void;
  close(): Promise<void>;
}

/** Starts a line to `port` in a thread of its own. */
export async function startDelayLine(options: DelayLineOptions): Promise<DelayLine> {
  const worker = new Worker(new URL(import.meta.url), { workerData: { delayLine: options } });
  const [port] = (await once(worker, 'message')) as [number];
  return {
    port,
    setOneWayMs: (oneWayMs) => worker.postMessage({ oneWayMs }),
    cut: () => worker.postMessage({ cut: true }),
    close: async () => {
      await worker.terminate();
    },
  };
}

class Line {
  #oneWayMs: number;
  /** Sorted by due, as the delay is the same for all (a changed delay is kept in order by `#put`). */
  #pieces: Piece[] = [];
  #head = 0;
  #armed = false;
  readonly #inFlight = new Map<Socket, number>();
  readonly #sockets = new Set<Socket>();

  constructor(oneWayMs: number) {
    this.#oneWayMs = oneWayMs;
  }

  set oneWayMs(value: number) {
    this.#oneWayMs = value;
  }

  listen(port: number, host: string, listenHost: string): Server {
    const server = createServer({ noDelay: true, allowHalfOpen: true }, (near) => {
      const far = connect({ port, host, noDelay: true, allowHalfOpen: true });
      this.#join(near, far);
      this.#join(far, near);
    });
    return server.listen(0, listenHost);
  }

  cut(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  #join(from: Socket, to: Socket): void {
    this.#sockets.add(from);
    from.on('data', (bytes: Buffer) => {
      this.#put({ due: performance.now() + this.#oneWayMs, from, to, bytes });
      const inFlight = (this.#inFlight.get(from) ?? 0) + bytes.length;
      this.#inFlight.set(from, inFlight);
      if (inFlight > MAX_IN_FLIGHT) from.pause();
    });
    from.on('end', () => this.#put({ due: performance.now() + this.#oneWayMs, from, to, bytes: null }));
    from.on('error', () => to.destroy());
    from.on('close', () => {
      this.#sockets.delete(from);
      this.#inFlight.delete(from);
      if (from.errored !== null || !from.readableEnded) to.destroy();
    });
  }

  #put(piece: Piece): void {
    const last = this.#pieces[this.#pieces.length - 1];
    const due = last !== undefined && this.#head < this.#pieces.length ? Math.max(last.due, piece.due) : piece.due;
    this.#pieces.push(due === piece.due ? piece : { ...piece, due });
    this.#arm();
  }

  #arm(): void {
    const first = this.#pieces[this.#head];
    if (this.#armed || first === undefined) return;
    this.#armed = true;
    const left = first.due - performance.now();
    if (left > TIMER_SLACK_MS + 1) setTimeout(() => this.#deliver(), Math.floor(left - TIMER_SLACK_MS));
    else setImmediate(() => this.#deliver());
  }

  #deliver(): void {
    this.#armed = false;
    const now = performance.now();
    for (let piece = this.#pieces[this.#head]; piece !== undefined && piece.due <= now; ) {
      this.#head++;
      this.#arrive(piece);
      piece = this.#pieces[this.#head];
    }
    if (this.#head > 256 && this.#head * 2 > this.#pieces.length) {
      this.#pieces = this.#pieces.slice(this.#head);
      this.#head = 0;
    }
    this.#arm();
  }

  #arrive({ from, to, bytes }: Piece): void {
    if (to.destroyed) return;
    if (bytes === null) {
      to.end();
      return;
    }
    to.write(bytes);
    const inFlight = (this.#inFlight.get(from) ?? 0) - bytes.length;
    if (this.#inFlight.has(from)) this.#inFlight.set(from, inFlight);
    if (from.isPaused() && inFlight < MAX_IN_FLIGHT / 2) from.resume();
  }
}

if (!isMainThread && workerData?.delayLine !== undefined) {
  const options = workerData.delayLine as DelayLineOptions;
  const line = new Line(options.oneWayMs);
  const server = line.listen(options.port, options.host ?? '127.0.0.1', options.listenHost ?? '127.0.0.1');
  parentPort?.on('message', (message: { oneWayMs?: number; cut?: true }) => {
    if (message.oneWayMs !== undefined) line.oneWayMs = message.oneWayMs;
    if (message.cut) line.cut();
  });
  server.once('listening', () => parentPort?.postMessage((server.address() as { port: number }).port));
}
