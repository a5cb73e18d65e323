/** From a URL to a tree: versions chosen and negotiated, and what cannot be reached. It starts a server. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { test } from 'node:test';
import { connect } from 'isthmus';
import { startGanesha } from '../servers/ganesha.ts';

test("the version is the URL's, or the newest both sides speak", async (t) => {
  const server = await startGanesha(t);
  if (server === null) return;
  const { port, mountPort } = server;
  const versionOf = async (parameters: string) => {
    await using files = await connect(`nfs://127.0.0.1:${port}/export?uid=0&gid=0${parameters}`);
    assert.ok((await files.stat('/')).isDirectory());
    return files.server.info.version;
  };
  assert.equal(await versionOf(`&version=3&mountport=${mountPort}`), '3');
  assert.equal(await versionOf('&version=4.1'), '4.1');
  assert.equal(await versionOf(''), '4.1');
  assert.equal(await versionOf(`&mountport=${mountPort}`), '3', 'who names the port of MOUNT means v3');
});

test('no server, no export, a server that says nothing, an abort', async (t) => {
  await assert.rejects(connect('nfs://127.0.0.1:1/export?version=3&mountport=1'), { code: 'ECONNREFUSED' });
  await assert.rejects(connect('http://127.0.0.1/'), TypeError);
  const silent = createServer(() => {});
  await once(silent.listen(0, '127.0.0.1'), 'listening');
  t.after(() => silent.close());
  const { port } = silent.address() as { port: number };
  const url = `nfs://127.0.0.1:${port}/export?version=3&mountport=${port}`;
  await assert.rejects(connect(`${url}&timeout=1`), { code: 'ETIMEDOUT' });
  const why = new Error('enough');
  const controller = new AbortController();
  const attempt = connect(url, { signal: controller.signal });
  controller.abort(why);
  await assert.rejects(attempt, why);
});
