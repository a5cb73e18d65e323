/** Withheld output that nobody takes yet: it is tried again a little later, and its writer waits for that. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { TracerCore } from '../../../src/speculation/process/core.ts';
import { createTracee, Hold } from '../../../src/speculation/process/tracee.ts';
import { need } from '../../support/need.ts';
import { canTrace } from './can-trace.ts';

/** More than a pipe takes. */
const BYTES = 100_000;

test('however many wait for stuck output, it is tried again once at a time', (t) => {
  if (!need(t, canTrace(), 'ptrace is not permitted here')) return;
  const directory = mkdtempSync(join(tmpdir(), 'isthmus-output-'));
  const path = join(directory, 'fifo');
  assert.equal(spawnSync('mkfifo', [path]).status, 0);
  const fifo = openSync(path, 'r+');
  try {
    let asked = 0;
    const core = new TracerCore(
      { command: [] },
      () => {},
      () => asked++,
    );
    // Written by this very process, so that the descriptor can be taken; it is never let go while the output is stuck.
    const writer = createTracee(process.pid, undefined, 1);
    core.tracees.set(writer.pid, writer);
    writer.hold = Hold.OUTPUT;
    assert.ok(core.output.add(writer, fifo, new Uint8Array(BYTES).fill(97), []));
    for (let tries = 1; tries <= 5; tries++) {
      core.retryOutput();
      assert.equal(asked, tries);
    }
    assert.ok(core.output.bytes > 0 && core.output.waitsFor(writer));
  } finally {
    closeSync(fifo);
    rmSync(directory, { recursive: true });
  }
});
