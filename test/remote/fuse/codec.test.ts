/**
 * The FUSE protocol as bytes: requests that are not sound are refused and never crash, and replies are laid out as
 * linux/fuse.h has them.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { ERRNO } from '../../../src/errors.ts';
import { BODY_BYTES, IN_HEADER_BYTES, InitFlag, Opcode } from '../../../src/remote/fuse/abi.ts';
import { negotiate } from '../../../src/remote/fuse/init.ts';
import { deviceMajor, deviceMinor, deviceNumber, ReplyWriter } from '../../../src/remote/fuse/reply.ts';
import { RequestReader } from '../../../src/remote/fuse/request.ts';
import { type Attributes, FileType } from '../../../src/remote/server.ts';

function memory(bytes: number) {
  const buffer = new ArrayBuffer(bytes);
  return { buffer, u8: new Uint8Array(buffer), u32: new Uint32Array(buffer), i32: new Int32Array(buffer) };
}

function request(opcode: number, body: Uint8Array, length = IN_HEADER_BYTES + body.length) {
  const space = memory(65536);
  const view = new DataView(space.buffer);
  view.setUint32(0, length, true);
  view.setUint32(4, opcode, true);
  view.setBigUint64(8, 0x1_0000_0002n, true);
  view.setBigUint64(16, 77n, true);
  view.setUint32(24, 1000, true);
  view.setUint32(28, 100, true);
  view.setUint32(32, 4321, true);
  space.u8.set(body, IN_HEADER_BYTES);
  return space;
}

const ATTRIBUTES: Attributes = {
  type: FileType.regular,
  mode: 0o4755,
  linkCount: 3,
  uid: 5,
  gid: 6,
  size: 2 ** 40 + 7,
  used: 1025,
  deviceMajor: 0,
  deviceMinor: 0,
  fsidHigh: 0,
  fsidLow: 1,
  fileidHigh: 1,
  fileidLow: 0xffff_ffff,
  atimeSeconds: -2,
  atimeNanoseconds: 1,
  mtimeSeconds: 1_700_000_000,
  mtimeNanoseconds: 999_999_999,
  ctimeSeconds: 3,
  ctimeNanoseconds: 4,
  changeHigh: 0,
  changeLow: 0,
};
const SHOWN = { attributes: ATTRIBUTES, inoHigh: 1, inoLow: 0xffff_ffff, size: ATTRIBUTES.size, linkCount: 3 };

test('a request is read in place', () => {
  const space = request(Opcode.LOOKUP, Buffer.from('na\xffme\0', 'latin1'));
  const reader = new RequestReader(space);
  assert.equal(reader.parse(IN_HEADER_BYTES + 6), 0);
  assert.equal(reader.unique, 0x1_0000_0002);
  assert.equal(reader.nodeId, 77);
  assert.deepEqual([reader.uid, reader.gid, reader.pid], [1000, 100, 4321]);
  assert.equal(reader.name(0), 'na\xffme');
  assert.equal(reader.afterName, 6);
});

test('names that are none are refused', () => {
  for (const name of ['\0x', '.\0', '..\0', 'a/b\0', 'no end', `${'x'.repeat(4097)}\0`]) {
    const body = Buffer.from(name, 'latin1');
    const reader = new RequestReader(request(Opcode.LOOKUP, body));
    assert.equal(reader.parse(IN_HEADER_BYTES + body.length), 0);
    assert.equal(reader.name(0), null, JSON.stringify(name.slice(0, 10)));
  }
});

test('a header that does not fit its request cannot be answered; a short body is an error', () => {
  const reader = new RequestReader(request(Opcode.GETATTR, new Uint8Array(16)));
  assert.equal(reader.parse(39), -1);
  assert.equal(reader.parse(55), -1, 'another length than the header says');
  assert.equal(reader.parse(56), 0);
  for (const [opcode, least] of Object.entries(BODY_BYTES)) {
    if (least === 0) continue;
    const short = new RequestReader(request(Number(opcode), new Uint8Array(least - 1)));
    assert.equal(short.parse(IN_HEADER_BYTES + least - 1), ERRNO.EIO, `opcode ${opcode}`);
  }
  assert.equal(new RequestReader(request(999, new Uint8Array(0))).parse(IN_HEADER_BYTES), ERRNO.ENOSYS);
});

test('a write, and a batch of forgets, that say they are longer than they are', () => {
  const write = Buffer.alloc(50);
  write.writeUInt32LE(11, 16);
  assert.equal(new RequestReader(request(Opcode.WRITE, write)).parse(90), ERRNO.EIO);
  write.writeUInt32LE(10, 16);
  assert.equal(new RequestReader(request(Opcode.WRITE, write)).parse(90), 0);
  const forgets = Buffer.alloc(8 + 16);
  forgets.writeUInt32LE(2, 0);
  assert.equal(new RequestReader(request(Opcode.BATCH_FORGET, forgets)).parse(64), ERRNO.EIO);
});

test('any bytes are read without an exception', () => {
  const property = fc.property(fc.nat(60), fc.uint8Array({ maxLength: 200 }), fc.nat(200), (opcode, body, length) => {
    const reader = new RequestReader(request(opcode, body));
    const errno = reader.parse(Math.min(IN_HEADER_BYTES + body.length, length + 1));
    assert.ok([-1, 0, ERRNO.EIO, ERRNO.ENOSYS].includes(errno));
    if (errno !== 0) return;
    const name = reader.name(0);
    assert.ok(name === null || (name.length > 0 && !name.includes('/')));
    reader.target(0);
    reader.u64(0);
    reader.i64(0);
    reader.bytes(0, 1000);
  });
  fc.assert(property, { numRuns: 2000 });
});

test('an entry with its attributes, byte by byte', () => {
  const space = memory(4096);
  const writer = new ReplyWriter(space);
  writer.begin(0x3_0000_0004);
  writer.entry(0x2_0000_0001, 1500, 0.25, SHOWN);
  assert.equal(writer.finish(), 16 + 128);
  const view = new DataView(space.buffer);
  assert.equal(view.getUint32(0, true), 144);
  assert.equal(view.getInt32(4, true), 0);
  assert.equal(view.getBigUint64(8, true), 0x3_0000_0004n);
  assert.equal(view.getBigUint64(16, true), 0x2_0000_0001n);
  assert.equal(view.getBigUint64(32, true), 1n);
  assert.equal(view.getBigUint64(40, true), 0n);
  assert.equal(view.getUint32(48, true), 500_000_000);
  assert.equal(view.getUint32(52, true), 250_000);
  const attr = 56;
  assert.equal(view.getBigUint64(attr, true), 0x1_ffff_ffffn);
  assert.equal(view.getBigUint64(attr + 8, true), 2n ** 40n + 7n);
  assert.equal(view.getBigUint64(attr + 16, true), 3n);
  assert.equal(view.getBigInt64(attr + 24, true), -2n);
  assert.equal(view.getBigInt64(attr + 32, true), 1_700_000_000n);
  assert.equal(view.getUint32(attr + 52, true), 999_999_999);
  assert.equal(view.getUint32(attr + 60, true), 0o104755);
  assert.deepEqual(
    [64, 68, 72].map((at) => view.getUint32(attr + at, true)),
    [3, 5, 6],
  );
});

test('directory entries stop where the reply is full, and are padded', () => {
  const space = memory(4096);
  const writer = new ReplyWriter(space);
  writer.begin(1);
  assert.equal(writer.directoryEntry(70, 'abc', 0, 9, FileType.directory, 1), true);
  assert.equal(writer.directoryEntry(70, '12345678', 0, 9, FileType.regular, 2), true);
  assert.equal(writer.directoryEntry(70, 'x', 0, 9, 0, 3), false);
  assert.equal(writer.finish(), 16 + 32 + 32);
  const view = new DataView(space.buffer);
  assert.equal(view.getUint32(16 + 16, true), 3);
  assert.equal(view.getUint32(16 + 20, true), 4);
  assert.equal(Buffer.from(space.buffer, 16 + 24, 8).toString('latin1'), 'abc\0\0\0\0\0');
  assert.equal(view.getUint32(48 + 20, true), 8);
});

test('a reply that is too large is a mistake of ours, not a write past the end', () => {
  const writer = new ReplyWriter(memory(64));
  writer.begin(1);
  assert.throws(() => writer.bytes(new Uint8Array(100)), RangeError);
  assert.equal(writer.status(2, ERRNO.EIO), 16);
});

test('what is agreed on at the start', () => {
  const asked = { major: 7, minor: 31, maxReadahead: 131072, flags: 0xffff_ffff | 0 };
  const agreed = negotiate(asked, 1 << 20);
  assert.equal(agreed.kind, 'accepted');
  assert.ok(agreed.kind === 'accepted' && agreed.reply.minor === 31 && agreed.reply.maxPages === 256);
  assert.equal(agreed.reply.flags & (1 << 16), 0, 'no write-back cache');
  assert.equal(negotiate({ ...asked, major: 8 }, 1 << 20).kind, 'older');
  assert.equal(negotiate({ ...asked, minor: 30 }, 1 << 20).kind, 'refused');
  const few = negotiate({ ...asked, minor: 99, flags: InitFlag.ASYNC_READ }, 1 << 20);
  assert.ok(few.kind === 'accepted' && few.reply.flags === InitFlag.ASYNC_READ && few.reply.maxWrite === 131072);
});

test('device numbers', () => {
  for (const [major, minor] of [
    [8, 1],
    [259, 70_000],
    [4095, 255],
  ] as const) {
    const device = deviceNumber(major, minor);
    assert.deepEqual([deviceMajor(device), deviceMinor(device)], [major, minor]);
  }
});
