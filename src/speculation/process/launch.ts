/**
 * Starts processes for the tracer: each is traced before its program begins.
 * It must be used on the tracer's thread, whose tracees they become.
 */
import { systemError } from '../../errors.ts';
import { writeMemory } from '../../linux/process-memory.ts';
import { resume, seize, sendSignal, TraceOption, waitFor } from '../../linux/ptrace.ts';
import { type SpawnOptions, spawnStopped } from '../../linux/spawn.ts';
import type { Pid } from './backend.ts';
import type { Injector } from './injector.ts';

const SIGKILL = 9;
const SIGCONT = 18;
/** Below the stack pointer, what a function may use (the red zone). */
const STACK_BELOW = 128;
const OPTIONS =
  TraceOption.SYSGOOD |
  TraceOption.FORK |
  TraceOption.VFORK |
  TraceOption.CLONE |
  TraceOption.EXEC |
  TraceOption.EXITKILL;

/** A process that becomes the program when it is sent SIGCONT. @throws IsthmusError EPERM where tracing is not permitted */
export function launch(options: SpawnOptions): Pid {
  const pid = spawnStopped(options);
  const got = seize(pid, OPTIONS);
  if (got < 0) {
    sendSignal(pid, SIGKILL);
    throw systemError(-got, 'ptrace', 'PTRACE_SEIZE');
  }
  waitFor(pid);
  return pid;
}

/** A process that waits for ever. */
export function launchIdle(injector: Injector): Pid {
  const pid = launch({ command: ['true'], env: {}, stdio: [0, 1, 2] });
  const { registers } = injector;
  registers.read(pid);
  registers.prepareCall(injector.findInstruction(pid), injector.numbers.pause!, []);
  registers.write(pid);
  sendSignal(pid, SIGCONT);
  resume(pid);
  return pid;
}

/**
 * Lets a launched process begin in a directory. Only now: what it may wait for (our mount) ends with us, since it holds
 * nothing of ours any more but its standard descriptors. @throws IsthmusError ENOENT, ENOTDIR, …; the process is killed
 */
export function enterDirectory(injector: Injector, pid: Pid, directory: string): void {
  const { registers } = injector;
  registers.read(pid);
  const saved = registers.save();
  const path = new TextEncoder().encode(`${directory}\0`);
  const place = registers.stackPointer - STACK_BELOW - path.length;
  writeMemory(pid, place, path);
  const got = injector.call(pid, injector.findInstruction(pid), 'chdir', [place]);
  if (got < 0) {
    sendSignal(pid, SIGKILL);
    throw systemError(-got, 'chdir', directory);
  }
  registers.load(saved);
  registers.write(pid);
}
