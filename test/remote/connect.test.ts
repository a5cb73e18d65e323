/** From a URL to a tree: versions chosen and negotiated, and what cannot be reached. It starts a server. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { test } from 'node:test';
import { connectFiles } from 'isthmus';
import { FSINFO, PATHCONF } from '../../src/remote/nfs3/file-system.ts';
import { MOUNT_PROGRAM } from '../../src/remote/nfs3/mount.ts';
import { NFS_PROGRAM } from '../../src/remote/nfs3/procedure.ts';
import { XdrWriter } from '../../src/remote/xdr.ts';
import { startGanesha } from '../servers/ganesha.ts';
import { type FakeCall, FakeServer, toRecord } from './rpc/fake-server.ts';

test("the version is the URL's, or the newest both sides speak", async (t) => {
  const server = await startGanesha(t);
  if (server === null) return;
  const { port, mountPort } = server;
  const versionOf = async (parameters: string) => {
    await using files = await connectFiles(`nfs://127.0.0.1:${port}/export?uid=0&gid=0${parameters}`);
    assert.ok((await files.stat('/')).isDirectory());
    return files.server.info.version;
  };
  assert.equal(await versionOf(`&version=3&mountport=${mountPort}`), '3');
  assert.equal(await versionOf('&version=4.1'), '4.1');
  assert.equal(await versionOf(''), '4.1');
  assert.equal(await versionOf(`&mountport=${mountPort}`), '3', 'who names the port of MOUNT means v3');
});

/** What a server without NFSv4.1 says to a COMPOUND: the versions it has, or that it knows no minor version 1. */
const WITHOUT_41 = {
  'no version 4': ({ xid, socket }: FakeCall) => {
    const words = new XdrWriter();
    for (const word of [xid, 1, 0, 0, 0, 2, 3, 3]) words.u32(word);
    socket.write(toRecord(words.toBytes()));
  },
  'no minor version 1': (call: FakeCall) =>
    call.reply((writer) => {
      writer.u32(10_021);
      writer.string('');
      writer.u32(0);
    }),
};

/** As much of NFSv3 and MOUNT as it takes to connect. */
function answerVersion3(call: FakeCall): void {
  call.reply((writer) => {
    writer.u32(0);
    if (call.program === MOUNT_PROGRAM && call.procedure === 1) {
      writer.opaque(new Uint8Array(8));
      writer.halves(1, 1);
    } else if (call.procedure === FSINFO.number) {
      for (const word of [0, 65_536, 0, 0, 32_768, 0, 0, 0, 0, 1 << 30, 0, 1, 0]) writer.u32(word);
    } else if (call.procedure === PATHCONF.number) {
      for (const word of [0, 100, 255, 1, 1, 0, 1]) writer.u32(word);
    }
  });
}

for (const [what, refuse] of Object.entries(WITHOUT_41)) {
  test(`a server with ${what} is asked for NFSv3, unless the URL says 4.1`, async (t) => {
    const server = await FakeServer.start(t, (call) => {
      if (call.program === NFS_PROGRAM && call.version === 4) refuse(call);
      else if (call.program === MOUNT_PROGRAM && call.procedure === 3) call.reply(() => {});
      else answerVersion3(call);
    });
    const url = `nfs://127.0.0.1:${server.port}/export`;
    const files = await connectFiles(url);
    const { version, maxRead, maxWrite } = files.server.info;
    assert.deepEqual([version, maxRead, maxWrite], ['3', 65_536, 32_768]);
    await files.close();
    await assert.rejects(connectFiles(`${url}?version=4.1`), { code: /^(EOPNOTSUPP|EPROTONOSUPPORT)$/ });
  });
}

test('a path that is not exported is said to be so, whatever else cannot be reached', async (t) => {
  const server = await startGanesha(t);
  if (server === null) return;
  const { port, mountPort } = server;
  await assert.rejects(connectFiles(`nfs://127.0.0.1:${port}/none?uid=0&gid=0`), { code: /^(ENOENT|EACCES)$/ });
  await assert.rejects(connectFiles(`nfs://127.0.0.1:${port}/none?version=3&mountport=${mountPort}`), {
    code: /^(ENOENT|EACCES)$/,
  });
  await assert.rejects(connectFiles(`nfs://127.0.0.1:${port}/none?version=4.1`), { code: 'ENOENT' });
});

test('no server, no export, a server that says nothing, an abort', async (t) => {
  await assert.rejects(connectFiles('nfs://127.0.0.1:1/export?version=3&mountport=1'), { code: 'ECONNREFUSED' });
  await assert.rejects(connectFiles('http://127.0.0.1/'), TypeError);
  const silent = createServer(() => {});
  await once(silent.listen(0, '127.0.0.1'), 'listening');
  t.after(() => silent.close());
  const { port } = silent.address() as { port: number };
  const url = `nfs://127.0.0.1:${port}/export`;
  await assert.rejects(connectFiles(`${url}?version=3&mountport=${port}&timeout=1`), { code: 'ETIMEDOUT' });
  for (const parameters of [`?version=3&mountport=${port}`, '?version=4.1', '']) {
    const why = new Error('enough');
    const controller = new AbortController();
    const connected = once(silent, 'connection');
    const attempt = connectFiles(`${url}${parameters}`, { signal: controller.signal });
    await connected;
    // The call is on its way, and nobody answers it.
    setImmediate(() => controller.abort(why));
    await assert.rejects(attempt, why);
  }
});
