/**
 * Starts servers as child processes of a test and stops them with it: the applications through the command line, and
 * real peers such as redis-server. It touches child processes and a directory of its own under the system's temporary one.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { connect, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const MAIN = fileURLToPath(new URL('../../src/cli/main.js', import.meta.url));
const START_TIMEOUT_MS = 30_000;
/** Nothing is left running when a test process ends before its tests do. */
const running = new Set<ChildProcess>();
process.once('exit', () => {
  for (const child of running) child.kill('SIGKILL');
});

/** Whatever can run something at its end: a test context or a suite. */
export interface Owner {
  after(end: () => unknown): void;
}

export interface ChildServer {
  readonly child: ChildProcess;
  readonly pid: number;
  /** 0 where it listens on no port. */
  readonly port: number;
  /** The line that said it is ready. */
  readonly line: string;
  /** What it has written to standard error so far. */
  stderr(): string;
  /** Ends the process (SIGTERM, then SIGKILL) and gives its exit code, or null when a signal ended it. */
  stop(): Promise<number | null>;
  /** Resolves with the exit code when it ends. */
  readonly exited: Promise<number | null>;
}

export interface StartOptions {
  /** Runs the program through `sh -c 'ulimit …; exec …'`. */
  readonly ulimit?: string;
  readonly env?: NodeJS.ProcessEnv;
  readonly nodeArgs?: readonly string[];
}

/** Starts `isthmus ARGS…` and waits for the line that says where it listens. Fails with its standard error. */
export async function startIsthmus(args: readonly string[], options: StartOptions = {}): Promise<ChildServer> {
  return start(process.execPath, [...(options.nodeArgs ?? []), MAIN, ...args], /^isthmus \w+: .*$/m, options);
}

/** Starts redis-server on a free port in a directory of its own, without persistence. */
export async function startRedis(args: readonly string[] = []): Promise<ChildServer> {
  const dir = mkdtempSync(join(tmpdir(), 'isthmus-redis-'));
  const port = await freePort();
  const own = ['--port', String(port), '--bind', '127.0.0.1', '--dir', dir, '--save', '', '--appendonly', 'no'];
  // What was slow would otherwise depend on the machine.
  own.push('--slowlog-log-slower-than', '-1');
  const server = await start('redis-server', [...own, ...args], /Ready to accept connections/, {});
  void server.exited.then(() => rmSync(dir, { recursive: true, force: true }));
  return { ...server, port };
}

/** A port that was free a moment ago. */
export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as { port: number };
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** A connected socket of node:net. */
export async function open(port: number): Promise<Socket> {
  const socket = connect({ port, host: '127.0.0.1', noDelay: true, allowHalfOpen: true });
  await new Promise<void>((resolve, reject) => {
    socket.once('connect', resolve);
    socket.once('error', reject);
  });
  return socket;
}

async function start(
  command: string,
  args: readonly string[],
  ready: RegExp,
  { ulimit, env }: StartOptions,
): Promise<ChildServer> {
  const limited =
    ulimit === undefined ? [command, ...args] : ['sh', '-c', `ulimit ${ulimit}; exec "$@"`, 'sh', command, ...args];
  const child = spawn(limited[0]!, limited.slice(1), {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, ...env },
  });
  running.add(child);
  child.once('close', () => running.delete(child));
  let stdout = '';
  let stderr = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    stdout = (stdout + text).slice(-65536);
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr = (stderr + text).slice(-65536);
  });
  const exited = new Promise<number | null>((resolve) => child.once('close', (code) => resolve(code)));
  const stop = async (): Promise<number | null> => {
    if (child.exitCode === null && child.signalCode === null) {
      child.kill('SIGTERM');
      const killer = setTimeout(() => child.kill('SIGKILL'), 5000);
      await exited;
      clearTimeout(killer);
    }
    return exited;
  };
  const line = await new Promise<string>((resolve, reject) => {
    const timer = setTimeout(() => fail('was not ready in time'), START_TIMEOUT_MS);
    const fail = (what: string): void => {
      clearTimeout(timer);
      child.kill('SIGKILL');
      reject(new Error(`${command} ${args.join(' ')} ${what}: ${stderr.trim() || stdout.trim()}`));
    };
    const look = (): void => {
      const match = ready.exec(stdout);
      if (match === null) return;
      clearTimeout(timer);
      child.stdout.off('data', look);
      resolve(match[0]);
    };
    child.stdout.on('data', look);
    child.once('error', (error) => fail(error.message));
    child.once('close', (code, signal) => fail(`ended (${signal ?? code})`));
  });
  const port = Number(/:(\d+)\b/.exec(line.replace(/^isthmus \w+:/, ''))?.[1] ?? 0);
  return { child, pid: child.pid!, port, line, stderr: () => stderr, stop, exited };
}
