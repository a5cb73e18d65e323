/**
 * What the queues of one stack datapath share: the stack with its TCP, the timers, the ports, who sends later.
 * It touches the link it was given, and nothing else of the world.
 */
import { ERRNO, systemError } from '../../errors.ts';
import type { DatapathHost, Family } from '../../kernel/datapath.ts';
import { TimerWheel } from '../../kernel/timers.ts';
import type { FrameInput } from '../../net/device.ts';
import { Stack, type StackLimits } from '../../net/stack.ts';
import type { TcpConfig } from '../../net/tcp/config.ts';
import { Tcp } from '../../net/tcp/tcp.ts';
import type { Heap } from '../../ring/heap.ts';
import { Closing } from './closing.ts';
import type { DatagramQueue } from './datagram.ts';
import type { Link } from './link.ts';
import { Middleware, type MiddlewareOptions } from './middleware.ts';
import { defaultOptions } from './options.ts';
import { Ports } from './ports.ts';
import { StreamQueue } from './stream.ts';

export interface StackDatapathOptions {
  /** Unsent bytes of one queue above which a push completes only when half of them have gone. Default 1 MiB. */
  readonly sendLimit?: number;
  readonly tcp?: Partial<TcpConfig>;
  readonly limits?: Partial<StackLimits>;
  /** Milliseconds, monotonic; the kernel's clock, where it is not `performance.now`. */
  readonly now?: () => number;
  /** Chance and secrets follow from it: for the simulator. Default: from the system's source. */
  readonly random?: () => number;
  /** Faults, a capture, a trace between the stack and the link. */
  readonly middleware?: MiddlewareOptions;
}

const DEFAULT_SEND_LIMIT = 1 << 20;
const RESERVED_BUFFERS = 32;
const FIRST_PORT = 32768;
const LAST_PORT = 60999;

export class Core {
  readonly link: Link;
  readonly heap: Heap;
  readonly timers: TimerWheel;
  readonly stack: Stack;
  readonly tcp: Tcp;
  readonly input: FrameInput;
  readonly ports: Ports;
  readonly closing: Closing;
  readonly sendLimit: number;
  /** What a stream's options are until one is set. */
  readonly defaultOptions: Int32Array;
  readonly now: () => number;
  /** By queue descriptor. Plain, because every call reads it. */
  readonly queues: (StreamQueue | DatagramQueue | null)[] = [];
  /** Datagram queues with pushes that the device had no room for. */
  readonly blocked: DatagramQueue[] = [];
  readonly freeStreams: StreamQueue[] = [];
  /** Lets go of a capture. */
  readonly closeMiddleware: () => void;
  host: DatapathHost | null = null;
  /** The stack's clock is right: between poll and the end of submit. */
  inTurn = false;

  constructor(link: Link, options: StackDatapathOptions) {
    const { heap, shared } = link;
    const now = options.now ?? (() => performance.now());
    const random = options.random ?? systemRandom();
    const timers = new TimerWheel(now());
    this.closeMiddleware = options.middleware?.close ?? (() => {});
    this.link = link;
    this.heap = heap;
    this.now = now;
    this.timers = timers;
    this.sendLimit = options.sendLimit ?? DEFAULT_SEND_LIMIT;
    const middleware =
      options.middleware === undefined
        ? null
        : new Middleware(link.device, options.middleware, { heap, timers, now }, link.name);
    const device = middleware?.device ?? link.device;
    this.stack = new Stack({
      heap,
      device,
      timers,
      random,
      now: now(),
      ...(options.limits && { limits: options.limits }),
      ...(shared !== null && { answers: false, lookup: (neighbour) => shared.lookup(neighbour) }),
    });
    const firstPort = shared?.firstEphemeral ?? FIRST_PORT;
    const lastPort = shared?.lastEphemeral ?? LAST_PORT;
    this.tcp = new Tcp({
      heap,
      output: this.stack.output,
      timers,
      random,
      now: now(),
      secret: Int32Array.from({ length: 4 }, random),
      config: {
        scatterGather: link.scatterGather,
        checksumOffload: device.offloads.transmitPartial,
        firstPort,
        lastPort,
        reservedBuffers: RESERVED_BUFFERS,
        ...options.tcp,
      },
    });
    this.stack.tcp = this.tcp;
    this.defaultOptions = defaultOptions(this.sendLimit, this.tcp.config);
    this.input = middleware?.input(this.stack) ?? this.stack;
    const { table } = this.tcp;
    const mayUsePort = link.mayUsePort?.bind(link);
    const range = { first: firstPort, last: lastPort };
    this.ports = new Ports({ shared, onPort: (port) => table.onPort(port), timers, now, random, ...range, mayUsePort });
    this.closing = new Closing(timers, now);
    this.tcp.mayUsePort = (port) => this.ports.mayUse(port);
    link.attach(this.stack, now);
  }

  /** A call from outside of a turn: the stack's clock may have stood still for long. */
  touch(): void {
    if (!this.inTurn) this.stack.setTime(this.now());
  }

  /** A stream queue, used before where there is one. */
  streamQueue(family: Family): StreamQueue {
    return (this.freeStreams.pop() ?? new StreamQueue(this)).open(family);
  }

  give(queue: StreamQueue | DatagramQueue, qd: number): void {
    queue.qd = qd;
    this.queues[qd] = queue;
  }
}

export function badQueue(qd: number, call: string): never {
  throw systemError(ERRNO.EBADF, call, `queue ${qd}`);
}

/** 32 bits that nobody can guess, taken from the system some at a time. */
function systemRandom(): () => number {
  const words = new Int32Array(256);
  let left = 0;
  return () => {
    if (left === 0) {
      crypto.getRandomValues(words);
      left = words.length;
    }
    return words[--left]!;
  };
}
