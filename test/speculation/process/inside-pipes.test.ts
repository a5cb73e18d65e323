/**
 * A pipe that the speculation has made is used without waiting only by those who are undone with it: what a child of a process
 * with a later checkpoint of its own writes comes behind what its parent wrote, and goes where the child is undone alone.
 */
import assert from 'node:assert/strict';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import type { CheckpointId, Pid, ProcessEvent } from '../../../src/speculation/process/backend.ts';
import { ProcessHost } from '../../../src/speculation/process/host.ts';
import { need } from '../../support/need.ts';
import { canTrace } from './can-trace.ts';

/** The pipe is made after the shell's checkpoint; its writer has one of its own before it writes, and a child that writes, too. */
const SCRIPT = '{ echo parent; (echo child); true; } | cat';
const DEADLINE_MS = 20_000;

/** Runs the script to its end. When the child has ended, all is committed, or first the writer is taken back, to do it again. */
async function run(takeBack: boolean): Promise<string> {
  const directory = mkdtempSync(join(tmpdir(), 'isthmus-inside-'));
  const out = openSync(join(directory, 'out'), 'a+');
  const input = openSync('/dev/null', 'r');
  const checkpoints = new Map<Pid, CheckpointId>();
  const children = new Map<Pid, Pid>();
  let root = 0;
  let writer = 0;
  let host: ProcessHost | undefined;
  const hear = (event: ProcessEvent): void => {
    switch (event.type) {
      case 'started':
        root = event.pid;
        return;
      case 'atCall': {
        const { pid, call } = event;
        // The call that is made again after a rollback is not told: then the next one is taken.
        const wanted = pid === root ? call.startsWith('pipe') : pid === writer;
        if (wanted && !checkpoints.has(pid)) host!.checkpoint(pid, 1);
        else host!.pass(pid);
        return;
      }
      case 'checkpointed':
        checkpoints.set(event.pid, event.checkpoint);
        return;
      case 'forked':
        children.set(event.child, event.parent);
        if (event.parent === root && writer === 0) writer = event.child;
        return;
      case 'exited':
        if (children.get(event.pid) !== writer || writer === 0) return;
        if (takeBack) {
          takeBack = false;
          host!.rollback([checkpoints.get(writer)!]);
          checkpoints.delete(writer);
        } else for (const pid of [root, writer]) host!.commit(checkpoints.get(pid)!);
        return;
    }
  };
  try {
    await new Promise<void>((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error('it hangs')), DEADLINE_MS);
      const options = { command: ['sh', '-c', SCRIPT], everyCall: 1, stdio: [input, out, out] as const };
      host = new ProcessHost(options, (event) => {
        hear(event);
        if (event.type === 'failed') reject(event.error);
        if (event.type !== 'ended') return;
        clearTimeout(timer);
        resolve();
      });
      host.start();
    });
    return readFileSync(join(directory, 'out'), 'utf8');
  } finally {
    await host?.close();
    for (const fd of [out, input]) closeSync(fd);
    rmSync(directory, { recursive: true });
  }
}

test('what a child writes stays behind what its parent wrote before', async (t) => {
  if (!need(t, canTrace(), 'ptrace is not permitted here')) return;
  assert.equal(await run(false), 'parent\nchild\n');
});

test('what a child wrote is undone with it', async (t) => {
  if (!need(t, canTrace(), 'ptrace is not permitted here')) return;
  assert.equal(await run(true), 'parent\nchild\n');
});
