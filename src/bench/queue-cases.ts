/**
 * The measured functions of `bench queue`: tokens and coroutines of the kernel beside a bare loop and beside Promises.
 * Pure but for the clock it reads: everything happens in memory, on an ideal simulated network.
 */

import { Fifo } from '../datapath/ends/fifo.ts';
import { SimulatedNetwork } from '../datapath/simulated/network.ts';
import { simulatedKernel } from '../datapath/simulated.ts';
import type { Kernel } from '../kernel/kernel.ts';
import { Opcode } from '../kernel/operation.ts';
import type { Coroutine } from '../kernel/scheduler.ts';

/** One thing measured. `run` does it `operations` times and gives a checksum, so that nothing can be optimised away. */
export interface QueueCase {
  readonly name: string;
  /** `complete` (one result handed over), `switch` (one coroutine resumed) or `message` (a buffer pushed and popped). */
  readonly workload: 'complete' | 'switch' | 'message';
  readonly run: (operations: number) => number | Promise<number>;
}

export interface QueueResult {
  readonly name: string;
  readonly workload: QueueCase['workload'];
  /** Median over the rounds. */
  readonly nsPerOperation: number;
  readonly opsPerSecond: number;
  /** Fastest and slowest round, ns per operation. */
  readonly range: readonly [number, number];
}

/** Coroutines (or async functions) that take turns in the `switch` cases. */
const PARTIES = 64;

/** Every case has a function of its own, so that each is compiled for exactly what it does. */
export function queueCases(): QueueCase[] {
  const complete = newKernel();
  const suspended = newKernel();
  const switching = newKernel();
  const message = connectedPair();
  return [
    { name: 'loop', workload: 'complete', run: bareLoop },
    { name: 'promise', workload: 'complete', run: awaitResolved },
    { name: 'promise, always the same', workload: 'complete', run: awaitSame },
    { name: 'token', workload: 'complete', run: (n) => tokenComplete(complete, n) },
    { name: 'promise', workload: 'switch', run: awaitInTurns },
    { name: 'coroutine', workload: 'switch', run: (n) => coroutineSwitch(switching, n) },
    { name: 'coroutine, woken by a token', workload: 'switch', run: (n) => tokenWakes(suspended, n) },
    { name: 'promise', workload: 'message', run: promiseQueue },
    { name: 'token', workload: 'message', run: (n) => pushPop(message, n) },
  ];
}

function newKernel(): Kernel {
  return simulatedKernel(new SimulatedNetwork());
}

/** The floor: a value goes into a circular array and comes out again. */
function bareLoop(operations: number): number {
  const ring = new Int32Array(1024);
  let sum = 0;
  for (let i = 0; i < operations; i++) {
    ring[i & 1023] = i;
    sum = (sum + ring[(i + 512) & 1023]!) | 0;
  }
  return sum;
}

/** What JavaScript offers: a Promise resolved with a value, and its `await`. */
async function awaitResolved(operations: number): Promise<number> {
  let sum = 0;
  for (let i = 0; i < operations; i++) sum += await Promise.resolve(1);
  return sum;
}

/** The least that `await` can cost: always the same Promise, resolved long ago. */
async function awaitSame(operations: number): Promise<number> {
  const resolved = Promise.resolve(1);
  let sum = 0;
  for (let i = 0; i < operations; i++) sum += await resolved;
  return sum;
}

/** A token from its call to its result: an operation is taken, completed, and its result read with `yield*`. */
function tokenComplete(kernel: Kernel, operations: number): number {
  let result = 0;
  kernel.spawn(
    (function* (): Coroutine {
      const { operations: table } = kernel;
      let sum = 0;
      for (let i = 0; i < operations; i++) {
        const op = table.acquire<number>(Opcode.POP, -1, null);
        op.complete(1);
        sum += yield* op;
      }
      result = sum;
    })(),
  );
  while (kernel.scheduler.alive > 0) kernel.turn(0);
  return result;
}

/** Async functions that run in turns: each `await` of a resolved Promise gives way to the others. */
async function awaitInTurns(operations: number): Promise<number> {
  const share = Math.floor(operations / PARTIES);
  const party = async (): Promise<number> => {
    let sum = 0;
    for (let i = 0; i < share; i++) {
      sum += await Promise.resolve(1);
    }
    return sum;
  };
  const sums = await Promise.all(Array.from({ length: PARTIES }, party));
  return sums.reduce((a, b) => a + b, 0);
}

/** Coroutines that run in turns. */
function coroutineSwitch(kernel: Kernel, operations: number): number {
  const share = Math.floor(operations / PARTIES);
  let result = 0;
  function* party(): Coroutine {
    let sum = 0;
    for (let i = 0; i < share; i++) {
      yield;
      sum++;
    }
    result += sum;
  }
  for (let i = 0; i < PARTIES; i++) kernel.spawn(party());
  while (kernel.scheduler.alive > 0) kernel.turn(0);
  return result;
}

/** Pairs of coroutines; one waits for a token that the other completes: completion, wake-up and switch. */
function tokenWakes(kernel: Kernel, operations: number): number {
  const share = Math.floor(operations / PARTIES);
  let result = 0;
  function* waits(pending: Pending): Coroutine {
    const { operations: table } = kernel;
    let sum = 0;
    for (let i = 0; i < share; i++) {
      const op = table.acquire<number>(Opcode.POP, -1, null);
      pending.op = op;
      sum += yield* op;
    }
    pending.op = null;
    result += sum;
  }
  const all = Array.from({ length: PARTIES }, (): Pending => ({ op: null }));
  for (const pending of all) kernel.spawn(waits(pending));
  while (kernel.scheduler.alive > 0) {
    kernel.turn(0);
    for (let i = 0; i < PARTIES; i++) all[i]!.op?.complete(1);
  }
  return result;
}

interface Pending {
  op: { complete(value: number): void } | null;
}

/** A queue whose push and pop give Promises: what a program would write without tokens. */
class PromiseQueue<T> {
  readonly #items = new Fifo<T>();
  readonly #waiting = new Fifo<(item: T) => void>();

  push(item: T): Promise<void> {
    if (this.#waiting.length > 0) this.#waiting.shift()(item);
    else this.#items.push(item);
    return Promise.resolve();
  }

  pop(): Promise<T> {
    if (this.#items.length > 0) return Promise.resolve(this.#items.shift());
    return new Promise((resolve) => this.#waiting.push(resolve));
  }
}

/** A buffer of 64 bytes through such a queue, each side awaited. Buffers come from a pool of one, as from a heap. */
async function promiseQueue(operations: number): Promise<number> {
  const queue = new PromiseQueue<Uint8Array>();
  let spare: Uint8Array = new Uint8Array(64);
  let sum = 0;
  for (let i = 0; i < operations; i++) {
    await queue.push(spare);
    spare = await queue.pop();
    sum += spare.length;
  }
  return sum;
}

interface ConnectedPair {
  readonly kernel: Kernel;
  readonly writer: number;
  readonly reader: number;
}

function connectedPair(): ConnectedPair {
  const kernel = newKernel();
  const listener = kernel.listen({ path: '/bench/queue' });
  let pair: ConnectedPair | null = null;
  kernel.spawn(
    (function* (): Coroutine {
      const writer = yield* kernel.connect({ path: '/bench/queue' });
      const reader = yield* listener.accept();
      pair = { kernel, writer: writer.detach().qd, reader: reader.detach().qd };
    })(),
  );
  while (kernel.scheduler.alive > 0) kernel.turn(0);
  return pair!;
}

/** A buffer of 64 bytes from push to pop through a stream of the simulated datapath, each waited for by its token. */
function pushPop({ kernel, writer, reader }: ConnectedPair, operations: number): number {
  let result = 0;
  const from = kernel.connectionOf(writer);
  const to = kernel.connectionOf(reader).detach();
  kernel.spawn(
    (function* (): Coroutine {
      let sum = 0;
      for (let i = 0; i < operations; i++) {
        yield* from.push(kernel.alloc(64));
        const buffer = yield* to.pop();
        sum += buffer!.length;
        buffer!.release();
      }
      result = sum;
    })(),
  );
  while (kernel.scheduler.alive > 0) kernel.turn(0);
  return result;
}

export interface QueueBenchOptions {
  readonly operations?: number;
  readonly rounds?: number;
  readonly now?: () => number;
}

/** Runs every case in alternating rounds after a warm-up; medians. */
export async function measureQueueCases(options: QueueBenchOptions = {}): Promise<QueueResult[]> {
  const operations = options.operations ?? 500_000;
  const rounds = options.rounds ?? 15;
  const now = options.now ?? (() => performance.now());
  const cases = queueCases();
  const times: number[][] = cases.map(() => []);
  for (let round = -3; round < rounds; round++) {
    for (let c = 0; c < cases.length; c++) {
      const start = now();
      const checksum = await cases[c]!.run(operations);
      const ns = ((now() - start) * 1e6) / operations;
      if (!Number.isFinite(checksum)) throw new RangeError(`${cases[c]!.name} gave no result`);
      if (round >= 0) times[c]!.push(ns);
    }
  }
  return cases.map(({ name, workload }, c) => {
    const sorted = times[c]!.sort((a, b) => a - b);
    const nsPerOperation = sorted[sorted.length >> 1]!;
    const range = [sorted[0]!, sorted[sorted.length - 1]!] as const;
    return { name, workload, nsPerOperation, opsPerSecond: 1e9 / nsPerOperation, range };
  });
}

/** Ratios in the form that benchmarks share: above 1 means that the first is better. */
export function queueRatios(results: readonly QueueResult[]): Record<string, number> {
  const speed = (name: string, workload: string): number =>
    results.find((r) => r.name === name && r.workload === workload)!.opsPerSecond;
  return {
    'token : promise @ complete opsPerSecond': speed('token', 'complete') / speed('promise', 'complete'),
    'coroutine : promise @ switch opsPerSecond': speed('coroutine', 'switch') / speed('promise', 'switch'),
    'token : loop @ complete opsPerSecond': speed('token', 'complete') / speed('loop', 'complete'),
    'token : promise @ message opsPerSecond': speed('token', 'message') / speed('promise', 'message'),
  };
}
