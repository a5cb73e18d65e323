/**
 * The POSIX checks on local file systems, where all of them must pass: so they say what Linux does.
 */
import assert from 'node:assert/strict';
import { accessSync, constants } from 'node:fs';
import { tmpdir } from 'node:os';
import test from 'node:test';
import { runChecks } from './runner.ts';

test('every check passes on the local file system', () => {
  let passed = 0;
  for (const { check, result, why } of runChecks(tmpdir(), { remote: false })) {
    assert.notEqual(result, 'failed', `${check.area}: ${check.name}: ${why}`);
    if (result === 'passed') passed++;
  }
  assert.ok(passed > 80);
});

test('and on tmpfs', (t) => {
  try {
    accessSync('/dev/shm', constants.W_OK);
  } catch {
    t.skip('/dev/shm cannot be written');
    return;
  }
  // Programs are the same there; what a file system itself does is looked at again.
  for (const only of ['rename', 'links', 'readdir', 'unlink', 'timestamps', 'truncation', 'holes', 'names']) {
    for (const { check, result, why } of runChecks('/dev/shm', { remote: false, only })) {
      assert.notEqual(result, 'failed', `${check.area}: ${check.name}: ${why}`);
    }
  }
});
