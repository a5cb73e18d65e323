/** `isthmus nfs` as a program, against nfs-ganesha. It starts processes and writes into a directory of its own. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { startGanesha } from '../servers/ganesha.ts';

const MAIN = fileURLToPath(new URL('../../src/cli/main.js', import.meta.url));

function isthmus(...args: string[]): { status: number | null; stdout: string; stderr: string } {
  return spawnSync(process.execPath, [MAIN, 'nfs', ...args], { encoding: 'utf8', timeout: 60_000 });
}

test('ls, stat, cat and cp', async (t) => {
  const server = await startGanesha(t);
  if (server === null) return;
  const url = (path: string, version: '3' | '4.1' = '3') => server.url(version).replace('/export', `/export${path}`);
  mkdirSync(join(server.exportDir, 'd'));
  writeFileSync(join(server.exportDir, 'd/b'), 'contents of b');
  writeFileSync(join(server.exportDir, 'd/a'), '');
  assert.match(isthmus('exports', server.url('3')).stdout, /^\/export( |$)/m);
  assert.equal(isthmus('ls', url('/d')).stdout, 'a\nb\n');
  assert.match(isthmus('ls', '-l', url('/d', '4.1')).stdout, /^-rw-r--r-- .* 13 .* b$/m);
  assert.match(isthmus('stat', url('/d/b')).stdout, /^size +13$/m);
  assert.equal(isthmus('cat', url('/d/b')).stdout, 'contents of b');
  const local = join(server.directory, 'local');
  assert.equal(isthmus('cp', url('/d/b'), local).status, 0);
  assert.equal(readFileSync(local, 'utf8'), 'contents of b');
  assert.equal(isthmus('cp', local, url('/d')).status, 0);
  assert.equal(readFileSync(join(server.exportDir, 'd/local'), 'utf8'), 'contents of b');
  const missing = isthmus('cat', url('/d/none'));
  assert.equal(missing.status, 1);
  assert.match(missing.stderr, /ENOENT.*\/none/);
  assert.equal(isthmus('cp', 'a', 'b').status, 2);
  assert.equal(isthmus('rm', url('/d')).status, 2);
});
