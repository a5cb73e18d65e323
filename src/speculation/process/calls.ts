/**
 * What happens at the entry and the end of a traced process's system call: the table's verdict carried out.
 * It resumes, holds or answers the process; waits for children are in children.ts.
 */
import { descriptorInfo } from '../../linux/proc.ts';
import { readMemory } from '../../linux/process-memory.ts';
import { callArchitecture, callArgument, callArgumentInt, callNumber } from '../../linux/ptrace.ts';
import type { Verdict } from './call-view.ts';
import { awaitChild, onExitHeld, onWaitEnd } from './children.ts';
import type { TracerCore } from './core.ts';
import { canUndoExec, isPlainProgram } from './restore-program.ts';
import { SYSTEM_CALLS } from './syscalls.ts';
import { dependencies, Hold, isSpeculative, type Tracee } from './tracee.ts';
import { readVectors } from './vectors.ts';

const DEFAULT_MAX_WITHHELD = 8 << 20;
/** One write is withheld up to this; a longer one is short, as it may be. */
const MAX_WRITE_BYTES = 1 << 20;
const ERRNO_TEXT_BUSY = 26;
const WAITS = new Set(['wait4', 'waitid']);

/** Calls that move a descriptor's position, and which arguments are the descriptors. */
const MOVES: Readonly<Record<string, readonly number[]>> = {
  read: [0],
  readv: [0],
  preadv2: [0],
  write: [0],
  writev: [0],
  pwritev2: [0],
  lseek: [0],
  getdents: [0],
  getdents64: [0],
  sendfile: [0, 1],
  copy_file_range: [0, 2],
};

/** The process stands before a call (read by `readCall`), nothing else is wanted of it. */
export function onEntry(core: TracerCore, tracee: Tracee): void {
  const number = callNumber();
  const name = core.callName(number);
  if (callArchitecture() !== core.injector.machine.architecture) {
    if (isSpeculative(tracee)) core.hold(tracee, name, 'a call of another machine width');
    else core.go(tracee);
    return;
  }
  if (tracee.truthNext) {
    if (isSpeculative(tracee)) {
      core.hold(tracee, name, 'a parked copy has the file open');
      return;
    }
    tracee.truthNext = false;
  }
  if (!core.local.maySee(tracee, name)) {
    core.hold(tracee, name, 'another process has changed it, perhaps', Hold.LOCAL);
    return;
  }
  if (!isSpeculative(tracee)) {
    if (WAITS.has(name)) awaitChild(core, tracee, name as 'wait4' | 'waitid');
    else if (name === 'exit_group' && tracee.toReap.size > 0) reapBeforeExit(core, tracee);
    else core.go(tracee);
    return;
  }
  const moved = MOVES[name];
  if (moved !== undefined) noteMoves(tracee, moved);
  const rule = SYSTEM_CALLS[name];
  if (number < 0) {
    core.go(tracee);
    return;
  }
  carryOut(core, tracee, name, rule ? rule(core.call.of(tracee)) : `wait: ${name}`);
}

/** Notes in whose positions the call may move. */
function noteMoves(tracee: Tracee, descriptors: readonly number[]): void {
  for (const at of descriptors) {
    const file = descriptorInfo(tracee.pid, callArgumentInt(at))?.file;
    if (file !== undefined) for (const { moved } of dependencies(tracee)) moved.add(file);
  }
}

/** What it was told of, and parked copies of it, would be left to init as zombies. */
function reapBeforeExit(core: TracerCore, tracee: Tracee): void {
  if (tracee.reapable.size === 0) {
    tracee.hold = Hold.REAP;
    return;
  }
  const registers = core.injector.cancel(tracee.pid);
  core.reap(tracee);
  core.repeat(tracee, registers);
}

function carryOut(core: TracerCore, tracee: Tracee, name: string, verdict: Verdict): void {
  switch (verdict) {
    case 'allow':
      core.go(tracee);
      return;
    case 'write inside':
      if (core.isUnreadPipe(tracee, callArgumentInt(0))) core.hold(tracee, name, 'nobody reads this pipe');
      else core.go(tracee);
      return;
    case 'withhold':
      withhold(core, tracee, name);
      return;
    case 'exit':
      if (tracee.checkpoints.length === 0) {
        // Whoever can be told of it will be undone with it.
        core.go(tracee);
        return;
      }
      tracee.hold = Hold.EXIT;
      tracee.exitStatus = { code: callArgumentInt(0) & 0xff, signal: 0 };
      onExitHeld(core, tracee);
      return;
    case 'exec':
      if (tracee.checkpoints.length === 0 || canTakeBackExec(core, tracee, name)) core.go(tracee);
      else core.hold(tracee, name, 'a program that could not be taken back');
      return;
    case 'await child':
      awaitChild(core, tracee, name as 'wait4' | 'waitid');
      return;
    case 'signal action':
      for (const checkpoint of tracee.checkpoints) checkpoint.actionsChanged.add(callArgumentInt(0));
      core.go(tracee);
      return;
    case 'alternate stack':
      for (const checkpoint of tracee.checkpoints) checkpoint.alternateStackChanged = true;
      core.go(tracee);
      return;
    case 'change local':
      changeLocal(core, tracee, name);
      return;
    case 'make pipe':
      tracee.makingPipe = callArgument(0);
      core.go(tracee);
      return;
    default:
      core.hold(tracee, name, verdict.slice('wait: '.length));
  }
}

/** Whether the old program can be put back after this exec. */
function canTakeBackExec(core: TracerCore, tracee: Tracee, name: string): boolean {
  if (!canUndoExec()) return false;
  const call = core.call.of(tracee);
  const at = name === 'execveat';
  // The mount is not looked at from here: its requests may wait for this very process.
  if (call.path(at ? 1 : 0, at ? 0 : -1) === 'mount') return false;
  const path = call.absolutePath(at ? 1 : 0, at ? 0 : -1);
  return path === undefined || isPlainProgram(path);
}

function changeLocal(core: TracerCore, tracee: Tracee, name: string): void {
  const recorded = core.local.record(tracee, name);
  if (typeof recorded === 'string') {
    core.hold(tracee, name, recorded);
    return;
  }
  tracee.changing = recorded;
  core.go(tracee);
}

function withhold(core: TracerCore, tracee: Tracee, name: string): void {
  const bytes = outputOf(tracee, name);
  const limit = core.options.maxWithheldBytes ?? DEFAULT_MAX_WITHHELD;
  if (bytes === undefined) {
    core.hold(tracee, name, 'output of an unusual kind');
    return;
  }
  if (core.output.bytes + bytes.length > limit) {
    core.hold(tracee, name, 'too much output is withheld');
    return;
  }
  const fd = callArgumentInt(0);
  if (core.isUnreadPipe(tracee, fd) || !core.output.add(tracee, fd, bytes, dependencies(tracee))) {
    core.hold(tracee, name, 'nobody reads this output');
    return;
  }
  core.counts.withheldWrites++;
  core.counts.withheldBytes += bytes.length;
  core.emit({ type: 'withheld', pid: tracee.pid, fd, bytes: bytes.length, total: core.output.bytes });
  const { registers } = core.injector;
  registers.read(tracee.pid);
  registers.cancelCall();
  registers.result = bytes.length;
  registers.write(tracee.pid);
  core.go(tracee);
}

/** The bytes that a call is about to write; undefined where that is not plain. */
function outputOf(tracee: Tracee, name: string): Uint8Array | undefined {
  try {
    if (name === 'write' || (name === 'sendto' && callArgument(4) === 0)) {
      return readMemory(tracee.pid, callArgument(1), Math.min(callArgument(2), MAX_WRITE_BYTES));
    }
    if (name !== 'writev') return undefined;
    const vectors = readVectors(tracee.pid, callArgument(1), callArgumentInt(2));
    if (vectors.length === 0) return undefined;
    const pieces: Uint8Array[] = [];
    let total = 0;
    for (const { address, length } of vectors) {
      const wanted = Math.min(length, MAX_WRITE_BYTES - total);
      if (wanted > 0) pieces.push(readMemory(tracee.pid, address, wanted));
      total += wanted;
    }
    return Buffer.concat(pieces);
  } catch {
    return undefined; // a bad address: the truth says EFAULT
  }
}

/** The process has just finished a call, nothing else is wanted of it. */
export function onEnd(core: TracerCore, tracee: Tracee, result: number): void {
  if (tracee.changing) {
    if (result < 0) core.journal.drop(tracee.changing);
    tracee.changing = undefined;
  }
  if (result === -ERRNO_TEXT_BUSY && isSpeculative(tracee)) {
    tracee.truthNext = true;
    const { registers } = core.injector;
    registers.read(tracee.pid);
    core.repeat(tracee, registers.save());
    return;
  }
  if (tracee.makingPipe !== 0) {
    const at = tracee.makingPipe;
    tracee.makingPipe = 0;
    if (result === 0) {
      const bytes = readMemory(tracee.pid, at, 8);
      core.notePipe(tracee, [...new Int32Array(bytes.buffer, bytes.byteOffset, 2)]);
    }
  }
  if (tracee.waiting) {
    tracee.waiting = false;
    onWaitEnd(core, tracee, result);
    return;
  }
  core.go(tracee);
}

/** Something has changed for a held process: looks at it again. */
export function reconsider(core: TracerCore, tracee: Tracee): void {
  if (tracee.ended || tracee.doomed || tracee.undo) return;
  if (tracee.hold === Hold.NONE || tracee.hold === Hold.ASKED) return;
  if (tracee.hold === Hold.NEEDS || tracee.hold === Hold.LOCAL) {
    core.again(tracee);
    return;
  }
  if (isSpeculative(tracee)) return;
  if (tracee.hold === Hold.TRUTH || tracee.hold === Hold.EXIT || tracee.hold === Hold.REAP) core.again(tracee);
  else if (tracee.hold === Hold.DEATH) core.go(tracee, tracee.stopSignal);
}
