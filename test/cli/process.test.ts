/** `isthmus` as a process: what people see when the world says no, and that nothing is left at the end. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { LoadReport } from '../../src/apps/load/report.ts';
import { open, startIsthmus } from '../support/child-server.ts';

const MAIN = fileURLToPath(new URL('../../src/cli/main.js', import.meta.url));
const DATAPATH = ['--datapath', 'kernel'];
const folder = mkdtempSync(join(tmpdir(), 'isthmus-cli-'));
after(() => rmSync(folder, { recursive: true, force: true }));

interface Ended {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

/** Runs `isthmus` to its end; `interruptAt` is sent a signal when it appears in what it prints. */
async function isthmus(args: readonly string[], interrupt?: { at: RegExp; signal: NodeJS.Signals }): Promise<Ended> {
  const child = spawn(process.execPath, [MAIN, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  let out = '';
  let err = '';
  let interrupted = false;
  const look = () => {
    if (interrupt === undefined || interrupted || !interrupt.at.test(out + err)) return;
    interrupted = true;
    child.kill(interrupt.signal);
  };
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    out += text;
    look();
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    err += text;
    look();
  });
  const [code] = (await once(child, 'close')) as [number | null];
  return { code, out, err };
}

function program(name: string, text: string): string {
  const file = join(folder, name);
  writeFileSync(file, text);
  return file;
}

/** One line (besides the one that names the datapath), exit code 1, and no stack. */
function assertOneLine({ code, err }: Ended, message: RegExp): void {
  const lines = err.split('\n').filter((line) => line !== '' && !line.startsWith('datapath '));
  assert.equal(lines.length, 1, err);
  assert.match(lines[0]!, message);
  assert.equal(code, 1);
}

describe('isthmus as a process', { concurrency: 2 }, () => {
  it('a missing file', async () => {
    assertOneLine(await isthmus(['run', join(folder, 'none.ts')]), /^isthmus run: ENOENT: .*none\.ts$/);
  });

  it('a directory, and a file without a main', async () => {
    assertOneLine(await isthmus(['run', folder]), /^isthmus run: EISDIR/);
    assertOneLine(
      await isthmus(['run', program('nothing.mjs', 'export const x = 1;')]),
      /no default export that is a function/,
    );
  });

  it('a port in use', async () => {
    const server = createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as { port: number };
    assertOneLine(
      await isthmus(['echo', '--port', `${port}`, ...DATAPATH]),
      /^isthmus echo: EADDRINUSE: .*127\.0\.0\.1/,
    );
    server.close();
  });

  it('bad addresses', async () => {
    assertOneLine(
      await isthmus(['echo', '--port', '0', '--host', 'no.address', ...DATAPATH]),
      /^isthmus echo: .*no\.address/,
    );
    // RFC 5737: an address for documentation, which is nobody's
    assertOneLine(
      await isthmus(['echo', '--port', '0', '--host', '192.0.2.1', ...DATAPATH]),
      /^isthmus echo: EADDRNOTAVAIL/,
    );
  });

  it('an unknown datapath', async () => {
    assertOneLine(await isthmus(['echo', '--datapath', 'teleport']), /^isthmus echo: .*teleport/);
  });

  it('nobody listens where the load should go', async () => {
    assertOneLine(await isthmus(['load', '127.0.0.1:1', '-q', ...DATAPATH]), /^isthmus load: ECONNREFUSED/);
  });

  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    it(`${signal} ends a program in TypeScript cleanly: finally blocks run and connections are closed`, async (t) => {
      const file = program(
        `server-${signal}.ts`,
        `
      import type { Kernel } from 'isthmus';
      export default function* main(k: Kernel, args: string[]) {
        const listener = yield* k.listen({ port: 0, host: '127.0.0.1' });
        try {
          console.log('isthmus program: tcp 127.0.0.1:' + (listener.address as { port: number }).port + ' ' + args.join());
          for (;;) yield* listener.accept();
        } finally {
          console.log('finally');
        }
      }`,
      );
      const server = await startIsthmus(['run', file, ...DATAPATH, '--', '--flag', 'x']);
      t.after(() => server.stop());
      assert.match(server.line, / --flag,x$/);
      let out = '';
      server.child.stdout!.on('data', (text) => {
        out += text;
      });
      const socket = await open(server.port);
      socket.resume();
      const ended = once(socket, 'end');
      server.child.kill(signal);
      assert.equal(await server.exited, 0);
      await ended;
      socket.destroy();
      assert.match(out, /finally/);
    });
  }

  it('a program that has nothing open any more ends by itself', async () => {
    const file = program('short.mjs', 'export default function* main(k) { yield* k.sleep(5); console.log("done"); }');
    assert.deepEqual(await isthmus(['run', file, ...DATAPATH]).then(({ code, out }) => ({ code, out })), {
      code: 0,
      out: 'done\n',
    });
  });

  it('a program whose main is async', async () => {
    const file = program(
      'async.mjs',
      'export default async (k, args) => { await k.sleep(5); console.log(args.length); }',
    );
    assert.equal((await isthmus(['run', file, ...DATAPATH, '--', 'a', 'b'])).out, '2\n');
  });

  it('what escapes a program ends it, with its stack', async () => {
    const file = program(
      'throws.mjs',
      'export default function* main(k) { yield* k.sleep(5); throw new TypeError("oh no"); }',
    );
    const { code, err } = await isthmus(['run', file, ...DATAPATH]);
    assert.equal(code, 1);
    assert.match(err, /isthmus run: TypeError: oh no\n\s+at main .*throws\.mjs/);
  });

  it('load over several cores of an echo, with every answer compared', async (t) => {
    const server = await startIsthmus(['echo', '--port', '0', '--cores', '2', ...DATAPATH]);
    t.after(() => server.stop());
    const args = ['-c', '4', '-d', '8', '-n', '5000', '-w', '0', '--verify', '--json', '--server-pid', `${server.pid}`];
    const { code, out, err } = await isthmus(['load', `127.0.0.1:${server.port}`, ...args, ...DATAPATH]);
    assert.equal(code, 0, err);
    const report = JSON.parse(out) as LoadReport;
    assert.ok(report.messages >= 5000 && report.messages < 5100, `${report.messages}`);
    assert.equal(report.complete, true);
    assert.deepEqual(Object.values(report.errors).filter(Boolean), []);
    assert.ok(report.p50Us > 0 && report.p99Us >= report.p50Us && report.maxUs >= report.p999Us);
    assert.ok(report.server!.rssBytes > 1e6);
  });

  it('Ctrl-C ends a load, which reports what it measured so far', async (t) => {
    const server = await startIsthmus(['echo', '--port', '0', ...DATAPATH]);
    t.after(() => server.stop());
    const args = ['load', `127.0.0.1:${server.port}`, '-c', '2', '-t', '60', '-w', '0', ...DATAPATH];
    const { code, out } = await isthmus(args, { at: /measure 1\/60 s/, signal: 'SIGINT' });
    assert.equal(code, 0);
    assert.match(out, /\(stopped early\)\n\s+[\d.]+[kM]? messages\/s/);
    assert.match(out, /errors\s+none/);
  });

  it('doctor says what there is, also as JSON', async () => {
    const text = await isthmus(['doctor']);
    assert.equal(text.code, 0);
    assert.match(text.out, /Datapaths\n[\s\S]*taken by auto[\s\S]*\ndatapath \w+: /);
    const { code, out } = await isthmus(['doctor', '--json']);
    assert.equal(code, 0);
    const diagnosis = JSON.parse(out);
    const automatic = diagnosis.datapaths.filter((each: { automatic: boolean }) => each.automatic);
    assert.deepEqual(
      automatic.map((each: { name: string }) => each.name),
      [diagnosis.auto.name],
    );
    assert.ok(
      diagnosis.datapaths.every(
        (each: { available: boolean; reason: string }) => each.available === (each.reason === ''),
      ),
    );
  });
});
