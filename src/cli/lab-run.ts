/**
 * A command on one side of the lab: its streams are ours, its end is our end.
 * It touches that child process, and this thread's namespace while the child is started.
 */
import { spawn } from 'node:child_process';
import { constants } from 'node:os';
import { IsthmusError, systemError } from '../errors.ts';
import { labStatus } from '../linux/lab-control.ts';
import { openNamespace } from '../linux/namespace.ts';

/** @returns its exit code, or 128 and the signal's number, as a shell does */
export async function runInLab(
  name: string,
  side: 'server' | 'client',
  command: readonly string[],
  interrupted: AbortSignal,
): Promise<number> {
  const status = await labStatus(name);
  if (status === null) {
    throw new IsthmusError(`lab ${name} is not up; isthmus lab up makes it`, { code: 'ENOENT', errno: -2 });
  }
  const namespace = openNamespace(status[side].path);
  try {
    const [program, ...args] = command;
    const child = namespace.run(() => spawn(program!, args, { stdio: 'inherit' }));
    // A terminal sends Ctrl-C to the child as well; whoever signals only us means it.
    const pass = () => child.kill('SIGTERM');
    interrupted.addEventListener('abort', pass);
    return await new Promise<number>((resolve, reject) => {
      child.once('error', (error: NodeJS.ErrnoException) => reject(systemError(error.errno ?? 2, 'spawn', program)));
      child.once('exit', (code, signal) => resolve(code ?? 128 + (constants.signals[signal!] ?? 0)));
    });
  } finally {
    namespace.close();
  }
}
