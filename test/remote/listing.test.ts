/** Listings from servers that lose the place, give no attributes, repeat themselves or do not end. Pure. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { listDirectory } from '../../src/remote/listing.ts';
import { NfsCode, RemoteError } from '../../src/remote/remote-error.ts';
import type { DirectoryPosition, ReaddirResult, RemoteServer } from '../../src/remote/server.ts';

const directory = new Uint8Array(4);

function page(from: number, names: readonly string[], eof: boolean): ReaddirResult {
  const entries = names.map((name, i) => ({
    name: Buffer.from(name),
    fileidHigh: 0,
    fileidLow: from + i,
    cookie: { high: 0, low: from + i + 1 },
    attributes: null,
    handle: null,
  }));
  const verifier = { high: 0, low: 0 };
  return { entries, eof, next: { cookie: { high: 0, low: from + names.length }, verifier }, attributes: null };
}

/** Gives three names a page; `fail` may refuse a call. */
function server(
  names: readonly string[],
  fail: (call: number, at: number, plus: boolean) => string | null = () => null,
): RemoteServer {
  let calls = 0;
  const readdir = async (_: Uint8Array, position: DirectoryPosition | null, plus: boolean) => {
    const at = position?.cookie.low ?? 0;
    const code = fail(++calls, at, plus);
    if (code !== null) throw new RemoteError(code, { code, procedure: 'READDIR', status: 1 });
    return page(at, names.slice(at, at + 3), at + 3 >= names.length);
  };
  return { readdir } as unknown as RemoteServer;
}

async function listed(from: RemoteServer, limit?: number): Promise<string[]> {
  const all: string[] = [];
  for await (const { entries } of listDirectory(from, directory, { plus: true, limit })) {
    all.push(...entries.map(({ name }) => Buffer.from(name).toString()));
  }
  return all;
}

const NAMES = [...'abcdefghijk'];

test('a listing is all its pages; each name comes once', async () => {
  assert.deepEqual(await listed(server(NAMES)), NAMES);
  assert.deepEqual(await listed(server([])), []);
  assert.deepEqual(await listed(server([...NAMES, ...NAMES])), NAMES);
});

test('where the server has lost the place it begins anew, and what was given is not given again', async () => {
  const forgetful = server(NAMES, (call, at) => (at > 0 && call % 3 === 0 ? NfsCode.badCookie : null));
  await assert.rejects(listed(forgetful), { code: NfsCode.badCookie }, 'it never comes further');
  const once = server(NAMES, (call) => (call === 3 ? NfsCode.badCookie : null));
  assert.deepEqual(await listed(once), NAMES);
});

test('where it cannot give attributes it gives names', async () => {
  assert.deepEqual(await listed(server(NAMES, (_, __, plus) => (plus ? 'EOPNOTSUPP' : null))), NAMES);
  await assert.rejects(listed(server(NAMES, () => 'EACCES')), { code: 'EACCES' });
});

test('a listing that does not end is EOVERFLOW, one that goes in circles EPROTO', async () => {
  const endless = {
    readdir: async (_: unknown, position: DirectoryPosition | null) => {
      const at = position?.cookie.low ?? 0;
      return page(at, [`a${at}`, `b${at}`], false);
    },
  } as unknown as RemoteServer;
  await assert.rejects(listed(endless, 100), { code: 'EOVERFLOW' });
  let calls = 0;
  const circle = {
    readdir: async () => {
      assert.ok(++calls < 1000, 'asked for ever');
      return page(calls % 5, ['x', 'y'], false);
    },
  } as unknown as RemoteServer;
  await assert.rejects(listed(circle), { code: 'EPROTO' });
  const still = { readdir: async () => page(7, [], false) } as unknown as RemoteServer;
  await assert.rejects(listed(still), { code: 'EPROTO' });
});
