/**
 * A real redis-server beside the engine: sends the same requests to both and compares the raw replies.
 * Starts the server in a directory of its own on a Unix socket, without persistence; the socket is the only I/O.
 */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { Engine } from '../../../src/apps/kv/engine.ts';
import { type Argument, encodeRequest, MemorySink, seededRandom, TestClient } from './harness.ts';

/** How two replies are compared. */
export interface Comparison {
  /** Elements of the top array may come in any order. */
  unordered?: boolean;
  /** As `unordered`, in pairs: a RESP2 reply of fields and values. */
  pairs?: boolean;
  /** Integers, and doubles, may differ by this much. */
  tolerance?: number;
  /** What this matches is left out of both. */
  mask?: RegExp;
  /** Only the first byte, the type, is compared: for random choices and texts of the server's own. */
  typeOnly?: boolean;
}

/** Where the reply that begins at `at` ends; -1 if it is not all there. */
export function replyEnd(bytes: Buffer, at: number): number {
  const lineEnd = bytes.indexOf('\r\n', at, 'latin1');
  if (lineEnd < 0) return -1;
  const tag = bytes[at]!;
  let end = lineEnd + 2;
  if (tag === 36 || tag === 61 || tag === 33) {
    const length = Number(bytes.toString('latin1', at + 1, lineEnd));
    if (length < 0) return end;
    return end + length + 2 <= bytes.length ? end + length + 2 : -1;
  }
  if (tag === 42 || tag === 126 || tag === 37 || tag === 62) {
    let count = Number(bytes.toString('latin1', at + 1, lineEnd));
    if (tag === 37) count *= 2;
    for (; count > 0; count--) {
      end = replyEnd(bytes, end);
      if (end < 0) return -1;
    }
  }
  return end;
}

/** A RESP2 reply as a value: strings, numbers, null, arrays. */
export type Reply = string | number | null | Reply[];

/** Read a RESP2 reply. */
export function parseReply(reply: string): Reply {
  const tag = reply[0];
  const line = reply.slice(1, reply.indexOf('\r\n'));
  if (tag === ':') return Number(line);
  if (tag === '+' || tag === '-') return line;
  if (Number(line) < 0) return null;
  if (tag === '$') return reply.slice(line.length + 3, -2);
  return elements(reply).parts.map(parseReply);
}

/** The raw elements of an aggregate reply. */
function elements(reply: string): { head: string; parts: string[] } {
  const bytes = Buffer.from(reply, 'latin1');
  let at = bytes.indexOf('\r\n') + 2;
  const head = reply.slice(0, at);
  const parts: string[] = [];
  while (at < bytes.length) {
    const end = replyEnd(bytes, at);
    parts.push(reply.slice(at, end));
    at = end;
  }
  return { head, parts };
}

/** A reply in the form in which it is compared. */
function canonical(reply: string, how: Comparison): string {
  if (how.typeOnly) return reply.slice(0, 1);
  if (how.mask) return reply.replace(how.mask, '');
  if (!/^[*~%]/.test(reply) || (!how.unordered && !how.pairs)) return reply;
  const { head, parts } = elements(reply);
  const paired = how.pairs === true || head[0] === '%';
  const items = paired ? parts.flatMap((part, i) => (i % 2 === 0 ? [part + (parts[i + 1] ?? '')] : [])) : parts;
  return head + items.sort().join('');
}

function within(a: string, b: string, tolerance: number): boolean {
  const number = /^[:,](-?[0-9.]+)\r\n$/;
  const left = number.exec(a);
  const right = number.exec(b);
  return left !== null && right !== null && Math.abs(Number(left[1]) - Number(right[1])) <= tolerance;
}

/** Requests to both; `socket` is one connection of the real server. */
export class Oracle {
  readonly engine: Engine;
  readonly client: TestClient;
  readonly path: string;
  readonly #socket: Socket;
  #received: Buffer = Buffer.alloc(0);
  #scanned = 0;
  #waiting: ((reply: string) => void)[] = [];
  #failed: Error | null = null;

  constructor(engine: Engine, socket: Socket, path: string) {
    this.engine = engine;
    this.path = path;
    this.#socket = socket;
    this.client = new TestClient(engine, new MemorySink());
    socket.on('data', (data) => this.#data(data));
    socket.on('close', () => this.#fail(new Error('redis-server closed the connection')));
  }

  #fail(error: Error): void {
    this.#failed = error;
    for (const resolve of this.#waiting.splice(0)) resolve('(closed)');
  }

  #data(data: Buffer): void {
    this.#received = Buffer.concat([this.#received.subarray(this.#scanned), data]);
    this.#scanned = 0;
    for (;;) {
      const end = this.#scanned < this.#received.length ? replyEnd(this.#received, this.#scanned) : -1;
      if (end < 0) return;
      const reply = this.#received.toString('latin1', this.#scanned, end);
      this.#scanned = end;
      this.#waiting.shift()?.(reply);
    }
  }

  /** The raw reply of the real server; `(closed)` if it closed the connection instead. */
  redis(args: readonly Argument[] | Buffer): Promise<string> {
    if (this.#failed !== null) return Promise.resolve('(closed)');
    return new Promise((resolve) => {
      this.#waiting.push(resolve);
      this.#socket.write(Buffer.isBuffer(args) ? args : encodeRequest(args));
    });
  }

  /** All that the real server answers to some bytes on a connection of their own, which is then ended. */
  rawRedis(bytes: Uint8Array): Promise<string> {
    return new Promise((resolve, reject) => {
      const parts: Buffer[] = [];
      const socket = connect({ path: this.path, allowHalfOpen: true });
      socket.on('data', (data) => parts.push(data));
      socket.on('error', (error: NodeJS.ErrnoException) => {
        // it may close before it has read everything
        if (error.code !== 'ECONNRESET' && error.code !== 'EPIPE') reject(error);
      });
      socket.on('end', () => socket.end());
      socket.on('close', () => resolve(Buffer.concat(parts).toString('latin1')));
      socket.end(bytes);
    });
  }

  /** The raw reply of the engine. */
  ours(args: readonly Argument[]): string {
    return this.client.call(...args);
  }

  /** Send one command to both, compare, give the engine's reply. */
  async both(args: readonly Argument[], how: Comparison = {}): Promise<string> {
    const theirs = this.redis(args);
    const ours = this.ours(args);
    this.#compare(args, ours, await theirs, how);
    return ours;
  }

  /** Send many commands at once to both and compare reply by reply. `note` says where they came from, such as a seed. */
  async all(
    commands: readonly (readonly Argument[])[],
    how: (args: readonly Argument[]) => Comparison = () => ({}),
    note = '',
  ): Promise<void> {
    const theirs = commands.map((args) => this.redis(args));
    const ours = commands.map((args) => this.ours(args));
    const replies = await Promise.all(theirs);
    for (const [i, args] of commands.entries()) {
      const before = commands
        .slice(Math.max(0, i - 12), i)
        .map(show)
        .join('\n  ');
      this.#compare(args, ours[i]!, replies[i]!, how(args), `${note}\nafter:\n  ${before}`);
    }
  }

  #compare(args: readonly Argument[], ours: string, theirs: string, how: Comparison, note = ''): void {
    if (how.tolerance !== undefined && within(ours, theirs, how.tolerance)) return;
    if (canonical(ours, how) === canonical(theirs, how)) return;
    assert.fail(`${show(args)}\n  isthmus: ${JSON.stringify(ours)}\n  redis:   ${JSON.stringify(theirs)}\n${note}`);
  }

  /** Empty both, and begin again in database 0 with RESP2. */
  async clear(): Promise<void> {
    await this.both(['RESET']);
    await this.both(['FLUSHALL']);
  }

  close(): void {
    this.#socket.destroy();
  }
}

function show(args: readonly Argument[]): string {
  return args
    .map((arg) => (typeof arg === 'object' ? JSON.stringify(Buffer.from(arg).toString('latin1')) : String(arg)))
    .join(' ');
}

/** Random integers from a seed, and choices. */
export class Dice {
  readonly #random: () => number;

  constructor(seed: number) {
    this.#random = seededRandom(seed);
  }

  below(n: number): number {
    return this.#random() % n;
  }

  pick<T>(items: readonly T[]): T {
    return items[this.below(items.length)]!;
  }

  chance(percent: number): boolean {
    return this.below(100) < percent;
  }
}

/** The seed of a run: from the environment, else fixed. It belongs into each failure's message. */
export function testSeed(fallback: number): number {
  const given = Number(process.env['ISTHMUS_SEED']);
  return Number.isSafeInteger(given) && given > 0 ? given : fallback;
}

async function startServer(directory: string): Promise<ChildProcess> {
  const args = [
    '--port',
    '0',
    '--unixsocket',
    join(directory, 's'),
    '--save',
    '',
    '--appendonly',
    'no',
    '--dir',
    directory,
  ];
  const child = spawn('redis-server', args, { stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  await new Promise<void>((resolve, reject) => {
    child.on('error', reject);
    child.on('exit', (code) => reject(new Error(`redis-server ended with ${code}: ${output}`)));
    child.stdout!.on('data', (data) => {
      output += data;
      if (output.includes('accept connections')) resolve();
    });
  });
  return child;
}

/**
 * An oracle for one test, ended with it; null, and the test skipped with the reason, where redis-server is not installed or is
 * not version 7.
 */
export async function startOracle(t: TestContext): Promise<Oracle | null> {
  const found = spawnSync('redis-server', ['--version'], { encoding: 'utf8' });
  const version = /v=([0-9]+)\.([0-9]+)/.exec(found.stdout ?? '');
  if (version === null || version[1] !== '7') {
    t.skip(version === null ? 'redis-server is not installed' : `redis-server is ${version[0]}, not 7`);
    return null;
  }
  const directory = mkdtempSync(join(tmpdir(), 'isthmus-oracle-'));
  const child = await startServer(directory);
  const path = join(directory, 's');
  const socket = connect(path);
  await new Promise<void>((resolve, reject) => {
    socket.once('connect', resolve);
    socket.once('error', reject);
  });
  const engine = new Engine({ now: Date.now, random: seededRandom(7) });
  const oracle = new Oracle(engine, socket, path);
  t.after(async () => {
    oracle.close();
    child.removeAllListeners('exit');
    const ended = new Promise((resolve) => child.once('exit', resolve));
    child.kill('SIGKILL');
    await ended;
    rmSync(directory, { recursive: true, force: true });
  });
  return oracle;
}
