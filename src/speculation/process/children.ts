/**
 * Waiting for children whose exits are held: the parent may be told of them before they have really ended.
 * It asks the engine (`needs`), and keeps the parent's view and the kernel's apart until the exits have happened.
 */
import { currentCall } from '../../linux/proc.ts';
import {
  callArgument,
  childExitInfo,
  interrupt,
  readSignal,
  sendThreadSignal,
  signalSender,
  writeSignal,
} from '../../linux/ptrace.ts';
import type { SavedRegisters } from '../../linux/registers.ts';
import type { ExitStatus, Pid } from './backend.ts';
import type { TracerCore } from './core.ts';
import { Hold, isSpeculative, learnFrom, Stop, type Tracee } from './tracee.ts';
import { answerWait, asksFor, canBeAnswered, type WaitRequest, waitRequest } from './waits.ts';

export const SIGCHLD = 17;
const ECHILD = -10;

/** A child whose exit is held and of which its parent has not been told. */
function hasFinished(child: Tracee): boolean {
  return (child.hold === Hold.EXIT || child.hold === Hold.DEATH) && child.toldAfter === undefined;
}

function callOf(core: TracerCore, number: number): 'wait4' | 'waitid' | undefined {
  const name = core.callName(number);
  return name === 'wait4' || name === 'waitid' ? name : undefined;
}

/** A process has come to its exit, speculatively: tells the engine, and finds out whether the parent waits for it. */
export function onExitHeld(core: TracerCore, tracee: Tracee): void {
  core.counts.exitsHeld++;
  core.log(() => `exit of ${tracee.pid} held`);
  const { parent } = tracee;
  core.emit({ type: 'exitHeld', pid: tracee.pid, parent: parent?.pid ?? 0, status: tracee.exitStatus! });
  if (!parent || parent.doomed || parent.undo || parent.threads) return;
  if (parent.hold === Hold.TRUTH || parent.hold === Hold.NEEDS) {
    core.again(parent);
  } else if (parent.stop === Stop.NONE) {
    const call = currentCall(parent.pid);
    const name = call && callOf(core, call.number);
    if (call && name) {
      const request = waitRequest(name, (i) => call.args[i]!);
      if (canBeAnswered(request) && asksFor(request, parent.pid, tracee.pid)) {
        ask(core, parent, tracee);
        return;
      }
    }
    if (!core.needsStops(parent)) interrupt(parent.pid);
    parent.watched = true;
  } else {
    parent.watched = true;
  }
}

function ask(core: TracerCore, waiter: Tracee, child: Tracee): void {
  waiter.watched = true;
  if (waiter.asked.has(child.pid)) return;
  waiter.asked.add(child.pid);
  core.emit({ type: 'needs', pid: waiter.pid, child: child.pid });
}

/** The process stands before a wait. */
export function awaitChild(core: TracerCore, tracee: Tracee, name: 'wait4' | 'waitid'): void {
  const request = waitRequest(name, callArgument);
  if (tracee.reapable.size > 0) {
    // What it has been told of must be gone before the kernel is asked.
    const registers = core.injector.cancel(tracee.pid);
    core.reap(tracee);
    core.repeat(tracee, registers);
    return;
  }
  if (!canBeAnswered(request)) {
    if (isSpeculative(tracee)) core.hold(tracee, name, 'an unusual wait');
    else letGo(core, tracee);
    return;
  }
  for (const child of tracee.dead.owed) {
    if (!asksFor(request, tracee.pid, child.pid)) continue;
    const registers = core.injector.cancel(tracee.pid);
    core.counts.waitsEmulated++;
    tracee.dead.told(child, tracee.checkpoints.at(-1)?.id);
    answer(core, tracee, registers, request, child.pid, child.status);
    return;
  }
  const candidates = [...tracee.children].filter((child) => !child.threads || child.pid === tracee.pid);
  const wanted = candidates.filter((child) => asksFor(request, tracee.pid, child.pid));
  const finished = wanted.find(hasFinished);
  if (finished) {
    tracee.hold = Hold.NEEDS;
    tracee.asked.delete(finished.pid);
    ask(core, tracee, finished);
    return;
  }
  const untold = wanted.filter((child) => child.toldAfter === undefined);
  if (untold.length === 0 && wanted.length > 0 && !tracee.dead.hasZombie((pid) => asksFor(request, tracee.pid, pid))) {
    // Those that are left have ended as far as it knows.
    const registers = core.injector.cancel(tracee.pid);
    const { registers: now } = core.injector;
    now.load(registers);
    now.result = ECHILD;
    now.leaveCall();
    now.write(tracee.pid);
    core.go(tracee);
    return;
  }
  letGo(core, tracee);
}

function letGo(core: TracerCore, tracee: Tracee): void {
  tracee.waiting = true;
  core.go(tracee);
}

/** A wait that was let go to the kernel has ended. */
export function onWaitEnd(core: TracerCore, tracee: Tracee, result: number): void {
  if (result > 0 && tracee.toReap.has(result)) {
    // It has been told already: the kernel's answer did the reaping, and the wait goes on.
    tracee.toReap.delete(result);
    tracee.reapable.delete(result);
    const { registers } = core.injector;
    registers.read(tracee.pid);
    core.repeat(tracee, registers.save());
    return;
  }
  if (result >= 0) tracee.dead.waitedFor(tracee.checkpoints.at(-1)?.id);
  settle(tracee);
  core.go(tracee);
}

/** Whether its waits need watching no longer. */
export function settle(tracee: Tracee): void {
  if (!tracee.watched || tracee.toReap.size > 0 || tracee.dead.owes) return;
  for (const child of tracee.children) if (child.hold === Hold.EXIT || child.hold === Hold.DEATH) return;
  tracee.watched = false;
}

/**
 * The engine has agreed: `tracee`, which stands behind its interrupted or cancelled wait, is told of this child. False if
 * its end is not held (any more).
 */
export function tellWaiter(core: TracerCore, tracee: Tracee, registers: SavedRegisters, pid: Pid): boolean {
  const { registers: now } = core.injector;
  now.load(registers);
  const name = callOf(core, now.call);
  if (!name) return false;
  const request = waitRequest(name, (i) => now.argument(i));
  const child = [...tracee.children].find((one) => one.pid === pid);
  if (!child?.exitStatus || !hasFinished(child) || !asksFor(request, tracee.pid, pid)) return false;
  child.toldAfter = tracee.checkpoints.at(-1);
  learnFrom(tracee, child);
  tracee.asked.delete(child.pid);
  tracee.toReap.add(child.pid);
  tracee.swallow.add(child.pid);
  core.counts.waitsEmulated++;
  if (core.hasHandler(tracee, SIGCHLD)) sendChildSignal(core, tracee, child.pid, child.exitStatus);
  answer(core, tracee, registers, request, child.pid, child.exitStatus);
  return true;
}

function answer(
  core: TracerCore,
  tracee: Tracee,
  saved: SavedRegisters,
  request: WaitRequest,
  child: Pid,
  status: ExitStatus,
): void {
  const { registers } = core.injector;
  registers.load(saved);
  answerWait(registers, tracee.pid, request, child, status);
  registers.write(tracee.pid);
  core.log(() => `told ${tracee.pid} of the end of ${child}`);
  core.go(tracee);
}

/** A child has really ended: the parent's program will wait for it, or has been told already, or must never know. */
export function onReallyEnded(core: TracerCore, parent: Tracee, child: Tracee, status: ExitStatus): void {
  const { pid, birth, toldAfter } = child;
  const ended = { pid, birth, status, signalled: false };
  if (child.doomed && !parent.ended) {
    parent.toReap.add(pid);
    parent.swallow.add(pid);
  } else if (toldAfter) parent.dead.told(ended, toldAfter.state === 'open' ? toldAfter.id : undefined);
  else parent.dead.ended(ended);
  core.becameReapable(parent, pid);
}

/** A SIGCHLD is about to be delivered: whether the program may see it, and as whose. */
export function onChildSignal(tracee: Tracee): boolean {
  readSignal(tracee.pid);
  let sender = signalSender();
  if (sender === process.pid) {
    const fake = tracee.fakeChild;
    tracee.fakeChild = undefined;
    if (!fake) return false;
    sender = fake.pid;
    describe(tracee, fake.pid, fake.status);
  } else if (tracee.swallow.delete(sender) || tracee.dead.zombie(sender)?.signalled) {
    // A second SIGCHLD is lost while the first has not been delivered: this one may stand for another child's.
    const other = tracee.dead.unsignalled;
    if (!other) return false;
    sender = other.pid;
    describe(tracee, other.pid, other.status);
  }
  const child = tracee.dead.zombie(sender);
  if (child) child.signalled = true;
  for (const checkpoint of tracee.checkpoints) checkpoint.childSignals.add(sender);
  return true;
}

/** Sends a SIGCHLD that will look like this child's. */
export function sendChildSignal(core: TracerCore, tracee: Tracee, pid: Pid, status: ExitStatus): void {
  tracee.fakeChild = { pid, status };
  sendThreadSignal(core.injector.numbers.tgkill!, tracee.pid, SIGCHLD);
}

function describe(tracee: Tracee, child: Pid, { code, signal }: ExitStatus): void {
  writeSignal(tracee.pid, childExitInfo(child, process.getuid?.() ?? 0, code, signal));
}
