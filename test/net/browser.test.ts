/** The stack where there is no Node, as in a browser: two hosts connect and echo once what only Node has is gone. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { test } from 'node:test';

const EXTENSION = import.meta.url.endsWith('.ts') ? '.ts' : '.js';
const url = (path: string): string => JSON.stringify(new URL(`${path}${EXTENSION}`, import.meta.url).href);

const PROGRAM = `
  const say = console.log;
  for (const name of ['process', 'Buffer', 'global', 'require', 'setImmediate', 'clearImmediate']) delete globalThis[name];
  const { World } = await import(${url('./hosts')});
  const { Flow } = await import(${url('../../src/net/flow')});
  const world = new World(1);
  const [a, b] = [1, 2].map((n) => world.host({ addresses: ['10.0.0.' + n + '/24'], tcp: true }));
  const listener = b.tcp.listen(new Flow().setLocal(new Uint8Array(16), 80), 16, true);
  const flow = new Flow().setRemote(Uint8Array.of(10, 0, 0, 2), 80);
  a.stack.output.selectSource(flow);
  const client = a.tcp.connect(flow);
  client.send(a.heap.alloc(5).fill('hello'));
  let server = null;
  let heard = '';
  world.run(1000, () => {
    server ??= listener.accept();
    for (let data = server?.read() ?? null; data !== null; data = server.read()) server.send(data);
    for (let data = client.read(); data !== null; data = client.read()) {
      heard += data.text();
      data.release();
    }
  });
  say(heard);
`;

test('two hosts talk TCP without process, Buffer and what else only Node has', async () => {
  const [out, complaint] = await new Promise<[string, string]>((resolve) => {
    execFile(process.execPath, ['--input-type=module', '-e', PROGRAM], (_, ...outputs) => resolve(outputs));
  });
  assert.equal(out, 'hello\n', complaint);
});
