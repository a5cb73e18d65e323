/**
 * Holds a lab: as this process until it is asked to end, or by a process that it leaves behind.
 * It touches namespaces, and the child process that it starts.
 */
import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { IsthmusError } from '../errors.ts';
import { holdLab, type LabStatus } from '../linux/lab-control.ts';

export interface HoldOptions {
  readonly name: string;
  readonly queues: number;
  readonly mtu: number;
  readonly offloads: boolean;
  readonly headroom: boolean;
  /** What a packet takes in one direction on the slow way; 0 for no such way. */
  readonly delayMs: number;
}

const READY_MS = 20_000;

/**
 * Makes the lab and holds it until the signal or `lab down`.
 * @throws IsthmusError EPERM without root, EADDRINUSE where it is up
 */
export async function hold(
  { name, ...options }: HoldOptions,
  interrupted: AbortSignal,
  ready: (status: LabStatus) => void,
): Promise<void> {
  let held: Awaited<ReturnType<typeof holdLab>>;
  try {
    held = await holdLab(name, options);
  } catch (error) {
    throw explain(error, name);
  }
  try {
    ready(held.status);
    await Promise.race([
      held.ended,
      new Promise<void>((resolve) => {
        if (interrupted.aborted) resolve();
        interrupted.addEventListener('abort', () => resolve(), { once: true });
      }),
    ]);
  } finally {
    held.close();
  }
}

function explain(error: unknown, name: string): unknown {
  if (!(error instanceof IsthmusError)) return error;
  const { code, errno, syscall } = error;
  if (code === 'EPERM' || code === 'EACCES') {
    const text = 'a lab needs root (CAP_SYS_ADMIN and CAP_NET_ADMIN): sudo isthmus lab up';
    return new IsthmusError(`${text} (${error.message})`, { code, errno, syscall, cause: error });
  }
  if (code === 'EADDRINUSE') {
    const text = `lab ${name} is up already: isthmus lab status shows it, isthmus lab down ends it`;
    return new IsthmusError(text, { code, errno, syscall, cause: error });
  }
  return error;
}

/** Starts a process that holds the lab and lives on. @throws IsthmusError with what it said where it could not */
export async function leaveHolder(options: HoldOptions): Promise<LabStatus> {
  const { name, queues, mtu, offloads, headroom, delayMs } = options;
  const args = ['lab', 'up', '--foreground', '--json', '--name', name, '--queues', `${queues}`, '--mtu', `${mtu}`];
  if (offloads) args.push('--offloads');
  if (headroom) args.push('--headroom');
  if (delayMs > 0) args.push('--delay', `${delayMs}ms`);
  const main = new URL(import.meta.url.endsWith('.ts') ? './main.ts' : './main.js', import.meta.url);
  // Neither the terminal's signals nor the end of this process are for it.
  const child = spawn(process.execPath, [...process.execArgv, fileURLToPath(main), ...args], {
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe'],
    cwd: '/',
  });
  return new Promise((resolve, reject) => {
    let out = '';
    let err = '';
    const fail = (why: string): void => {
      clearTimeout(timer);
      child.kill('SIGKILL');
      const said = err.trim().replace(/^isthmus lab: /, '');
      reject(new IsthmusError(said === '' ? why : said, { code: 'ERR_LAB', syscall: 'lab' }));
    };
    const timer = setTimeout(() => fail('the lab did not stand in time'), READY_MS);
    child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
      out += chunk;
      if (!out.includes('\n')) return;
      clearTimeout(timer);
      child.removeAllListeners('exit');
      child.stdout.destroy();
      child.stderr.destroy();
      child.unref();
      resolve(JSON.parse(out) as LabStatus);
    });
    child.stderr.setEncoding('utf8').on('data', (chunk: string) => {
      err += chunk;
    });
    child.once('error', (error) => fail(error.message));
    child.once('close', () => fail('the process that holds the lab has ended'));
  });
}
