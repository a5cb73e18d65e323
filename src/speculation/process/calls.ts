/**
 * What happens at the entry and the end of a traced process's system call: the table's verdict carried out.
 * It resumes, holds or answers the process; waits for children are in children.ts.
 */
import { readMemory } from '../../linux/process-memory.ts';
import { callArchitecture, callArgument, callArgumentInt, callNumber } from '../../linux/ptrace.ts';
import { awaitChild, onExitHeld, onWaitEnd } from './children.ts';
import type { TracerCore } from './core.ts';
import { SYSTEM_CALLS, type Verdict } from './syscalls.ts';
import { dependencies, Hold, isSpeculative, type Tracee } from './tracee.ts';

const DEFAULT_MAX_WITHHELD = 8 << 20;
/** One write is withheld up to this; a longer one is short, as it may be. */
const MAX_WRITE_BYTES = 1 << 20;
const WAITS = new Set(['wait4', 'waitid']);

/** The process stands before a call (read by `readCall`), nothing else is wanted of it. */
export function onEntry(core: TracerCore, tracee: Tracee): void {
  const number = callNumber();
  const name = core.callName(number);
  if (callArchitecture() !== core.injector.machine.architecture) {
    if (isSpeculative(tracee)) core.hold(tracee, name, 'a call of another machine width');
    else core.go(tracee);
    return;
  }
  if (!isSpeculative(tracee)) {
    if (WAITS.has(name)) awaitChild(core, tracee, name as 'wait4' | 'waitid');
    else if (name === 'exit_group' && tracee.toReap.size > 0) reapBeforeExit(core, tracee);
    else core.go(tracee);
    return;
  }
  const rule = SYSTEM_CALLS[name];
  if (number < 0) {
    core.go(tracee);
    return;
  }
  carryOut(core, tracee, name, rule ? rule(core.call.of(tracee)) : `wait: ${name}`);
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
      if (tracee.checkpoints.length === 0) core.go(tracee);
      else core.hold(tracee, name, 'another program takes the place of one that has a checkpoint');
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
    case 'make pipe':
      tracee.makingPipe = callArgument(0);
      core.go(tracee);
      return;
    default:
      core.hold(tracee, name, verdict.slice('wait: '.length));
  }
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
  if (!core.output.add(tracee, fd, bytes, dependencies(tracee))) {
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
    const count = callArgumentInt(2);
    if (count <= 0 || count > 1024) return undefined;
    const vectors = readMemory(tracee.pid, callArgument(1), count * 16);
    const view = new DataView(vectors.buffer, vectors.byteOffset);
    const pieces: Uint8Array[] = [];
    let total = 0;
    for (let i = 0; i < count && total < MAX_WRITE_BYTES; i++) {
      const length = Math.min(Number(view.getBigUint64(i * 16 + 8, true)), MAX_WRITE_BYTES - total);
      if (length > 0) pieces.push(readMemory(tracee.pid, Number(view.getBigUint64(i * 16, true)), length));
      total += length;
    }
    return Buffer.concat(pieces);
  } catch {
    return undefined; // a bad address: the truth says EFAULT
  }
}

/** The process has just finished a call, nothing else is wanted of it. */
export function onEnd(core: TracerCore, tracee: Tracee, result: number): void {
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
  if (tracee.hold === Hold.NEEDS) {
    core.again(tracee);
    return;
  }
  if (isSpeculative(tracee)) return;
  if (tracee.hold === Hold.TRUTH || tracee.hold === Hold.EXIT || tracee.hold === Hold.REAP) core.again(tracee);
  else if (tracee.hold === Hold.DEATH) core.go(tracee, tracee.stopSignal);
}
