/**
 * Requests that are not idempotent, executed by a server that dies before it answers and has forgotten them when it is back.
 * It touches loopback.
 */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { lookupPort } from '../../../src/remote/nfs3/mount.ts';
import { Nfs3Server } from '../../../src/remote/nfs3/server.ts';
import { RpcPool } from '../../../src/remote/rpc/pool.ts';
import type { ServerInfo } from '../../../src/remote/server.ts';
import type { XdrWriter } from '../../../src/remote/xdr.ts';
import { type FakeCall, FakeServer } from '../rpc/fake-server.ts';

const root = Uint8Array.of(0, 0, 0, 1);
const name = Buffer.from('name');
const [LOOKUP, READLINK, GETATTR] = [3, 5, 1];

/** fattr3 of an object with this type, number and moment of change. */
function writeAttributes(writer: XdrWriter, type: number, fileid: number, moment: number): void {
  const words = [type, 0o644, 1, 0, 0, 0, 5, 0, 5, 0, 0, 0, 1, 0, fileid, 0, 0, moment, 0, moment, 0];
  for (const word of words) writer.u32(word);
}

interface World {
  /** What the name is when it is looked up, or null. */
  readonly object: { type: number; fileid: number; moment: number; target?: string } | null;
  /** When the directory changed. */
  readonly directory: number;
  /** The status of the second execution. */
  readonly status: number;
  /** Words that follow the status. */
  readonly words: number;
}

/** A server that drops the connection at the first change, and answers the second time as the world says. */
async function serverOf(t: TestContext, world: World): Promise<Nfs3Server> {
  const answer = (call: FakeCall) => {
    const { object, directory } = world;
    call.reply((writer) => {
      if (call.procedure === LOOKUP && object === null) {
        for (const word of [2, 0]) writer.u32(word);
      } else if (call.procedure === LOOKUP) {
        writer.u32(0);
        writer.opaque(Uint8Array.of(0, 0, 0, object!.fileid));
        writer.u32(1);
        writeAttributes(writer, object!.type, object!.fileid, object!.moment);
        writer.u32(1);
        writeAttributes(writer, 2, 1, directory);
      } else if (call.procedure === READLINK) {
        writer.halves(0, 0);
        writer.string(object?.target ?? '');
      } else if (call.procedure === GETATTR) {
        writer.u32(0);
        writeAttributes(writer, 1, call.args.bytes[call.args.offset + 7] as number, directory);
      } else {
        writer.u32(world.status);
        for (let i = 0; i < world.words; i++) writer.u32(0);
      }
    });
  };
  const server = await FakeServer.start(t, (call) => {
    if (call.connection === 1) call.socket.destroy();
    else answer(call);
  });
  const options = { host: '127.0.0.1', port: server.port, credential: null, timeoutMs: 30_000 };
  const rpc = await RpcPool.connect(options);
  t.after(() => rpc.close());
  const info = {} as ServerInfo;
  return new Nfs3Server({ rpc, root, info, description: 'fake', unmount: () => Promise.resolve() });
}

const [NOENT, EXIST] = [2, 17];
const [WCC, TWO_WCC, ATTRIBUTES_WCC] = [2, 4, 3];
const just = { directory: 1000 };
const made = (type: number, more = {}) => ({ type, fileid: 7, moment: 1000, ...more });
const replayed = (code: string) => ({ code, replayed: true });

test('REMOVE and RMDIR: gone is done', async (t) => {
  const server = await serverOf(t, { object: null, ...just, status: NOENT, words: WCC });
  assert.deepEqual(await server.remove(root, name), { wcc: { before: null, after: null } });
  const other = await serverOf(t, { object: null, ...just, status: NOENT, words: WCC });
  await other.rmdir(root, name);
});

test('MKDIR: a directory made at the moment its parent changed is ours', async (t) => {
  const ours = await serverOf(t, { object: made(2), ...just, status: EXIST, words: WCC });
  assert.deepEqual((await ours.mkdir(root, name, {})).handle, Uint8Array.of(0, 0, 0, 7));
  const older = await serverOf(t, { object: made(2, { moment: 900 }), ...just, status: EXIST, words: WCC });
  await assert.rejects(older.mkdir(root, name, {}), replayed('EEXIST'));
  const file = await serverOf(t, { object: made(1), ...just, status: EXIST, words: WCC });
  await assert.rejects(file.mkdir(root, name, {}), replayed('EEXIST'));
});

test('guarded CREATE: likewise', async (t) => {
  const ours = await serverOf(t, { object: made(1), ...just, status: EXIST, words: WCC });
  assert.equal((await ours.create(root, name, 'guarded', {})).attributes.fileidLow, 7);
  const older = await serverOf(t, { object: made(1, { moment: 1 }), ...just, status: EXIST, words: WCC });
  await assert.rejects(older.create(root, name, 'guarded', {}), replayed('EEXIST'));
});

test('SYMLINK: a link to the same target is ours', async (t) => {
  const ours = await serverOf(t, { object: made(5, { target: 'there' }), ...just, status: EXIST, words: WCC });
  await ours.symlink(root, name, Buffer.from('there'), {});
  const other = await serverOf(t, { object: made(5, { target: 'elsewhere' }), ...just, status: EXIST, words: WCC });
  await assert.rejects(other.symlink(root, name, Buffer.from('there'), {}), replayed('EEXIST'));
});

test('LINK: the same object under the name is ours', async (t) => {
  const world = { object: made(1), ...just, status: EXIST, words: ATTRIBUTES_WCC };
  const ours = await serverOf(t, world);
  await ours.link(Uint8Array.of(0, 0, 0, 7), root, name);
  const other = await serverOf(t, world);
  await assert.rejects(other.link(Uint8Array.of(0, 0, 0, 9), root, name), replayed('EEXIST'));
});

test('RENAME: something moved there at that moment is ours', async (t) => {
  const ours = await serverOf(t, { object: made(1), ...just, status: NOENT, words: TWO_WCC });
  await ours.rename(root, Buffer.from('from'), root, name);
  const nothing = await serverOf(t, { object: null, ...just, status: NOENT, words: TWO_WCC });
  await assert.rejects(nothing.rename(root, Buffer.from('from'), root, name), replayed('ENOENT'));
});

test('the port mapper: a port, or why there is none', async (t) => {
  let port = 2049;
  const server = await FakeServer.start(t, (call) => {
    assert.deepEqual([call.program, call.version, call.procedure], [100000, 2, 3]);
    assert.deepEqual([call.args.u32(), call.args.u32(), call.args.u32()], [100003, 3, 6]);
    call.reply((writer) => writer.u32(port));
  });
  const options = { host: '127.0.0.1', port: server.port, credential: null };
  assert.equal(await lookupPort(options, 100003, 3), 2049);
  port = 0;
  await assert.rejects(lookupPort(options, 100003, 3), { code: 'ECONNREFUSED' });
  port = 70_000;
  await assert.rejects(lookupPort(options, 100003, 3), { code: 'EPROTO' });
});
