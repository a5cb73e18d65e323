/**
 * The link: what stands below the stack datapath, a network interface with the memory of its frames and a place to sleep.
 * Types only. A tap, the rings of AF_XDP and a wire of the simulator are links; the datapath does not know which it has.
 *
 * A turn, as the datapath makes it: `receive` (frames in) → the program → `device.flush` (frames out) → maybe `sleep`.
 * Before the thread sleeps in another event loop: `arm`.
 */
import type { DatapathWatch } from '../../kernel/datapath.ts';
import type { Device, FrameInput } from '../../net/device.ts';
import type { IpWords } from '../../net/ip/words.ts';
import type { Neighbour } from '../../net/neighbour.ts';
import type { Stack } from '../../net/stack.ts';
import type { Heap } from '../../ring/heap.ts';

/**
 * Bytes that a heap of a link leaves free in front of what a program allocates (`HeapOptions.headroom`): 72 for what stands
 * before TCP's header, and 56 for that, up to one with timestamps and two SACK blocks. So a message leaves in the buffer it
 * was written in.
 */
export const LINK_HEADROOM = 128;

export interface Link {
  /** As in `--datapath`: `tap`, `xdp` … */
  readonly name: string;
  /**
   * Where frames are received into and sent from, with a headroom of {@link LINK_HEADROOM} or more. The link allocates its
   * frames from it like everybody (`tryAlloc` of the size of a class less the headroom), and moves `offset` and `length`
   * to the frame. A frame received should have 80 bytes or more free in front of it (`offset - base`), so that a reply
   * leaves in the same buffer.
   */
  readonly heap: Heap;
  /** Frames out. `transmit` queues or sends; `flush` ends the batch. When `room()` was 0, sleep and watch end when it is not. */
  readonly device: Device;
  /** False where a frame must be one piece: then `device.transmit` never gets a payload of TCP's beside the packet. */
  readonly scatterGather: boolean;
  /** Null: the addresses are this stack's alone (own mode), and it answers ARP and neighbour discovery itself. */
  readonly shared: SharedAddresses | null;

  /**
   * Called once, before everything else, with a complete stack: the link gives it its addresses and routes
   * (`stack.addAddress`, `addRoute`, `announce`), here and later as they change.
   * @param now the clock of the stack and its timers, in ms
   */
  attach(stack: Stack, now: () => number): void;

  /**
   * Gives at most `budget` frames to `input`, each borrowed for the call, without blocking; also takes back what has been
   * sent. Never throws for what a frame holds.
   * @returns frames given
   */
  receive(budget: number, input: FrameInput): number;
  /** A receive would give frames, as far as is known without a system call. */
  readonly arrived: boolean;
  /** Sleeps until a frame arrives (or `device.room()` has come back), or for `waitUs` µs; -1: no limit. A signal or spurious wake is harmless. */
  sleep(waitUs: number): void;
  /** As {@link Datapath.watch}: `onReadable` whenever {@link Link.receive} has work while armed. */
  watch(onReadable: () => void): DatapathWatch;
  /**
   * The thread is about to sleep in another event loop: from now on an arrival makes the watch fire, and so does the time
   * `deadline` (ms of the clock, Infinity for none; see Alarm in alarm.ts). False where something has arrived already.
   */
  arm(deadline: number): boolean;
  /**
   * Own mode, where other stacks have the same addresses: whether an outgoing connection or an unbound UDP socket of this
   * stack may have a port. Missing: any.
   */
  mayUsePort?(protocol: number, port: number): boolean;
  /** For whoever observes; plain numbers by name. */
  observe?(): Record<string, number>;
  /** Gives everything back: descriptors, rings, and at last `heap.region`. The stack holds no buffer any more. */
  dispose(): void;
}

/**
 * The addresses are the host's too (shared mode): its kernel answers ARP, neighbour discovery and echo, and keeps every
 * port that is not served here. Ports are counted by the datapath: each of these calls opens or closes one anew.
 */
export interface SharedAddresses {
  /**
   * The stack wants a hardware address. The link looks it up with the host and answers with `stack.neighbours.set(…)`, in
   * the call or later. Asked again after 1 s, three times at most; then what waits fails with EHOSTUNREACH.
   */
  lookup(neighbour: Neighbour): void;
  /**
   * Frames to this port come to us from now on, and the host's own sockets cannot get it.
   * @param protocol 6 (TCP) or 17 (UDP)
   * @param address one of the stack's addresses; null for all of them, also for those that come later
   * @throws IsthmusError EADDRINUSE where a socket of the host has it, EACCES
   */
  serve(protocol: number, port: number, address: IpWords | null): void;
  /** The port is the host's again. */
  unserve(protocol: number, port: number, address: IpWords | null): void;
  /** Ports that outgoing connections and unbound UDP sockets choose from. */
  readonly firstEphemeral: number;
  readonly lastEphemeral: number;
  /**
   * As `serve` for all addresses, for a port of that range: false where it cannot be had, and then another is tried.
   * Called for each outgoing connection whose port has no other: it must be cheap.
   */
  reserve(protocol: number, port: number): boolean;
  /** The last connection with this port is over, TIME_WAIT included. */
  unreserve(protocol: number, port: number): void;
}
