/**
 * A UDP relay in the manner of TURN (RFC 8656; Demikernel's evaluation, SOSP'21 section 7): each client that sends to
 * the front gets a session with a socket of its own towards the partner, and what comes back there returns to it.
 * It touches only the kernel it is given; the buffer that arrives is the buffer that leaves.
 */
import { ERRNO, systemError } from '../errors.ts';
import type { Coroutine, HeapBuffer, IpAddress, Kernel, UdpSocket } from '../index.ts';
import { CoroutineClass } from '../index.ts';
import { defineApp } from './app.ts';
import { concernsOneDatagram } from './datagram.ts';
import { SessionTable } from './relay-sessions.ts';

export const relay = defineApp({
  name: 'relay',
  summary: 'Passes UDP datagrams on to a partner, and its answers back to each client.',
  options: {
    from: {
      type: 'integer',
      value: 'PORT',
      required: true,
      min: 0,
      max: 65535,
      help: 'Port clients send to; 0 picks one.',
    },
    host: { type: 'string', value: 'ADDRESS', default: '127.0.0.1', help: 'Address to listen on.' },
    to: { type: 'string', value: 'ADDRESS:PORT', required: true, help: 'The partner.' },
    'max-sessions': {
      type: 'integer',
      value: 'N',
      default: 1024,
      min: 1,
      max: 1 << 20,
      help: 'Most clients at once; the datagrams of others are dropped.',
    },
    // RFC 4787, REQ-5: at least two minutes
    expiry: { type: 'seconds', value: 'TIME', default: 120, help: 'A session without datagrams ends after this time.' },
  },
  *main(k, options, context) {
    const running = new Relay(k, {
      from: options.from,
      host: options.host,
      to: parseEndpoint(options.to),
      maxSessions: options['max-sessions'],
      expiry: options.expiry,
      reusePort: context.cores > 1,
    });
    context.ready([{ protocol: 'udp', address: running.front.address }], `to ${options.to}`);
    yield* running.run();
  },
});

/** `127.0.0.1:7000` or `[::1]:7000`. @throws IsthmusError EINVAL where it is neither */
export function parseEndpoint(text: string): IpAddress {
  const match = /^(?:\[([^\]]+)\]|([^:[\]]+)):([0-9]{1,5})$/.exec(text);
  const port = Number(match?.[3]);
  if (match === null || !(port >= 1 && port <= 65535)) {
    throw systemError(ERRNO.EINVAL, 'relay', `--to ${text}`, 'it must be ADDRESS:PORT');
  }
  return { host: (match[1] ?? match[2])!, port };
}

export interface RelayOptions {
  readonly from: number;
  readonly host: string;
  readonly to: IpAddress;
  readonly maxSessions: number;
  /** Seconds. */
  readonly expiry: number;
  readonly reusePort?: boolean;
}

export class Relay {
  /** Datagrams sent on to the partner, and back to clients. */
  forwarded = 0;
  returned = 0;
  /** Datagrams dropped because no session was free, or no socket for one. */
  refused = 0;
  /** Datagrams that could not be sent, or that the partner's host rejected (ICMP). */
  undelivered = 0;
  readonly front: UdpSocket;
  readonly #kernel: Kernel;
  readonly #to: IpAddress;
  readonly #table: SessionTable;
  readonly #sockets: (UdpSocket | null)[] = [];
  readonly #expiryMs: number;

  /** @throws IsthmusError EADDRINUSE, EACCES, EADDRNOTAVAIL (bind(2)); RangeError for a bad limit */
  constructor(k: Kernel, { from, host, to, maxSessions, expiry, reusePort = false }: RelayOptions) {
    if (!(expiry > 0)) throw new RangeError(`bad expiry: ${expiry} seconds`);
    this.#kernel = k;
    this.#to = to;
    this.#expiryMs = expiry * 1000;
    this.#table = new SessionTable(maxSessions, (Math.random() * 2 ** 32) | 0);
    this.front = k.udp({ host, port: from, reusePort });
  }

  /** Clients that have a session now. */
  get sessions(): number {
    return this.#table.size;
  }

  /** Relays until it is cancelled. */
  *run(): Coroutine {
    const { front } = this;
    const k = this.#kernel;
    const table = this.#table;
    const expiring = k.spawn(this.#expire(), { class: CoroutineClass.BACKGROUND });
    try {
      for (;;) {
        const buffer = yield* front.pop();
        let slot = table.find(buffer.memory, buffer.peerOffset, buffer.peerLength);
        if (slot < 0) slot = yield* this.#open(buffer);
        if (slot < 0) {
          this.refused++;
          buffer.release();
          continue;
        }
        table.touch(slot, k.now);
        buffer.peerLength = 0; // a datagram without a peer of its own goes to the connected one
        try {
          yield* this.#sockets[slot]!.push(buffer);
          this.forwarded++;
        } catch (error) {
          this.#undelivered(error);
        }
      }
    } finally {
      expiring.cancel();
      for (const socket of this.#sockets) socket?.close();
      front.close();
    }
  }

  /** A session for the sender of `buffer`, or -1. */
  *#open(buffer: HeapBuffer): Coroutine<number> {
    const k = this.#kernel;
    const table = this.#table;
    if (table.size === table.capacity) return -1;
    let socket: UdpSocket | null = null;
    try {
      socket = k.udp({ host: this.#to.host.includes(':') ? '::' : '0.0.0.0' });
      yield* socket.connect(this.#to);
    } catch {
      socket?.close();
      return -1;
    }
    const slot = table.insert(buffer.memory, buffer.peerOffset, buffer.peerLength, k.now);
    this.#sockets[slot] = socket;
    k.spawn(this.#return(slot, socket));
    return slot;
  }

  /** What the partner sends to a session goes to its client. Ends when the session's socket is closed. */
  *#return(slot: number, socket: UdpSocket): Coroutine {
    const { front } = this;
    const table = this.#table;
    for (;;) {
      try {
        const buffer = yield* socket.pop();
        if (socket.closed) {
          buffer.release();
          return;
        }
        table.touch(slot, this.#kernel.now);
        buffer.peerLength = table.writeAddress(slot, buffer.memory, buffer.peerOffset);
        yield* front.push(buffer);
        this.returned++;
      } catch (error) {
        if (socket.closed || front.closed) return;
        this.#undelivered(error);
      }
    }
  }

  #undelivered(error: unknown): void {
    if (!concernsOneDatagram(error)) throw error;
    this.undelivered++;
  }

  *#expire(): Coroutine {
    const k = this.#kernel;
    const table = this.#table;
    for (;;) {
      const { oldest } = table;
      const wait = oldest < 0 ? this.#expiryMs : table.usedAt(oldest) + this.#expiryMs - k.now;
      if (wait > 0) yield* k.sleep(wait);
      else this.#close(oldest);
    }
  }

  #close(slot: number): void {
    const socket = this.#sockets[slot]!;
    this.#sockets[slot] = null;
    this.#table.remove(slot);
    socket.close();
  }
}
