/**
 * `isthmus speculate` as people use it, against nfs-ganesha a few milliseconds away: what they see is what the command alone shows,
 * and nothing is left however it ends. It starts processes, which mount in namespaces of their own.
 */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { MAIN, needFuse, until } from '../remote/mount/support.ts';
import { startDelay } from '../servers/delay.ts';
import { startGanesha } from '../servers/ganesha.ts';

interface Ended {
  readonly code: number | null;
  readonly signal: string | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** A tree on a server 4 ms away, a directory to mount on, and a word by which the processes of this test are known. */
interface Place {
  readonly url: string;
  readonly directory: string;
  readonly exported: string;
  readonly mark: string;
}

async function place(t: TestContext): Promise<Place | null> {
  if (!needFuse(t)) return null;
  const server = await startGanesha(t);
  if (server === null) return null;
  const line = await startDelay(t, { port: server.port, oneWayMs: 2 });
  const directory = mkdtempSync(join(tmpdir(), 'isthmus-speculate-'));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  mkdirSync(join(directory, 'mnt'));
  for (const name of ['a', 'b']) {
    mkdirSync(join(server.exportDir, 'src', name), { recursive: true });
    for (let i = 0; i < 5; i++)
      writeFileSync(join(server.exportDir, 'src', name, `${i}.txt`), `${name} ${i}\nsecond\n`);
  }
  const mark = `ISTHMUS_TEST_MARK=${directory}`;
  return { url: server.url('4.1', line.port), directory: join(directory, 'mnt'), exported: server.exportDir, mark };
}

function start({ url, directory, mark }: Place, options: readonly string[], command: readonly string[]): ChildProcess {
  const [name, value] = mark.split('=') as [string, string];
  return spawn(process.execPath, [MAIN, 'speculate', '--mount', url, directory, ...options, '--', ...command], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, [name]: value, LC_ALL: 'C' },
    detached: true,
  });
}

function ended(child: ChildProcess): Promise<Ended> {
  let stdout = '';
  let stderr = '';
  child.stdout!.setEncoding('utf8').on('data', (text: string) => {
    stdout += text;
  });
  child.stderr!.setEncoding('utf8').on('data', (text: string) => {
    stderr += text;
  });
  return new Promise((resolve) => child.once('close', (code, signal) => resolve({ code, signal, stdout, stderr })));
}

/** Processes that carry this test's mark; those that have ended and wait for their parent do not. */
function left({ mark }: Place): string[] {
  return readdirSync('/proc').filter((pid) => {
    try {
      return /^\d+$/.test(pid) && readFileSync(`/proc/${pid}/environ`, 'latin1').includes(mark);
    } catch {
      return false;
    }
  });
}

test('output, errors, exit code and what is left on the server are those of the command alone', async (t) => {
  const at = await place(t);
  if (at === null) return;
  const script =
    'cd src; find . -name "*.txt" | sort; grep -r second a | sort; mkdir c && cp a/0.txt c/n; mv c/n c/m; cat c/m; ls none; rm b/1.txt; exit 7';
  const local = join(at.directory, '..', 'local');
  spawnSync('cp', ['-r', at.exported, local]);
  const alone = spawnSync('sh', ['-c', script], { cwd: local, encoding: 'utf8', env: { ...process.env, LC_ALL: 'C' } });
  const trace = join(at.directory, '..', 'trace.json');
  const command = ['sh', '-c', `cd ${at.directory}; ${script}`];
  const got = await ended(start(at, ['--trace', trace], command));
  assert.deepEqual([got.code, got.signal, got.stdout, got.stderr], [7, null, alone.stdout, alone.stderr]);
  assert.equal(alone.status, 7);
  const compared = spawnSync('diff', ['-r', at.exported, local], { encoding: 'utf8' });
  assert.equal(compared.stdout, '');
  const { traceEvents } = JSON.parse(readFileSync(trace, 'utf8')) as { traceEvents: Record<string, unknown>[] };
  assert.ok(traceEvents.some(({ ph, cat }) => ph === 'b' && cat === 'mutation'));
  // The format: https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU
  for (const event of traceEvents) {
    assert.ok(typeof event.name === 'string' && typeof event.ph === 'string', JSON.stringify(event));
    for (const key of ['ts', 'pid', 'tid']) assert.ok(Number.isFinite(event[key]), JSON.stringify(event));
    if (event.ph === 'b' || event.ph === 'e') assert.ok(Number.isFinite(event.id) && typeof event.cat === 'string');
  }
  assert.deepEqual(left(at), []);
});

test('a signal that ends the command ends us; --stats says what came of it; --plain predicts nothing', async (t) => {
  const at = await place(t);
  if (at === null) return;
  const script = `cd ${at.directory}/src; touch new; cat a/*; rm new; kill -TERM $$; sleep 60`;
  const got = await ended(start(at, ['--stats'], ['sh', '-c', script]));
  assert.deepEqual([got.code, got.signal], [null, 'SIGTERM'], got.stderr);
  assert.match(got.stdout, /^a 0\nsecond\n/);
  const [, reads, changes] = /^speculation: (\d+) reads and (\d+) changes predicted; /m.exec(got.stderr)!;
  assert.ok(Number(reads) > 0 && Number(changes) >= 1, got.stderr);
  assert.match(got.stderr, /^checkpoints: \d+ taken, .*rollbacks/m);
  assert.match(got.stderr, /^changes: \d+ sent in \d+ batches/m);
  assert.match(got.stderr, /^time: [\d.]+ s, /m);
  const plain = await ended(start(at, ['--stats', '--plain'], ['cat', join(at.directory, 'src/a/0.txt')]));
  assert.deepEqual([plain.code, plain.stdout], [0, 'a 0\nsecond\n']);
  assert.match(plain.stderr, /^speculation: 0 reads and 0 changes predicted/m);
});

for (const signal of ['SIGINT', 'SIGKILL'] as const) {
  test(`after ${signal === 'SIGINT' ? 'Ctrl-C' : signal} there is no mount and no process`, async (t) => {
    const at = await place(t);
    if (at === null) return;
    const script = `cd ${at.directory}/src; cat a/0.txt >&2; mkdir made; sleep 60`;
    const child = start(at, [], ['sh', '-c', script]);
    const end = ended(child);
    await until('its last change is on the server', () => readdirSync(join(at.exported, 'src')).includes('made'));
    assert.ok(left(at).length > 0);
    // A terminal sends it to the whole group; a kill -9 hits us alone.
    process.kill(signal === 'SIGINT' ? -child.pid! : child.pid!, signal);
    const got = await end;
    assert.equal(got.signal, signal, got.stderr);
    // The guardian and the processes end with us, but not in the same instant.
    await until('all have ended', () => left(at).length === 0);
    assert.deepEqual(
      readFileSync('/proc/self/mountinfo', 'utf8')
        .split('\n')
        .filter((line) => line.includes(at.directory)),
      [],
    );
  });
}

test('what is wrong is said in a line', async (t) => {
  const at = await place(t);
  if (at === null) return;
  const run = async (url: string, directory: string, command: readonly string[] = ['true']) => {
    const { code, stderr } = await ended(start({ ...at, url, directory }, [], command));
    return `${code} ${stderr.split('\n')[0]}`;
  };
  const nothing = at.url.replace('/export', '/nothing');
  const cases: [got: Promise<string>, wanted: RegExp][] = [
    [run('http://x/y', at.directory), /^2 isthmus speculate: not a URL of a file server/],
    [run('nfs://127.0.0.1:1/export', at.directory), /^1 isthmus speculate: ECONNREFUSED/],
    [run(nothing, at.directory), /^1 isthmus speculate: E(NOENT|ACCES)/],
    [run(at.url, join(at.directory, 'none')), /^1 isthmus speculate: ENOENT: .* mount .*none/],
    [run(at.url, '/dev/null'), /^1 isthmus speculate: ENOTDIR/],
    [run(at.url, at.directory, []), /^2 isthmus speculate: COMMAND is missing/],
    [run(at.url, at.directory, ['no-such-program']), /^127 .*no-such-program: not found/],
  ];
  for (const [got, wanted] of cases) assert.match(await got, wanted);
  const unprivileged = ['--reuid=65534', '--regid=65534', '--clear-groups', '--bounding-set=-all'];
  const argv = [MAIN, 'speculate', '--mount', at.url, '/mnt', '--', 'true'];
  const refused = spawnSync('setpriv', [...unprivileged, process.execPath, ...argv], { encoding: 'utf8', cwd: '/' });
  assert.equal(refused.status, 1);
  assert.match(refused.stderr, /^isthmus speculate: EPERM: .*\nspeculating needs root/);
});
