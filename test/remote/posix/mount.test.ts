/**
 * The POSIX checks on `isthmus mount` of an nfs-ganesha, by NFSv4.1 (with POSIX_CHECKS=all by NFSv3 too): what fails must have its reason written down.
 * It touches the FUSE device and the mount table.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { accessSync, constants, mkdtempSync, rmdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'node:test';
import { fileURLToPath } from 'node:url';
import { startGanesha } from '../../servers/ganesha.ts';
import { need } from '../../support/need.ts';

const MAIN = fileURLToPath(new URL('../../../src/cli/main.js', import.meta.url));
const CONFORMANCE = fileURLToPath(new URL('./conformance.js', import.meta.url));

/** Runs the checks as the command of a mount, which ends with it. */
function runChecks(url: string, dir: string): Promise<{ code: number | null; output: string }> {
  const command = [process.execPath, CONFORMANCE, dir, '--remote'];
  const child = spawn(process.execPath, [MAIN, 'mount', '--allow-other', url, dir, '--', ...command], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      output += text;
    });
  }
  return new Promise((resolve) => child.once('close', (code) => resolve({ code, output })));
}

function canMount(): boolean {
  if (process.getuid?.() !== 0) return false;
  try {
    accessSync('/dev/fuse', constants.R_OK | constants.W_OK);
    return true;
  } catch {
    return false;
  }
}

test('every check passes on a mount, or says why not', async (t) => {
  if (!need(t, canMount(), 'mounting needs root and /dev/fuse')) return;
  const ganesha = await startGanesha(t);
  if (ganesha === null) return;
  const versions = process.env['POSIX_CHECKS'] === 'all' ? (['3', '4.1'] as const) : (['4.1'] as const);
  const runs = versions.map(async (version) => {
    const dir = mkdtempSync(join(tmpdir(), 'isthmus-posix-'));
    try {
      return { version, ...(await runChecks(ganesha.url(version), dir)) };
    } finally {
      rmdirSync(dir);
    }
  });
  for (const { version, code, output } of await Promise.all(runs)) {
    const failed = output
      .split('\n')
      .filter((line, i, lines) => /^failed/.test(line) || /^failed/.test(lines[i - 1] ?? ''));
    assert.equal(code, 0, `version ${version}:\n${failed.join('\n') || output}`);
    t.diagnostic(`version ${version}: ${output.trim().split('\n').at(-1)}`);
  }
});
