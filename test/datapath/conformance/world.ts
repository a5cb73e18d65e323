/**
 * What every conformance test runs in: one kernel on the datapath under test, its host, and helpers around both.
 * At its end it checks that nothing escaped from a coroutine and that every buffer and operation came back.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { IpAddress } from '../../../src/address/sockaddr.ts';
import type { OpenOptions } from '../../../src/datapath/select.ts';
import type { Connection } from '../../../src/kernel/connection.ts';
import type { Address, Datapath } from '../../../src/kernel/datapath.ts';
import { Host, type HostPolicy } from '../../../src/kernel/host.ts';
import { Kernel, type KernelOptions } from '../../../src/kernel/kernel.ts';
import type { ListenOptions } from '../../../src/kernel/opening.ts';
import type { Operation } from '../../../src/kernel/operation.ts';
import type { Coroutine } from '../../../src/kernel/scheduler.ts';

/** A datapath under test. */
export interface Subject {
  readonly name: string;
  /** Why it cannot be tested here, or null. */
  readonly missing: string | null;
  /** Its sockets are the kernel's: node:net and node:dgram reach them. */
  readonly real: boolean;
  /** Whether it has Unix sockets. Default true. */
  readonly unix?: boolean;
  /** Bytes for the transfers; less where each byte costs more. */
  readonly bulkBytes: number;
  /** Where it has a send limit of its own and does not take one. */
  readonly sendLimit?: number;
  open(options?: OpenOptions): Promise<Datapath>;
}

export interface WorldOptions extends OpenOptions {
  readonly kernel?: KernelOptions;
}

export class World {
  readonly k: Kernel;
  readonly host: Host;
  /** Errors that escaped coroutines nobody joined. */
  readonly errors: Error[] = [];
  readonly #buffersAtStart: number;
  #directory: string | null = null;

  private constructor(datapath: Datapath, policy: HostPolicy, options: KernelOptions) {
    this.k = new Kernel(datapath, { ...options, onUncaught: (error) => this.errors.push(error) });
    this.#buffersAtStart = this.k.heap.inUse;
    this.host = new Host(this.k, policy).start();
  }

  static async open(subject: Subject, policy: HostPolicy, options: WorldOptions = {}): Promise<World> {
    const heap = { checked: true, sizeClasses: SMALL_HEAP, ...options.heap };
    return new World(await subject.open({ ...options, heap }), policy, options.kernel ?? {});
  }

  /** Runs a coroutine to its end. */
  run<T>(coroutine: Coroutine<T>): Promise<T> {
    return Promise.resolve(this.k.spawn(coroutine).join());
  }

  /** A listener on a free port, with a handler for each connection. */
  serve(handler: (conn: Connection) => Coroutine<unknown>, options: ListenOptions = {}): Address {
    const listener = this.k.listen({ host: '127.0.0.1', ...options });
    this.k.spawn(listener.serve(handler));
    return listener.address;
  }

  /** A fresh directory, gone at the end. */
  get directory(): string {
    this.#directory ??= mkdtempSync(join(tmpdir(), 'isthmus-conformance-'));
    return this.#directory;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      this.k.end();
      await until(() => this.k.draining === 0, 'closed queues are drained');
      // Buffers that a transmit in flight holds come back by turns.
      await until(() => this.k.heap.inUse <= this.#buffersAtStart, 'every buffer comes back');
      assert.equal(this.k.operations.inUse, 0, 'operations are still outstanding');
    } finally {
      // Whatever is wrong: a host that is left behind turns for ever, and the test's process with it.
      this.host.stop();
      this.k.dispose();
      if (this.#directory !== null) rmSync(this.#directory, { recursive: true, force: true });
    }
    assert.deepEqual(this.errors, []);
  }
}

/** Enough for the tests, and quick to poison. */
export const SMALL_HEAP = [
  { bytes: 256, count: 512 },
  { bytes: 2048, count: 1024 },
  { bytes: 16576, count: 256 },
  { bytes: 65600, count: 64 },
  { bytes: 1 << 20, count: 2 },
];

/** Waits for a condition that something else brings about; fails after thirty seconds. */
export async function until(condition: () => boolean, what: string): Promise<void> {
  const deadline = performance.now() + 30_000;
  while (!condition()) {
    assert.ok(performance.now() < deadline, `never came true: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
}

export function* echo(conn: Connection): Coroutine {
  for (;;) {
    const buffer = yield* conn.pop();
    if (buffer === null) return;
    yield* conn.push(buffer);
  }
}

/** Pops until the end of the stream; or, given `bytes`, until so many have come. */
export function* readAll(conn: Connection, bytes = Number.POSITIVE_INFINITY): Coroutine<Buffer> {
  const parts: Buffer[] = [];
  for (let got = 0; got < bytes; ) {
    const buffer = yield* conn.pop();
    if (buffer === null) break;
    got += buffer.length;
    parts.push(Buffer.from(buffer.bytes));
    buffer.release();
  }
  return Buffer.concat(parts);
}

/** The code with which an operation fails; '' when it succeeds. */
export function* failureOf<T>(op: Operation<T>): Coroutine<string> {
  try {
    yield* op;
    return '';
  } catch (error) {
    return (error as NodeJS.ErrnoException).code ?? String(error);
  }
}

export function ip(address: Address): IpAddress {
  assert.ok('port' in address, 'an Internet address');
  return address;
}

/** A socket of node:net, connected. */
export function dial(address: Address, options: { allowHalfOpen?: boolean } = {}): Promise<Socket> {
  const target = 'path' in address ? { path: address.path } : { port: address.port, host: address.host };
  const socket = connect({ ...target, ...options });
  return new Promise((resolve, reject) => {
    socket.once('connect', () => {
      socket.off('error', reject);
      resolve(socket);
    });
    socket.once('error', reject);
  });
}

/** Everything that a socket of node:net receives until its end; its other half stays as it is. */
export function readSocket(socket: Socket): Promise<Buffer> {
  const parts: Buffer[] = [];
  return new Promise((resolve, reject) => {
    socket.on('data', (part) => parts.push(part));
    socket.once('end', () => resolve(Buffer.concat(parts)));
    socket.once('error', reject);
  });
}

export function once(socket: Socket, event: string): Promise<unknown> {
  return new Promise((resolve) => socket.once(event, resolve));
}

/** Descriptors of this process. */
export function openDescriptors(): number {
  return readdirSync('/proc/self/fd').length;
}

/** Bytes that are easy to check: a sequence from a seed. */
export function pattern(seed: number, length: number): Buffer {
  const bytes = Buffer.allocUnsafe(length);
  let state = seed | 1;
  for (let i = 0; i < length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    bytes[i] = state >>> 24;
  }
  return bytes;
}

/** What a call throws, checked to be a system error of this code. */
export function systemErrorOf(code: string, syscall: string): (error: unknown) => true {
  return (error) => {
    const { message, ...rest } = error as NodeJS.ErrnoException;
    assert.equal(rest.code, code, message);
    assert.equal(rest.syscall, syscall, message);
    assert.ok((rest.errno ?? 0) < 0, `errno of ${message}`);
    assert.ok(message.startsWith(`${code}: `), message);
    return true;
  };
}
