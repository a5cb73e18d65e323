/** The table of system calls: names exist, and verdicts on typical calls. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { X86_CALLS } from '../../../src/linux/system-calls-x86-64.ts';
import type { CallView, Target } from '../../../src/speculation/process/call-view.ts';
import { BOUNCEABLE, SYSTEM_CALLS } from '../../../src/speculation/process/syscalls.ts';

interface Sketch {
  args?: readonly number[];
  words?: Record<number, number>;
  fd?: Target;
  path?: 'mount' | 'device' | 'local' | 'elsewhere';
  own?: boolean;
}

function verdict(
  name: string,
  { args = [], words = {}, fd = 'none', path = 'elsewhere', own = false }: Sketch,
): string {
  const view: CallView = {
    int: (i) => (args[i] ?? 0) | 0,
    size: (i) => args[i] ?? 0,
    word: (i) => words[i] ?? 0,
    descriptor: () => fd,
    path: () => path,
    ownAffair: own,
  };
  const rule = SYSTEM_CALLS[name];
  return rule ? rule(view).split(':')[0]! : 'wait';
}

describe('the table of system calls', () => {
  test('names are names of calls', () => {
    for (const name of [...Object.keys(SYSTEM_CALLS), ...BOUNCEABLE]) assert.ok(name in X86_CALLS.numbers, name);
  });

  test('what takes from others or tells others waits or is withheld', () => {
    for (const fd of ['pipe', 'socket', 'terminal', 'other'] as const) assert.equal(verdict('read', { fd }), 'wait');
    for (const fd of ['mount', 'file', 'device', 'inside', 'none'] as const)
      assert.equal(verdict('read', { fd }), 'allow');
    for (const fd of ['pipe', 'socket', 'terminal'] as const) assert.equal(verdict('write', { fd }), 'withhold');
    for (const fd of ['file', 'other'] as const) assert.equal(verdict('write', { fd }), 'wait');
    for (const fd of ['mount', 'device', 'none'] as const) assert.equal(verdict('write', { fd }), 'allow');
    assert.equal(verdict('write', { fd: 'inside' }), 'write inside');
    assert.equal(verdict('kill', { args: [2, 9] }), 'wait');
    assert.equal(verdict('kill', { args: [1, 9] }), 'wait');
    assert.equal(verdict('setuid', {}), 'wait');
  });

  test('files are changed on the mount and in local directories only', () => {
    const created = 0o100 | 1;
    assert.equal(verdict('openat', { args: [-100, 0, 0] }), 'allow');
    assert.equal(verdict('openat', { args: [-100, 0, created] }), 'wait');
    assert.equal(verdict('openat', { args: [-100, 0, created], path: 'mount' }), 'allow');
    assert.equal(verdict('openat', { args: [-100, 0, 1], path: 'device' }), 'allow');
    assert.equal(verdict('openat2', { words: { 2: created } }), 'wait');
    assert.equal(verdict('open', { args: [0, 0o1000] }), 'wait');
    assert.equal(verdict('unlink', {}), 'wait');
    assert.equal(verdict('renameat2', { path: 'mount' }), 'allow');
    for (const name of ['unlink', 'rename', 'mkdirat']) assert.equal(verdict(name, { path: 'local' }), 'change local');
    for (const name of ['write', 'ftruncate', 'fchmod']) assert.equal(verdict(name, { fd: 'local' }), 'change local');
    assert.equal(verdict('openat', { args: [-100, 0, created], path: 'local' }), 'change local');
    assert.equal(verdict('openat', { args: [-100, 0, 0], path: 'local' }), 'allow');
    assert.equal(verdict('utimensat', { args: [3, 0], fd: 'file' }), 'wait');
    assert.equal(verdict('utimensat', { args: [3, 0], fd: 'mount' }), 'allow');
    assert.equal(verdict('ftruncate', { fd: 'file' }), 'wait');
    assert.equal(verdict('copy_file_range', { fd: 'mount' }), 'allow');
    assert.equal(verdict('copy_file_range', { fd: 'file' }), 'wait');
  });

  test('threads, shared memory and locks wait', () => {
    const thread = 0x10000 | 0x100;
    assert.equal(verdict('clone', { args: [thread] }), 'wait');
    assert.equal(verdict('clone', { args: [0x01200011] }), 'allow');
    assert.equal(verdict('clone', { args: [0x4111] }), 'allow', 'vfork');
    assert.equal(verdict('clone3', { words: { 0: thread } }), 'wait');
    assert.equal(verdict('clone3', { words: { 0: 0x4100 } }), 'allow', 'posix_spawn');
    assert.equal(verdict('mmap', { args: [0, 4096, 3, 1] }), 'wait');
    assert.equal(verdict('mmap', { args: [0, 4096, 1, 1] }), 'allow');
    assert.equal(verdict('mmap', { args: [0, 4096, 3, 2] }), 'allow');
    assert.equal(verdict('mmap', { args: [0, 4096, 3, 0x21] }), 'wait');
    assert.equal(verdict('fcntl', { args: [3, 6] }), 'wait');
    assert.equal(verdict('fcntl', { args: [3, 0] }), 'allow');
    assert.equal(verdict('flock', {}), 'wait');
  });

  test('what no checkpoint puts back is allowed to those that a rollback ends', () => {
    for (const name of ['setpgid', 'setsid', 'setrlimit', 'setpriority']) {
      assert.equal(verdict(name, { own: true }), 'allow');
      assert.equal(verdict(name, { own: false }), 'wait');
    }
  });
});
