/**
 * Puts a process back to a checkpoint where it stands: memory, descriptors, positions, working directory, umask, signal
 * actions and registers, from its parked copy. It works by calls injected into both; nobody else notices.
 */
import { sameOpenFile } from '../../linux/descriptor.ts';
import { mapArena } from '../../linux/memory.ts';
import { descriptorInfo, listDescriptors, readMappings, readProcLink, statusField } from '../../linux/proc.ts';
import { readMemory, writeMemory } from '../../linux/process-memory.ts';
import { readRegisterSet, readRseq, writeRegisterSet, writeSignalMask } from '../../linux/ptrace.ts';
import { isUnder } from './descriptors.ts';
import type { Injector } from './injector.ts';
import { restoreMemory } from './restore-memory.ts';
import { kernelPages, moveKernelPages, restoreProgram } from './restore-program.ts';
import { dropOwnSignals } from './signals.ts';
import type { Checkpoint, Tracee } from './tracee.ts';

const PROT_READ_WRITE = 3;
const MAP_PRIVATE_ANONYMOUS = 0x22;
const MAP_FIXED = 0x10;
const PAGE = 4096;
const O_CLOEXEC = 0o2000000;
const O_APPEND = 0o2000;
const F_DUPFD_CLOEXEC = 1030;
const F_SETFD = 2;
const RSEQ_UNREGISTER = 1;
const SIGACTION_BYTES = 32;
const STACK_BYTES = 24;
const EXTENDED_STATE_BYTES = 1 << 15;
const ALL_ACTIONS: ReadonlySet<number> = new Set(Array.from({ length: 64 }, (_, i) => i + 1));

let extended: { address: number } | undefined;

/** The process must stand between user code and kernel, its copy parked. The copy is of no more use afterwards. */
export function restoreInPlace(
  injector: Injector,
  tracee: Tracee,
  checkpoint: Checkpoint,
  mounts: readonly string[],
): void {
  const { pid } = tracee;
  const { copy, execed } = checkpoint;
  let { instruction } = tracee;
  const copyInstruction = execed ? injector.findInstruction(copy) : instruction;
  const inject = (name: string, ...args: number[]): number => injector.call(pid, instruction, name, args);
  const injectCopy = (name: string, ...args: number[]): number => injector.call(copy, copyInstruction, name, args);
  injector.blockSignals(pid);
  const kernel = kernelPages(pid);
  const place = freePlace(pid, copy, PAGE + kernel.length);
  const page = must('mmap', inject('mmap', place, PAGE, PROT_READ_WRITE, MAP_PRIVATE_ANONYMOUS | MAP_FIXED, -1, 0));
  dropOwnSignals(pid, page, inject);
  // The kernel writes to this area whenever it likes: it must not lie where memory goes away.
  const rseq = readRseq(pid);
  const wantedRseq = readRseq(copy);
  const moved = execed || rseq?.address !== wantedRseq?.address;
  if (rseq && moved) must('rseq', inject('rseq', rseq.address, rseq.length, RSEQ_UNREGISTER, rseq.signature));
  if (execed) instruction += moveKernelPages(pid, place + PAGE, inject);
  restoreMemory({ pid, copy, page, execed, inject, injectCopy });
  if (execed) {
    instruction += moveKernelPages(pid, kernelPages(copy).base, inject);
    tracee.instruction = instruction;
    restoreProgram(pid, copy, page, inject, injectCopy);
  }
  if (wantedRseq && moved) inject('rseq', wantedRseq.address, wantedRseq.length, 0, wantedRseq.signature);
  restoreDescriptors(injector, tracee, checkpoint, inject);
  askSizes(injector, pid, page, mounts, inject);
  for (const [fd, position] of checkpoint.positions) {
    const now = descriptorInfo(pid, fd);
    if (now && now.position !== position && checkpoint.moved.has(now.file)) inject('lseek', fd, position, 0);
  }
  if (readProcLink(`/proc/${pid}/cwd`) !== readProcLink(`/proc/${copy}/cwd`)) {
    writeMemory(pid, page, new TextEncoder().encode(`/proc/${copy}/cwd\0`));
    must('chdir', inject('chdir', page));
  }
  const umask = statusField(copy, 'Umask');
  if (umask !== undefined && umask !== statusField(pid, 'Umask')) inject('umask', Number.parseInt(umask, 8));
  // An exec sets all handlers to the default.
  const actions = execed ? ALL_ACTIONS : checkpoint.actionsChanged;
  const stack = execed || checkpoint.alternateStackChanged;
  if (actions.size > 0 || stack) {
    const copyPage = must('mmap', injectCopy('mmap', 0, PAGE, PROT_READ_WRITE, MAP_PRIVATE_ANONYMOUS, -1, 0));
    for (const signal of actions) {
      if (injectCopy('rt_sigaction', signal, 0, copyPage, 8) < 0) continue;
      writeMemory(pid, page, readMemory(copy, copyPage, SIGACTION_BYTES));
      inject('rt_sigaction', signal, page, 0, 8);
    }
    if (stack && injectCopy('sigaltstack', 0, copyPage) === 0) {
      writeMemory(pid, page, readMemory(copy, copyPage, STACK_BYTES));
      inject('sigaltstack', page, 0);
    }
  }
  inject('munmap', page, PAGE);
  copyExtraRegisters(injector, copy, pid);
  injector.unblockSignals(pid, checkpoint.mask);
}

/** An address where neither has anything, so that what we put there is in nobody's way. */
function freePlace(pid: number, copy: number, length: number): number {
  const mappings = [...readMappings(pid), ...readMappings(copy)];
  for (let place = 0x10000000; ; place += 0x10000000) {
    if (!mappings.some(({ start, end }) => start < place + length && end > place)) return place;
  }
}

/** Floating point and vector registers, from one stopped process to another. */
export function copyExtraRegisters(injector: Injector, from: number, to: number): void {
  extended ??= mapArena(EXTENDED_STATE_BYTES, { populate: false });
  for (const set of injector.machine.extraSets) {
    const length = readRegisterSet(from, set, extended.address, EXTENDED_STATE_BYTES);
    if (length > 0) writeRegisterSet(to, set, extended.address, length);
  }
}

/** The kernel appends at the size it knows last, which may be that of an undone write: makes it ask. */
function askSizes(
  injector: Injector,
  pid: number,
  page: number,
  mounts: readonly string[],
  inject: (name: string, ...args: number[]) => number,
): void {
  for (const fd of listDescriptors(pid, injector.numbers.getdents64!)) {
    if (
      (descriptorInfo(pid, fd)?.flags ?? 0) & O_APPEND &&
      isUnder(readProcLink(`/proc/${pid}/fd/${fd}`) ?? '', mounts)
    )
      inject('fstat', fd, page);
  }
}

function restoreDescriptors(
  injector: Injector,
  tracee: Tracee,
  { copy }: Checkpoint,
  inject: (name: string, ...args: number[]) => number,
): void {
  const { pid } = tracee;
  const getdents64 = injector.numbers.getdents64!;
  const wanted = listDescriptors(copy, getdents64);
  const have = listDescriptors(pid, getdents64);
  const present = new Set(have);
  const keep = new Set(wanted);
  for (const fd of have) if (!keep.has(fd)) inject('close', fd);
  let pidfd = -1;
  for (const fd of wanted) {
    const flags = (descriptorInfo(copy, fd)?.flags ?? 0) & O_CLOEXEC;
    if (present.has(fd) && sameOpenFile(pid, fd, copy, fd)) {
      if (((descriptorInfo(pid, fd)?.flags ?? 0) & O_CLOEXEC) !== flags) inject('fcntl', fd, F_SETFD, flags ? 1 : 0);
      continue;
    }
    if (pidfd < 0) {
      // Out of the way of the numbers to be restored.
      const low = must('pidfd_open', inject('pidfd_open', copy, 0));
      pidfd = must('fcntl', inject('fcntl', low, F_DUPFD_CLOEXEC, (wanted.at(-1) ?? 0) + 1));
      inject('close', low);
    }
    const got = must('pidfd_getfd', inject('pidfd_getfd', pidfd, fd, 0));
    if (got === fd) {
      if (!flags) inject('fcntl', fd, F_SETFD, 0);
    } else {
      must('dup3', inject('dup3', got, fd, flags));
      inject('close', got);
    }
  }
  if (pidfd >= 0) inject('close', pidfd);
}

/** Puts the registers back, so that the process goes on from the checkpoint. */
export function setRegisters(injector: Injector, pid: number, checkpoint: Checkpoint): void {
  const { registers } = injector;
  registers.load(checkpoint.registers);
  if (checkpoint.repeat) registers.repeatCall();
  registers.write(pid);
  writeSignalMask(pid, checkpoint.mask);
}

export function must(name: string, result: number): number {
  if (result < 0) throw new Error(`injected ${name} failed: errno ${-result}`);
  return result;
}
