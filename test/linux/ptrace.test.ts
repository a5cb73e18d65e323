/** Tracing a real process: start, registers, memory, calls; the numbers of system calls against the system's header. */
import assert from 'node:assert/strict';
import { closeSync, existsSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { auxiliaryValue, currentCall, listDescriptors, readMappings, statusField } from '../../src/linux/proc.ts';
import { readCString, readMemory, writeMemory } from '../../src/linux/process-memory.ts';
import {
  Call,
  callArgument,
  callArgumentInt,
  callNumber,
  callResult,
  readCall,
  resume,
  resumeToCall,
  SYSCALL_STOP,
  seize,
  sendSignal,
  TraceOption,
  waited,
  waitFor,
} from '../../src/linux/ptrace.ts';
import { createRegisters, machineCalls } from '../../src/linux/registers.ts';
import { spawnStopped } from '../../src/linux/spawn.ts';
import { need } from '../support/need.ts';

const HEADER = '/usr/include/x86_64-linux-gnu/asm/unistd_64.h';
const SIGKILL = 9;
const SIGCONT = 18;
const isX64 = process.arch === 'x64';

function start(command: readonly string[], stdio: [number, number, number] = [0, 1, 2]): number {
  const pid = spawnStopped({ command, env: { PATH: process.env['PATH'], MARK: 'of the test' }, stdio });
  assert.equal(seize(pid, TraceOption.SYSGOOD | TraceOption.EXITKILL | TraceOption.EXEC), 0);
  assert.equal(waitFor(pid), pid);
  return pid;
}

function kill(pid: number): void {
  sendSignal(pid, SIGKILL);
  while (waitFor(pid) > 0 && !waited.ended);
}

/** Goes on until a stop for which `found` holds; gives false when the process ends first. */
function until(pid: number, found: () => boolean): boolean {
  for (;;) {
    resumeToCall(pid);
    if (waitFor(pid) !== pid || waited.ended) return false;
    if (waited.signal === SYSCALL_STOP && waited.event === 0 && found()) return true;
  }
}

describe('ptrace', () => {
  test('a program runs to its end, with the descriptors, environment and signals given', (t) => {
    if (!need(t, isX64, 'registers of x86-64')) return;
    const directory = mkdtempSync(join(tmpdir(), 'isthmus-ptrace-'));
    const out = openSync(join(directory, 'out'), 'a+');
    try {
      const pid = spawnStopped({
        command: ['sh', '-c', 'echo $MARK; grep SigIgn /proc/self/status; exit 7'],
        env: { PATH: process.env['PATH'], MARK: 'here' },
        stdio: [out, out, out],
      });
      assert.equal(seize(pid, TraceOption.EXITKILL), 0);
      sendSignal(pid, SIGCONT);
      while (waitFor(pid) === pid && !waited.ended) resume(pid, waited.event === 0 ? waited.signal : 0);
      assert.equal(waited.code, 7);
      assert.deepEqual(readFileSync(join(directory, 'out'), 'utf8').split(/\s*\n/), [
        'here',
        'SigIgn:\t0000000000000000',
        '',
      ]);
    } finally {
      closeSync(out);
      rmSync(directory, { recursive: true });
    }
  });

  test('calls are seen with arguments and results, and can be cancelled, answered and repeated', (t) => {
    if (!need(t, isX64, 'registers of x86-64')) return;
    const { numbers } = machineCalls();
    const registers = createRegisters();
    const sink = openSync('/dev/null', 'r+');
    const pid = start(['sh', '-c', 'cd /usr; cd /usr; exit 5'], [sink, sink, sink]);
    try {
      sendSignal(pid, SIGCONT);
      const atChdir = (): boolean => readCall(pid) === Call.ENTRY && callNumber() === numbers['chdir'];
      assert.ok(until(pid, atChdir));
      assert.equal(Buffer.from(readCString(pid, callArgument(0))).toString(), '/usr');
      assert.equal(registers.read(pid), 0);
      assert.equal(registers.call, numbers['chdir']);
      assert.equal(registers.argument(0), callArgument(0));
      assert.equal(registers.narrow, false);
      const saved = registers.save();
      // Cancelled: the end comes without the call, with our result.
      registers.cancelCall();
      registers.result = -1;
      registers.write(pid);
      assert.ok(until(pid, () => readCall(pid) === Call.EXIT));
      assert.equal(callResult(), -1);
      // Repeated: it comes to the same entry again.
      registers.load(saved);
      registers.repeatCall();
      registers.write(pid);
      assert.ok(until(pid, atChdir));
      assert.ok(until(pid, () => readCall(pid) === Call.EXIT));
      assert.equal(callResult(), 0);
      assert.ok(until(pid, atChdir), 'and on to the next');
      let code = -1;
      until(pid, () => {
        if (readCall(pid) === Call.ENTRY && callNumber() === numbers['exit_group']) code = callArgumentInt(0);
        return false;
      });
      assert.equal(code, 5);
      assert.equal(waited.code, 5);
    } finally {
      kill(pid);
      closeSync(sink);
    }
  });

  test('memory, mappings, descriptors and status of a stopped process', (t) => {
    if (!need(t, isX64, 'registers of x86-64')) return;
    const pid = start(['true']);
    try {
      const stack = readMappings(pid).find((mapping) => mapping.name === '[stack]')!;
      assert.equal(stack.permissions.slice(0, 2), 'rw');
      const bytes = Uint8Array.from({ length: 10_000 }, (_, i) => i * 7);
      writeMemory(pid, stack.end - 20_000, bytes);
      assert.deepEqual(readMemory(pid, stack.end - 20_000, bytes.length), bytes);
      assert.throws(() => readMemory(pid, 8, 8), { code: 'EFAULT' });
      assert.throws(() => writeMemory(pid, 8, bytes), { code: 'EFAULT' });
      // A string across a page's border.
      const border = stack.end - 8192;
      writeMemory(pid, border - 3, Buffer.from('across\0'));
      assert.equal(Buffer.from(readCString(pid, border - 3)).toString(), 'across');
      assert.ok(auxiliaryValue(pid, 33) > 0, 'the vDSO');
      assert.equal(auxiliaryValue(pid, 0x7fff), 0);
      assert.deepEqual(listDescriptors(pid, machineCalls().numbers['getdents64']!).slice(0, 3), [0, 1, 2]);
      assert.equal(statusField(pid, 'TracerPid'), statusField(process.pid, 'Pid'));
      assert.equal(statusField(pid, 'NoSuchField'), undefined);
      assert.ok(currentCall(pid));
    } finally {
      kill(pid);
    }
    assert.equal(currentCall(pid), undefined);
    assert.deepEqual(readMappings(pid), []);
    assert.throws(() => readMemory(pid, 4096, 1), { errno: -3 });
  });

  test('descriptors may be given in any order', (t) => {
    if (!need(t, isX64, 'registers of x86-64')) return;
    const directory = mkdtempSync(join(tmpdir(), 'isthmus-ptrace-'));
    const out = openSync(join(directory, 'out'), 'a+');
    const err = openSync(join(directory, 'err'), 'a+');
    try {
      // Our 1 and 2 are swapped on purpose; 0 takes a high one.
      const pid = spawnStopped({
        command: ['sh', '-c', 'readlink /proc/$$/fd/0; ls /proc/$$/fd >/proc/$$/fd/0; exit 0'],
        env: { PATH: process.env['PATH'] },
        stdio: [err, out, 1],
      });
      sendSignal(pid, SIGCONT);
      while (waitFor(pid) === pid && !waited.ended);
      assert.equal(readFileSync(join(directory, 'out'), 'utf8').trim(), join(directory, 'err'));
      const open = readFileSync(join(directory, 'err'), 'utf8').split('\n');
      assert.ok(['0', '1', '2'].every((fd) => open.includes(fd)));
      assert.ok(!open.some((fd) => fd.startsWith('20')), 'nothing parked is left open');
    } finally {
      closeSync(out);
      closeSync(err);
      rmSync(directory, { recursive: true });
    }
  });

  test('system call numbers are those of the header', (t) => {
    if (!need(t, isX64 && existsSync(HEADER), 'no header of x86-64 system calls')) return;
    const known = new Map<string, number>();
    for (const match of readFileSync(HEADER, 'utf8').matchAll(/__NR_(\w+) (\d+)/g))
      known.set(match[1]!, Number(match[2]));
    const { numbers } = machineCalls();
    for (const [name, number] of Object.entries(numbers)) {
      // Newer names than an older header has cannot be compared.
      if (known.has(name)) assert.equal(number, known.get(name), name);
    }
    assert.ok(Object.keys(numbers).filter((name) => known.has(name)).length > 300);
  });
});
