/** The example program, unchanged, on each datapath and in both hosts. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import main from '../examples/echo.ts';
import { startProgram } from '../src/datapath/worker-host.ts';
import { boot } from '../src/index.ts';
import { uringRefusal } from '../src/linux/uring.ts';
import { dial, ip, once, readAll, until } from './datapath/conformance/world.ts';
import { freePort } from './support/child-server.ts';
import { need } from './support/need.ts';

const EXTENSION = import.meta.url.endsWith('.ts') ? '.ts' : '.js';
const CLI = fileURLToPath(new URL(`../src/cli/main${EXTENSION}`, import.meta.url));

async function echoes(socket: Socket): Promise<void> {
  const reply = once(socket, 'data');
  socket.write('the same file');
  assert.equal(String(await reply), 'the same file');
  socket.destroy();
}

for (const datapath of ['kernel', 'uring', 'simulated']) {
  const missing = datapath === 'uring' ? uringRefusal() : null;

  describe(`examples/echo.ts on the ${datapath} datapath`, () => {
    it('runs in the event loop', async (t) => {
      if (!need(t, missing === null, missing?.message ?? '')) return;
      process.env.PORT = '0';
      await using k = await boot({ datapath });
      k.spawn(main(k));
      await until(() => k.openQueues === 1, 'it listens');
      const address = { host: '127.0.0.1', port: ip(k.getsockname(0)).port };
      if (datapath !== 'simulated') await echoes(await dial(address));
      const conn = await k.connect(address);
      await conn.write('from inside');
      assert.equal(String(await k.spawn(readAll(conn, 11)).join()), 'from inside');
      conn.close();
    });

    if (datapath === 'simulated') return;

    it('runs on a core of its own', async (t) => {
      if (!need(t, missing === null, missing?.message ?? '')) return;
      const port = await freePort();
      process.env.PORT = String(port);
      const worker = startProgram({ module: new URL(`../examples/echo${EXTENSION}`, import.meta.url).href, datapath });
      await worker.started;
      await echoes(await dial({ host: '127.0.0.1', port }));
      await worker.close();
    });

    it('runs by `isthmus run`, and ends at SIGTERM', async (t) => {
      if (!need(t, missing === null, missing?.message ?? '')) return;
      const port = await freePort();
      const file = fileURLToPath(new URL(`../examples/echo${EXTENSION}`, import.meta.url));
      const child = spawn(process.execPath, [CLI, 'run', file, '--datapath', datapath], {
        env: { ...process.env, PORT: String(port) },
        stdio: 'ignore',
      });
      const ended = new Promise((resolve) => child.once('exit', resolve));
      await echoes(await dialUntil(port));
      child.kill('SIGTERM');
      assert.equal(await ended, 0);
    });
  });
}

for (const [name, text] of [
  ['program.ts', 'import { Kernel } from "isthmus"; export default function* main(k: Kernel) {'],
  ['program.mjs', 'import { Kernel } from "isthmus"; export default function* main(k) {'],
] as const) {
  it(`${name} in any directory imports this very package, on one core and on two`, async (t) => {
    const directory = mkdtempSync(join(tmpdir(), 'isthmus-program-'));
    t.after(() => rmSync(directory, { recursive: true }));
    const file = join(directory, name);
    writeFileSync(file, `${text} console.log(k instanceof Kernel); }`);
    for (const cores of ['1', '2']) {
      const child = spawn(process.execPath, [CLI, 'run', file, '--datapath', 'kernel', '--cores', cores]);
      let out = '';
      child.stdout.on('data', (part) => {
        out += part;
      });
      await new Promise((resolve) => child.once('close', resolve));
      assert.equal(out, 'true\n'.repeat(Number(cores)));
    }
  });
}

/** The child takes a moment to listen. */
async function dialUntil(port: number): Promise<Socket> {
  for (let tries = 0; ; tries++) {
    const socket = connect(port, '127.0.0.1');
    const connected = await new Promise((resolve) => {
      socket.once('connect', () => resolve(true)).once('error', () => resolve(false));
    });
    if (connected) return socket;
    assert.ok(tries < 1000, 'it never listened');
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
