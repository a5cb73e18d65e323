/** The NFSv3 and MOUNT procedures on arbitrary bytes: a result or a typed error, never more. Pure. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import * as fileSystem from '../../../src/remote/nfs3/file-system.ts';
import * as mount from '../../../src/remote/nfs3/mount.ts';
import { NFS_PROGRAM } from '../../../src/remote/nfs3/procedure.ts';
import * as nfs from '../../../src/remote/nfs3/procedures.ts';
import { RemoteError } from '../../../src/remote/remote-error.ts';
import { type Procedure, TryLater } from '../../../src/remote/rpc/message.ts';
import { XdrError, XdrReader, XdrWriter } from '../../../src/remote/xdr.ts';

type Any = Procedure<unknown, unknown>;
const handle = Uint8Array.from({ length: 32 }, (_, i) => i);
const name = Buffer.from('naïve name');
const directory = handle;
const attributes = {
  mode: 0o640,
  uid: 1,
  gid: 2,
  size: 2 ** 40,
  atime: 'server',
  mtime: { seconds: 5, nanoseconds: 6 },
};
const data = new Uint8Array(100);

/** Every procedure with arguments for it. */
const CASES: readonly [procedure: unknown, args: unknown][] = [
  [nfs.NULL, null],
  [nfs.GETATTR, handle],
  [nfs.SETATTR, { handle, attributes, guard: { high: 1, low: 2 } }],
  [nfs.LOOKUP, { directory, name }],
  [nfs.ACCESS, { handle, bits: 63 }],
  [nfs.READLINK, handle],
  [nfs.READ, { handle, offset: 2 ** 45, length: 100 }],
  [nfs.WRITE, { handle, offset: 0, data, stability: 'unstable' }],
  [nfs.CREATE, { directory, name, mode: 'exclusive', attributes, verifier: { high: 1, low: 2 } }],
  [nfs.MKDIR, { directory, name, attributes }],
  [nfs.SYMLINK, { directory, name, target: name, attributes }],
  [nfs.MKNOD, { directory, name, device: { type: 3, major: 1, minor: 2 }, attributes }],
  [nfs.REMOVE, { directory, name }],
  [nfs.RMDIR, { directory, name }],
  [nfs.RENAME, { fromDirectory: handle, fromName: name, toDirectory: handle, toName: name }],
  [nfs.LINK, { handle, directory, name }],
  [nfs.READDIR, { directory, position: null, nameBytes: 100, bytes: 1000 }],
  [nfs.READDIRPLUS, { directory, position: null, nameBytes: 100, bytes: 1000 }],
  [fileSystem.FSSTAT, handle],
  [fileSystem.FSINFO, handle],
  [fileSystem.PATHCONF, handle],
  [nfs.COMMIT, { handle, offset: 0, length: 0 }],
  [mount.MOUNT_NULL, null],
  [mount.MNT, '/export'],
  [mount.DUMP, null],
  [mount.UMNT, '/export'],
  [mount.UMNTALL, null],
  [mount.EXPORT, null],
];

test('there are twenty-two procedures, with the numbers of RFC 1813', () => {
  const numbers = CASES.map(([procedure]) => procedure as Any).filter((p) => p.program === NFS_PROGRAM);
  assert.deepEqual(
    numbers.map((p) => p.number),
    Array.from({ length: 22 }, (_, i) => i),
  );
});

test('arguments are whole words and the same each time (a replay must not differ)', () => {
  for (const [procedure, args] of CASES) {
    const encode = () => {
      const writer = new XdrWriter(4);
      (procedure as Any).encode(writer, args);
      return writer.toBytes();
    };
    assert.equal(encode().length % 4, 0);
    assert.deepEqual(encode(), encode());
  }
});

/** Words that make decoders go on rather than stop: small numbers, now and then anything. */
const word = fc.oneof(
  { weight: 6, arbitrary: fc.constantFrom(0, 1, 2, 3, 4, 7, 8, 16) },
  { weight: 2, arbitrary: fc.nat(100) },
  { weight: 1, arbitrary: fc.integer({ min: 0, max: 0xffff_ffff }) },
);

function decodeAny(procedure: Any, args: unknown, bytes: Uint8Array): void {
  try {
    const reader = new XdrReader(bytes, true);
    procedure.decode(reader, args);
    assert.ok(reader.offset <= bytes.length);
  } catch (error) {
    const typed = error instanceof XdrError || error instanceof RemoteError || error instanceof TryLater;
    assert.ok(typed, `${procedure.name}: ${error instanceof Error ? error.stack : error}`);
  }
}

test('any reply is a result or a typed error', () => {
  for (const [procedure, args] of CASES) {
    fc.assert(
      fc.property(fc.array(word, { maxLength: 80 }), fc.nat(3), fc.boolean(), (words, extra, ok) => {
        const writer = new XdrWriter();
        if (ok) writer.u32(0);
        for (const each of words) writer.u32(each);
        writer.length = Math.max(0, writer.length - extra);
        decodeAny(procedure as Any, args, writer.toBytes());
      }),
      { numRuns: 300 },
    );
  }
});

const attributeWords = [1, 0o100644, 1, 2, 3, 0, 5, 0, 4096, 6, 7, 8, 9, 10, 77, 11, 12, 13, 14, 15, 16];

function reply(words: readonly number[]): Uint8Array {
  const writer = new XdrWriter();
  for (const each of words) writer.u32(each);
  return writer.toBytes();
}

test('attributes: each field in its place', () => {
  const got = nfs.GETATTR.decode(new XdrReader(reply([0, ...attributeWords])), handle);
  assert.deepEqual(got, {
    ...{ type: 1, mode: 0o644, linkCount: 1, uid: 2, gid: 3, size: 5, used: 4096, deviceMajor: 6, deviceMinor: 7 },
    ...{ fsidHigh: 8, fsidLow: 9, fileidHigh: 10, fileidLow: 77, atimeSeconds: 11, atimeNanoseconds: 12 },
    ...{
      mtimeSeconds: 13,
      mtimeNanoseconds: 14,
      ctimeSeconds: 15,
      ctimeNanoseconds: 16,
      changeHigh: 15,
      changeLow: 16,
    },
  });
});

test('attributes that cannot be are refused: a type that is none, a size above 2^53 - 1', () => {
  const decode = (at: number, value: number) => {
    const words = [0, ...attributeWords, 0];
    words[1 + at] = value;
    return () => nfs.GETATTR.decode(new XdrReader(reply(words)), handle);
  };
  assert.throws(decode(0, 0), XdrError);
  assert.throws(decode(0, 8), XdrError);
  assert.throws(decode(5, 0x20_0000), { code: 'EOVERFLOW' });
});

test('what the server may not say is refused', () => {
  const decode = (procedure: unknown, args: unknown, words: readonly number[]) => () =>
    (procedure as Any).decode(new XdrReader(reply(words)), args);
  const read = { handle, offset: 0, length: 8 };
  assert.throws(decode(nfs.READ, read, [0, 0, 9, 1, 12, 0, 0, 0]), XdrError, 'more than asked for');
  assert.throws(decode(nfs.READ, read, [0, 0, 4, 1, 8, 0, 0]), XdrError, 'count and data differ');
  assert.throws(decode(nfs.READ, read, [0, 0, 0, 0, 0]), XdrError, 'nothing, and no end either');
  assert.throws(
    decode(nfs.WRITE, { handle, offset: 0, data, stability: 'unstable' }, [0, 0, 0, 101, 0, 1, 1]),
    XdrError,
  );
  assert.throws(decode(nfs.WRITE, { handle, offset: 0, data, stability: 'unstable' }, [0, 0, 0, 0, 0, 1, 1]), XdrError);
  assert.throws(
    decode(nfs.LOOKUP, { directory, name }, [0, 65, ...Array(17).fill(0), 0, 0]),
    XdrError,
    'a long handle',
  );
  const listing = (entryName: string) => {
    const padded = Buffer.alloc((entryName.length + 3) & ~3);
    padded.write(entryName, 'latin1');
    const words = Array.from({ length: padded.length / 4 }, (_, i) => padded.readUInt32BE(4 * i));
    return [0, 0, 1, 1, 1, 0, 5, entryName.length, ...words, 0, 9, 0, 1];
  };
  const args = { directory, position: null, nameBytes: 1, bytes: 1 };
  assert.throws(decode(nfs.READDIR, args, listing('../etc')), XdrError, 'a path for a name');
  assert.throws(decode(nfs.READDIR, args, listing('a\0b')), XdrError);
  assert.throws(decode(nfs.READDIR, args, listing('')), XdrError);
  assert.throws(decode(nfs.READDIR, args, [0, 0, 1, 1, 0, 0]), XdrError, 'an empty page that is not the last');
  const page = nfs.READDIR.decode(new XdrReader(reply(listing('a b'))), args);
  assert.deepEqual(
    page.entries.map((entry) => Buffer.from(entry.name).toString()),
    ['a b'],
  );
  assert.equal(nfs.READDIR.decode(new XdrReader(reply(listing('..'))), args).entries.length, 0);
});
