/**
 * A network inside one process: machines, events under way, one clock and one source of chance for all of them.
 * It touches kernels only through their turns, and real time only where it was given a clock.
 */

import type { IpAddress } from '../../address/sockaddr.ts';
import { ERRNO, IsthmusError, systemError } from '../../errors.ts';
import type { Address } from '../../kernel/datapath.ts';
import type { Kernel } from '../../kernel/kernel.ts';
import { isLoopback } from '../ends/names.ts';
import type { DatagramEnd } from './datagram.ts';
import { EventKind, EventQueue, type EventTarget, type SimulatedEvent } from './events.ts';
import { type Faults, IDEAL } from './faults.ts';
import { Machine } from './machine.ts';
import { Random } from './random.ts';
import type { StreamEnd } from './stream.ts';

export interface SimulatedNetworkOptions {
  /** Everything that chance decides follows from it. Default 1. */
  readonly seed?: number;
  /** Default {@link IDEAL}. */
  readonly faults?: Faults;
  /**
   * Milliseconds of a clock of the outside world. Without one, time is virtual: it stands still while kernels work,
   * and {@link SimulatedNetwork.run} moves it to the next event.
   */
  readonly clock?: () => number;
  /** Told each event as it happens, one line each. */
  readonly trace?: (line: string) => void;
  /** Most turns of kernels in one run, against programs that never come to rest. Default 10 million. */
  readonly maxTurns?: number;
}

export type SimulatedMachine = Machine<StreamEnd, DatagramEnd>;

/** What a network asks of a datapath that sleeps in another event loop. */
export interface Sleeper {
  readonly armed: boolean;
  wake(): void;
}

/** Attempts to connect to a listener whose backlog is full, 1, 2, 4 … s apart (tcp(7), tcp_syn_retries). */
const CONNECT_ATTEMPTS = 6;

export class SimulatedNetwork {
  readonly random: Random;
  readonly faults: Faults;
  /** Nothing takes time and nothing fails, so that buffers may go straight from a push to a pop. */
  readonly ideal: boolean;
  /** Datagrams lost, by a fault or for want of room. */
  droppedDatagrams = 0;
  /** Connections broken by a fault. */
  brokenConnections = 0;
  /** Events handled. */
  happened = 0;
  readonly #clock: (() => number) | null;
  readonly #trace: ((line: string) => void) | null;
  readonly #maxTurns: number;
  readonly #events = new EventQueue();
  readonly #machines = new Map<string, SimulatedMachine>();
  readonly #byAddress = new Map<string, SimulatedMachine>();
  readonly #kernels: Kernel[] = [];
  readonly #sleepers: Sleeper[] = [];
  #digest = 0x811c9dc5;
  #ids = 0;
  /** µs. */
  #time = 0;
  /** Cancels the alarm that is set. */
  #alarm: (() => void) | null = null;
  #alarmTime = Number.POSITIVE_INFINITY;

  constructor(options: SimulatedNetworkOptions = {}) {
    this.random = new Random(options.seed ?? 1);
    this.faults = options.faults ?? IDEAL;
    this.ideal = isIdeal(this.faults);
    this.#clock = options.clock ?? null;
    this.#trace = options.trace ?? null;
    this.#maxTurns = options.maxTurns ?? 10_000_000;
  }

  /** Milliseconds of the network's time. */
  readonly now = (): number => this.#microseconds() / 1000;

  #microseconds(): number {
    if (this.#clock !== null) this.#time = Math.max(this.#time, this.#clock() * 1000);
    return this.#time;
  }

  /** A hash of every event so far with its time: equal for equal runs. */
  get digest(): number {
    return this.#digest >>> 0;
  }

  /** Events still under way. */
  get pending(): number {
    return this.#events.length;
  }

  nextId(): number {
    return this.#ids++;
  }

  // ---- Machines and kernels ------------------------------------------------------------------------------------

  /** The machine of this name, made on first use. Each has its own loopback; `addresses` are reachable from all. */
  machine(name: string, addresses: readonly string[] = []): SimulatedMachine {
    let machine = this.#machines.get(name);
    if (machine === undefined) {
      machine = new Machine(name);
      this.#machines.set(name, machine);
    }
    for (const address of addresses) {
      const owner = this.#byAddress.get(address);
      if (owner !== undefined && owner !== machine) throw systemError(ERRNO.EADDRINUSE, 'machine', address);
      if (owner === undefined) machine.addresses.push(address);
      this.#byAddress.set(address, machine);
    }
    return machine;
  }

  /** Where packets from `machine` to `host` arrive; null where nowhere. */
  route(machine: SimulatedMachine, host: string): SimulatedMachine | null {
    return isLoopback(host) ? machine : (this.#byAddress.get(host) ?? null);
  }

  /** From now on {@link SimulatedNetwork.run} gives the kernel its turns. It must use this network's clock. */
  drive(kernel: Kernel): Kernel {
    this.#kernels.push(kernel);
    return kernel;
  }

  // ---- Events --------------------------------------------------------------------------------------------------

  make(kind: EventKind, target: EventTarget | null): SimulatedEvent {
    return this.#events.make(kind, target);
  }

  /** A one-way trip, µs. */
  readonly latency = (): number => this.random.between(this.faults.latencyUs);

  /** Sets an event under way. @returns when it arrives, µs */
  post(event: SimulatedEvent, delayUs: number, notBefore = 0): number {
    const time = Math.max(this.#microseconds() + delayUs, notBefore);
    this.#events.add(event, time);
    if (this.#clock !== null) this.#setAlarm();
    return time;
  }

  /** An event is due of which {@link SimulatedNetwork.collect} does not know yet. */
  get due(): boolean {
    return this.#events.length > 0 && this.#events.nextTime <= this.#microseconds();
  }

  /** Hands every event that is due to its target. */
  collect(): void {
    if (this.#events.length === 0) return;
    const now = this.#microseconds();
    while (this.#events.nextTime <= now) {
      const event = this.#events.take();
      this.#note(event);
      if (event.kind === EventKind.SYN) this.#connect(event);
      else if (event.kind === EventKind.DATAGRAM) this.deliverDatagram(event);
      else event.target!.receive(event);
    }
  }

  /** An event has been handled; its buffer must have gone elsewhere. */
  recycle(event: SimulatedEvent): void {
    this.#events.recycle(event);
  }

  #note(event: SimulatedEvent): void {
    this.happened++;
    const { kind, time, length, number } = event;
    const target = event.target?.id ?? -1;
    let hash = this.#digest;
    hash = Math.imul(hash ^ kind, 0x01000193);
    hash = Math.imul(hash ^ (time | 0), 0x01000193);
    hash = Math.imul(hash ^ target, 0x01000193);
    hash = Math.imul(hash ^ length, 0x01000193);
    hash = Math.imul(hash ^ number, 0x01000193);
    this.#digest = hash ^ (hash >>> 15);
    this.#trace?.(`${(time / 1000).toFixed(3)} ms  ${kindName(kind)}  to ${target}  ${length} bytes  ${number}`);
  }

  /** A connection attempt arrives where its destination now is. */
  #connect(event: SimulatedEvent): void {
    const client = event.source as StreamEnd;
    const listener = client.orphan ? null : this.#listenerFor(client, event.to!);
    if (client.orphan || listener === null || this.random.chance(this.faults.refuse)) {
      if (!client.orphan) client.refuse(listener === null ? this.#whyNot(client, event.to!) : ERRNO.ECONNREFUSED);
      this.recycle(event);
    } else if (listener.backlogFull) {
      if (event.number < CONNECT_ATTEMPTS) {
        this.post(event, 1_000_000 * 2 ** event.number++);
        return;
      }
      client.refuse(ERRNO.ETIMEDOUT);
      this.recycle(event);
    } else {
      event.target = listener;
      listener.receive(event);
    }
  }

  #listenerFor(client: StreamEnd, to: Address): StreamEnd | null {
    const { machine } = client.datapath;
    if ('path' in to) {
      const end = machine.paths.get(to.path);
      return end?.listening ? end : null;
    }
    return this.route(machine, to.host)?.streams.find(to.host, to.port, isListening, this.random) ?? null;
  }

  #whyNot(client: StreamEnd, to: Address): number {
    if (!('path' in to)) return ERRNO.ECONNREFUSED;
    return client.datapath.machine.paths.has(to.path) ? ERRNO.ECONNREFUSED : ERRNO.ENOENT;
  }

  /** A datagram arrives where its destination now is; without a taker it is lost, and a connected sender is told. */
  deliverDatagram(event: SimulatedEvent): void {
    const source = event.source as DatagramEnd;
    const from = event.from!;
    const { host, port } = event.to as IpAddress;
    const machine = this.route(source.datapath.machine, host);
    const end = machine?.datagrams.find(host, port, (owner) => owner.accepts(from), this.random) ?? null;
    if (end !== null) {
      event.target = end;
      if (this.ideal) end.handle(event);
      else end.receive(event);
      return;
    }
    if (source.isConnected) this.post(this.make(EventKind.UNREACHABLE, source), this.latency());
    this.dropDatagram(event);
  }

  dropDatagram(event: SimulatedEvent): void {
    this.droppedDatagrams++;
    event.buffer!.release();
    this.recycle(event);
  }

  // ---- Time ----------------------------------------------------------------------------------------------------

  /**
   * Runs every driven kernel until nothing more happens, or until `untilMs` of virtual time. Errors that escape
   * coroutines are thrown.
   * @throws IsthmusError ERR_SIMULATION_BUSY when the kernels do not come to rest
   */
  run(untilMs = Number.POSITIVE_INFINITY): void {
    const rounds = this.#rounds(untilMs);
    while (rounds.next().done !== true);
  }

  /** As {@link SimulatedNetwork.run}, for programs of Promises: their jobs run whenever the kernels are at rest. */
  async runAsync(untilMs = Number.POSITIVE_INFINITY): Promise<void> {
    const rounds = this.#rounds(untilMs);
    while (rounds.next().done !== true) await new Promise((resolve) => setImmediate(resolve));
  }

  /** Yields whenever every kernel is at rest and time is about to move. */
  *#rounds(untilMs: number): Generator<void, void, void> {
    if (this.#clock !== null) throw new TypeError('run is for virtual time; this network has a clock');
    const untilUs = untilMs * 1000;
    let turns = 0;
    for (;;) {
      turns += this.#settle(turns);
      yield;
      if (this.#kernels.some(isBusy)) continue;
      let next = this.#events.nextTime;
      for (const { timers, closed } of this.#kernels) {
        if (!closed && timers.size > 0) next = Math.min(next, timers.nextDeadline() * 1000);
      }
      if (next === Number.POSITIVE_INFINITY || next > untilUs) break;
      this.#time = Math.max(this.#time, next);
    }
    if (untilUs !== Number.POSITIVE_INFINITY) this.#time = Math.max(this.#time, untilUs);
  }

  /** Turns, in an order drawn anew each time, until a whole round does nothing. */
  #settle(before: number): number {
    let turns = 0;
    for (let did = 1; did > 0; ) {
      did = 0;
      this.collect();
      const kernels = this.#kernels;
      const first = kernels.length > 1 ? this.random.below(kernels.length) : 0;
      for (let i = 0; i < kernels.length; i++) {
        const kernel = kernels[(first + i) % kernels.length]!;
        if (kernel.closed) continue;
        did += kernel.turn(0);
        turns++;
        if (kernel.fatal !== null) {
          const error = kernel.fatal;
          kernel.fatal = null;
          throw error;
        }
      }
      if (before + turns > this.#maxTurns) {
        throw new IsthmusError(`after ${before + turns} turns the kernels still do not rest`, {
          code: 'ERR_SIMULATION_BUSY',
        });
      }
    }
    return turns;
  }

  // ---- Life in another event loop ------------------------------------------------------------------------------

  addSleeper(sleeper: Sleeper): void {
    this.#sleepers.push(sleeper);
  }

  removeSleeper(sleeper: Sleeper): void {
    const at = this.#sleepers.indexOf(sleeper);
    if (at >= 0) this.#sleepers.splice(at, 1);
    if (this.#alarm !== null && !this.#sleepers.some(isArmed)) this.#clearAlarm();
  }

  /** Somebody sleeps: the next event must be collected without a poll. */
  arm(): void {
    if (this.#clock !== null) this.#setAlarm();
  }

  #setAlarm(): void {
    const next = this.#events.nextTime;
    if (next >= this.#alarmTime || !this.#sleepers.some(isArmed)) return;
    this.#clearAlarm();
    this.#alarmTime = next;
    const ring = () => {
      this.#clearAlarm();
      this.collect();
      this.#setAlarm();
    };
    const delay = Math.ceil((next - this.#microseconds()) / 1000);
    if (delay > 0) {
      const timeout = setTimeout(ring, Math.min(0x7fffffff, delay));
      this.#alarm = () => clearTimeout(timeout);
    } else {
      const immediate = setImmediate(ring);
      this.#alarm = () => clearImmediate(immediate);
    }
  }

  #clearAlarm(): void {
    this.#alarm?.();
    this.#alarm = null;
    this.#alarmTime = Number.POSITIVE_INFINITY;
  }
}

function isIdeal(faults: Faults): boolean {
  const { latencyUs, stallUs, windowBytes, segmentBytes, ...probabilities } = faults;
  if (latencyUs[1] > 0 || segmentBytes < IDEAL.segmentBytes) return false;
  return Object.values(probabilities).every((probability) => probability === 0);
}

function isListening(end: StreamEnd): boolean {
  return end.listening;
}

function isArmed(sleeper: Sleeper): boolean {
  return sleeper.armed;
}

function isBusy(kernel: Kernel): boolean {
  return !kernel.closed && !kernel.idle;
}

function kindName(kind: EventKind): string {
  return Object.entries(EventKind).find(([, value]) => value === kind)![0];
}
