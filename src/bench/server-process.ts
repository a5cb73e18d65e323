/**
 * A server under measurement: a process pinned to one CPU, stopped (SIGSTOP) unless it is being measured.
 * It touches that process only.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { processCpuNs } from '../linux/affinity.ts';
import { residentBytes } from '../linux/limits.ts';
import { spawnPinned } from './pinned.ts';

export interface ServerCommand {
  readonly command: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** Finds the port in what the server prints; for a port known before, the line that says it is ready. */
  readonly ready: RegExp;
  /** The port, where it was chosen before. */
  readonly port?: number;
}

/** Runs a function that starts a process at once, with this thread where the process belongs. */
export type Within = <T>(start: () => T) => T;

const READY_MS = 10_000;

/** A stopped process would outlive us for ever: whatever way this process ends by itself, they end with it. */
const running = new Set<ChildProcess>();
process.once('exit', () => {
  for (const child of running) child.kill('SIGKILL');
});

export class ServerProcess {
  readonly #child: ChildProcess;
  readonly port: number;

  private constructor(child: ChildProcess, port: number) {
    this.#child = child;
    this.port = port;
  }

  /** Starts a server and stops it (SIGSTOP) as soon as it listens. @throws Error with what the server said where it does not */
  static async start(server: ServerCommand, cpu: number, within: Within = (start) => start()): Promise<ServerProcess> {
    const [program, ...args] = server.command;
    const child = within(() =>
      spawnPinned(cpu, () =>
        spawn(program!, args, { env: { ...process.env, ...server.env }, stdio: ['ignore', 'pipe', 'pipe'] }),
      ),
    );
    running.add(child);
    child.once('exit', () => running.delete(child));
    const port = await readyPort(child, server);
    const started = new ServerProcess(child, port);
    // It may have started up to here with compiling and collecting; that is not to go on while others are measured.
    await started.settle();
    started.pause();
    return started;
  }

  get pid(): number {
    return this.#child.pid!;
  }

  get alive(): boolean {
    return this.#child.exitCode === null && this.#child.signalCode === null;
  }

  cpuNs(): number {
    return this.alive ? processCpuNs(this.pid) : 0;
  }

  rssBytes(): number {
    return this.alive ? residentBytes(this.pid) : 0;
  }

  resume(): void {
    if (this.alive) process.kill(this.pid, 'SIGCONT');
  }

  pause(): void {
    if (this.alive) process.kill(this.pid, 'SIGSTOP');
  }

  /** Waits until the server has nothing to do: connections of the last sample are closed, compilers are done. Bounded. */
  async settle(): Promise<void> {
    for (let i = 0; i < 40; i++) {
      const before = this.cpuNs();
      await new Promise((resolve) => setTimeout(resolve, 25));
      if (this.cpuNs() - before < 1e6) return;
    }
  }

  async close(): Promise<void> {
    if (!this.alive) return;
    const ended = once(this.#child, 'exit');
    this.#child.kill('SIGKILL');
    await ended;
  }
}

async function readyPort(child: ChildProcess, server: ServerCommand): Promise<number> {
  let said = '';
  return new Promise((resolve, reject) => {
    const fail = (why: string) => {
      child.kill('SIGKILL');
      reject(new Error(`${server.command.join(' ')} ${why}${said === '' ? '' : `:\n${said.trim().slice(-2000)}`}`));
    };
    const timer = setTimeout(() => fail('was not ready in time'), READY_MS);
    const listen = (chunk: Buffer) => {
      said = (said + chunk.toString('utf8')).slice(-20_000);
      const match = server.ready.exec(said);
      if (match === null) return;
      clearTimeout(timer);
      resolve(server.port ?? Number(match[1]));
    };
    child.stdout!.on('data', listen);
    child.stderr!.on('data', listen);
    child.once('error', (error) => fail(`cannot be started (${error.message})`));
    child.once('exit', (code, signal) => {
      clearTimeout(timer);
      fail(`ended (${signal ?? code})`);
    });
  });
}
