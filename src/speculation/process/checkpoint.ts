/**
 * Takes checkpoints: a copy of a stopped process, made by a clone that its program does not see, parked for ever.
 * It stops at nothing but the process itself; what it notes beside memory (positions, mask) comes from /proc and ptrace.
 */
import { sameOpenFile } from '../../linux/descriptor.ts';
import { descriptorInfo, listDescriptors, readProc, readProcLink } from '../../linux/proc.ts';
import type { SavedRegisters } from '../../linux/registers.ts';
import type { Refusal } from './backend.ts';
import type { Injector } from './injector.ts';
import { ownSignalsPending } from './signals.ts';
import { type Checkpoint, createCheckpoint, type Tracee } from './tracee.ts';

// Traced from its first instruction on, no event for its maker, no signal at its end, and invisible to a plain wait.
const O_ACCMODE = 3;
const CLONE_PTRACE = 0x2000;
const CLONE_UNTRACED = 0x800000;
const SHARED_WRITABLE = / [r-]w[x-]s /;

/** Whether memory of it is shared for writing with others, so that a copy would not keep what it was. */
function hasSharedMemory(pid: number): boolean {
  return SHARED_WRITABLE.test(readProc(`/proc/${pid}/maps`) ?? '');
}

/**
 * Positions of a process's descriptors that have one (and whether it matters when one is closed: a pipe, a file that is written to), but for those in `shared` (descriptors of ours): what is written there is
 * withheld, so the process cannot have moved them, and others go on writing there.
 */
function readPositions(
  pid: number,
  getdents64: number,
  shared: readonly number[],
): { positions: [number, number][]; closesLate: boolean } {
  const positions: [number, number][] = [];
  let closesLate = false;
  for (const fd of listDescriptors(pid, getdents64)) {
    const info = descriptorInfo(pid, fd);
    if (!info) continue;
    const writes = (info.flags & O_ACCMODE) !== 0;
    if (writes && shared.some((own) => sameOpenFile(pid, fd, process.pid, own))) continue;
    closesLate ||= writes || readProcLink(`/proc/${pid}/fd/${fd}`)?.startsWith('pipe:') === true;
    positions.push([fd, info.position]);
  }
  return { positions, closesLate };
}

/**
 * Copies a process that stands between user code and kernel. `registers` are those from which it shall go on, after a
 * repeated call where `repeat`. Its registers are left changed: the caller sets them.
 */
export function takeCheckpoint(
  injector: Injector,
  tracee: Tracee,
  id: number,
  registers: SavedRegisters,
  repeat: boolean,
  shared: readonly number[],
): Checkpoint | Refusal {
  const { pid } = tracee;
  if (tracee.instruction === 0) tracee.instruction = injector.findInstruction(pid);
  if (tracee.instruction === 0) return 'foreign';
  if (hasSharedMemory(pid)) return 'shared-memory';
  const { positions, closesLate } = readPositions(pid, injector.numbers.getdents64!, shared);
  const raised = ownSignalsPending(pid);
  const mask = injector.blockSignals(pid);
  const copy = injector.call(pid, tracee.instruction, 'clone', [CLONE_PTRACE | CLONE_UNTRACED, 0, 0, 0, 0]);
  injector.unblockSignals(pid, mask);
  if (copy < 0) return 'foreign';
  return createCheckpoint({ id, tracee, copy, registers, repeat, mask, positions, closesLate, raised });
}
