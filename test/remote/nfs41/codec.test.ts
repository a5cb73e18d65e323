/**
 * The bytes of NFSv4.1: arguments as RFC 5662 has them, results read back, and replies that are nonsense.
 */
import assert from 'node:assert/strict';
import test from 'node:test';
import fc from 'fast-check';
import {
  ATTRIBUTES,
  bitmap,
  FileAttributes,
  hasBit,
  readBitmap,
  readFattr,
  toAttributes,
  writeBitmap,
  writeSetAttributes,
} from '../../../src/remote/nfs41/attributes.ts';
import { COMPOUND, Compound } from '../../../src/remote/nfs41/compound.ts';
import { Attr, Op } from '../../../src/remote/nfs41/constants.ts';
import * as file from '../../../src/remote/nfs41/file-steps.ts';
import * as session from '../../../src/remote/nfs41/session-steps.ts';
import * as state from '../../../src/remote/nfs41/state-steps.ts';
import { ANONYMOUS_STATEID, CURRENT_STATEID, type Step } from '../../../src/remote/nfs41/step.ts';
import { RemoteError } from '../../../src/remote/remote-error.ts';
import { XdrError, XdrReader, XdrWriter } from '../../../src/remote/xdr.ts';

const SEED = Number(process.env['SEED'] ?? 20261123);
const hex = (text: string) => Uint8Array.from(Buffer.from(text.replace(/\s/g, ''), 'hex'));
const u32 = fc.integer({ min: 0, max: 0xffff_ffff });
const name = fc.uint8Array({ minLength: 1, maxLength: 40 });

function encoded(step: Step<unknown>): Uint8Array {
  const writer = new XdrWriter();
  step.encode(writer);
  return writer.toBytes();
}

/** Arguments by hand from RFC 5662. */
const ARGUMENTS: [string, Step<unknown>, string][] = [
  ['PUTFH', file.putfh(hex('0102030405')), '00000005 0102030405 000000'],
  ['LOOKUP', file.lookup(hex('6162')), '00000002 61620000'],
  ['GETATTR', file.getattr(bitmap(Attr.type, Attr.mode)), '00000002 00000002 00000002'],
  ['ACCESS', file.access(0x3f), '0000003f'],
  ['READ', file.read(ANONYMOUS_STATEID, 2 ** 33, 10), `${'00'.repeat(16)} 00000002 00000000 0000000a`],
  [
    'WRITE',
    file.write(CURRENT_STATEID, 1, hex('ff'), 2),
    `00000001 ${'00'.repeat(12)} 00000000 00000001 00000002 00000001 ff000000`,
  ],
  ['COMMIT', file.commit(0, 0), '00000000 00000000 00000000'],
  [
    'SETATTR',
    file.setattr(ANONYMOUS_STATEID, {
      size: 5,
      mode: 0o644,
      uid: 7,
      mtime: { seconds: -1, nanoseconds: 2 },
      atime: 'server',
    }),
    `${'00'.repeat(16)} 00000002 00000010 00410012 00000028 00000000 00000005 000001a4 00000001 37000000 00000000 00000001 ffffffff ffffffff 00000002`,
  ],
  ['CREATE of a directory', file.create({ type: 2 }, hex('64'), {}), '00000002 00000001 64000000 00000000 00000000'],
  [
    'CREATE of a symlink',
    file.create({ type: 5, target: hex('7878') }, hex('6c'), {}),
    '00000005 00000002 78780000 00000001 6c000000 00000000 00000000',
  ],
  [
    'CREATE of a device',
    file.create({ type: 4, major: 1, minor: 3 }, hex('6e'), {}),
    '00000004 00000001 00000003 00000001 6e000000 00000000 00000000',
  ],
  ['REMOVE', file.remove(hex('61')), '00000001 61000000'],
  ['RENAME', file.rename(hex('61'), hex('62')), '00000001 61000000 00000001 62000000'],
  ['VERIFY', file.verifyChange({ high: 1, low: 2 }), '00000001 00000008 00000008 00000001 00000002'],
  ['NVERIFY', file.nverifyType(2), '00000001 00000002 00000004 00000002'],
  [
    'READDIR',
    file.readdir({ high: 0, low: 3 }, { high: 4, low: 5 }, 4096, bitmap(Attr.fileid)),
    '00000000 00000003 00000004 00000005 00000400 00001000 00000001 00100000',
  ],
  [
    'OPEN, guarded',
    state.open({
      access: 2,
      owner: hex('6f'),
      how: { kind: 'guarded', attributes: { mode: 0o600 } },
      claim: { kind: 'name', name: hex('66') },
    }),
    '00000000 00000402 00000000 00000000 00000000 00000001 6f000000 00000001 00000001 00000002 00000000 00000002 00000004 00000180 00000000 00000001 66000000',
  ],
  [
    'OPEN, exclusive',
    state.open({
      access: 3,
      owner: hex('6f'),
      how: { kind: 'exclusive', verifier: { high: 1, low: 2 }, attributes: {} },
      claim: { kind: 'name', name: hex('66') },
    }),
    '00000000 00000403 00000000 00000000 00000000 00000001 6f000000 00000001 00000003 00000001 00000002 00000000 00000000 00000000 00000001 66000000',
  ],
  [
    'OPEN, reclaimed',
    state.open({ access: 1, owner: hex('6f'), how: { kind: 'existing' }, claim: { kind: 'previous' } }),
    '00000000 00000401 00000000 00000000 00000000 00000001 6f000000 00000000 00000001 00000000',
  ],
  ['CLOSE', state.close(CURRENT_STATEID), `00000000 00000001 ${'00'.repeat(12)}`],
  [
    'LOCK',
    state.lock(
      { exclusive: true, offset: 1, length: null },
      { kind: 'open', open: ANONYMOUS_STATEID, owner: hex('6f') },
      false,
    ),
    `00000002 00000000 00000000 00000001 ffffffff ffffffff 00000001 00000000 ${'00'.repeat(16)} 00000000 00000000 00000000 00000001 6f000000`,
  ],
  [
    'LOCKT',
    state.lockt({ exclusive: false, offset: 0, length: 9 }, hex('6f')),
    '00000001 00000000 00000000 00000000 00000009 00000000 00000000 00000001 6f000000',
  ],
  [
    'LOCKU',
    state.locku({ exclusive: false, offset: 0, length: 9 }, ANONYMOUS_STATEID),
    `00000001 00000000 ${'00'.repeat(16)} 00000000 00000000 00000000 00000009`,
  ],
  [
    'SEQUENCE',
    session.sequence({
      sessionId: new Uint8Array(16).fill(9),
      sequenceId: 5,
      slot: 2,
      highestSlot: 7,
      keepReply: true,
    }),
    `${'09'.repeat(16)} 00000005 00000002 00000007 00000001`,
  ],
  [
    'EXCHANGE_ID',
    session.exchangeId(new Uint8Array(8).fill(1), hex('6f'), 0x10000),
    `${'01'.repeat(8)} 00000001 6f000000 00010000 00000000 00000000`,
  ],
  ['DESTROY_CLIENTID', session.destroyClient({ high: 1, low: 2 }), '00000001 00000002'],
  ['RECLAIM_COMPLETE', session.RECLAIM_COMPLETE, '00000000'],
  ['BIND_CONN_TO_SESSION', session.bindConnection(new Uint8Array(16)), `${'00'.repeat(16)} 00000001 00000000`],
  ['TEST_STATEID', session.testStateid([ANONYMOUS_STATEID]), `00000001 ${'00'.repeat(16)}`],
];

test('arguments are the bytes of RFC 5662, within the size that is said beforehand', () => {
  for (const [what, step, expected] of ARGUMENTS) {
    const got = encoded(step);
    assert.equal(Buffer.from(got).toString('hex'), expected.replace(/\s/g, ''), what);
    assert.ok(got.length + 4 <= step.requestBytes, `${what}: ${got.length + 4} bytes, ${step.requestBytes} said`);
  }
});

test('bitmaps: any set of attributes comes back', () => {
  fc.assert(
    fc.property(fc.uniqueArray(fc.integer({ min: 0, max: 95 })), (bits) => {
      const writer = new XdrWriter();
      writeBitmap(writer, bitmap(...bits));
      const back = readBitmap(new XdrReader(writer.toBytes()));
      for (let bit = 0; bit < 96; bit++) assert.equal(hasBit(back, bit), bits.includes(bit));
    }),
    { seed: SEED, numRuns: 200 },
  );
});

/** A fattr4 as a server writes it. */
function fattr(mask: readonly number[], body: (writer: XdrWriter) => void): Uint8Array {
  const inner = new XdrWriter();
  body(inner);
  const writer = new XdrWriter();
  writeBitmap(writer, mask);
  writer.opaque(inner.toBytes());
  return writer.toBytes();
}

test('attributes: every number comes back, owners as numbers, unknown owners as nobody', () => {
  const owners: [string, number][] = [
    ['0', 0],
    ['4294967295', 4294967295],
    ['root', 0],
    ['root@localdomain', 0],
    ['someone@example.org', 65534],
    ['', 65534],
    ['4294967296', 65534],
  ];
  fc.assert(
    fc.property(
      fc.record({
        change: fc.tuple(u32, u32),
        size: fc.integer({ min: 0, max: Number.MAX_SAFE_INTEGER }),
        fileid: fc.tuple(u32, u32),
        mode: u32,
        links: u32,
        owner: fc.constantFrom(...owners),
        group: fc.constantFrom(...owners),
        device: fc.tuple(u32, u32),
        seconds: fc.integer({ min: -(2 ** 40), max: 2 ** 40 }),
        nanoseconds: fc.integer({ min: 0, max: 999_999_999 }),
        type: fc.integer({ min: 1, max: 7 }),
      }),
      (given) => {
        const bytes = fattr(ATTRIBUTES, (writer) => {
          writer.u32(given.type);
          writer.halves(...given.change);
          writer.u64(given.size);
          writer.halves(0, 5);
          writer.halves(0, 6);
          writer.halves(...given.fileid);
          writer.u32(given.mode);
          writer.u32(given.links);
          writer.string(given.owner[0]);
          writer.string(given.group[0]);
          writer.halves(...given.device);
          writer.u64(4096);
          for (let i = 0; i < 3; i++) {
            writer.i64(given.seconds);
            writer.u32(given.nanoseconds);
          }
        });
        const reader = new XdrReader(bytes);
        const got = toAttributes(readFattr(reader), 'GETATTR');
        reader.finish();
        assert.equal(got.type, given.type);
        assert.deepEqual([got.changeHigh, got.changeLow], given.change);
        assert.equal(got.size, given.size);
        assert.deepEqual([got.fileidHigh, got.fileidLow], given.fileid);
        assert.equal(got.mode, given.mode & 0o7777);
        assert.equal(got.linkCount, given.links);
        assert.deepEqual([got.uid, got.gid], [given.owner[1], given.group[1]]);
        assert.deepEqual([got.deviceMajor, got.deviceMinor], given.device);
        for (const seconds of [got.atimeSeconds, got.mtimeSeconds, got.ctimeSeconds])
          assert.equal(seconds, given.seconds);
        assert.equal(got.ctimeNanoseconds, given.nanoseconds);
      },
    ),
    { seed: SEED, numRuns: 200 },
  );
});

test('attributes that cannot be: not asked for, of another length, without a type, too large', () => {
  const cases: [Uint8Array, string][] = [
    [fattr(bitmap(63), (writer) => writer.u32(1)), 'EPROTO'],
    [fattr(bitmap(Attr.type), (writer) => writer.halves(1, 1)), 'EPROTO'],
    [fattr(bitmap(Attr.mode), (writer) => writer.u32(1)), 'EPROTO'],
    [
      fattr(bitmap(Attr.type, Attr.change, Attr.size), (writer) => {
        writer.u32(1);
        writer.halves(0, 1);
        writer.halves(0x20_0000, 0);
      }),
      'EOVERFLOW',
    ],
  ];
  for (const [bytes, code] of cases) {
    assert.throws(() => toAttributes(readFattr(new XdrReader(bytes)), 'GETATTR'), { code });
  }
  const empty = new FileAttributes();
  assert.throws(() => toAttributes(empty, 'GETATTR'), { code: 'EPROTO' });
});

test('what is set is written in the order of the attribute numbers, whatever the order given', () => {
  const one = new XdrWriter();
  writeSetAttributes(one, { mode: 1, size: 2, gid: 3, uid: 4 });
  const other = new XdrWriter();
  writeSetAttributes(other, { uid: 4, gid: 3, size: 2, mode: 1 });
  assert.deepEqual(one.toBytes(), other.toBytes());
});

/** A COMPOUND with one of nearly everything. */
function everything(): Compound {
  const compound = Compound.inSession();
  const steps: Step<unknown>[] = [
    file.PUTROOTFH,
    file.GETFH,
    file.getattr(ATTRIBUTES),
    file.access(3),
    file.READLINK,
    file.read(ANONYMOUS_STATEID, 0, 64),
    file.write(ANONYMOUS_STATEID, 0, new Uint8Array(3), 0),
    file.commit(0, 0),
    file.setattr(ANONYMOUS_STATEID, { mode: 1 }),
    file.create({ type: 2 }, hex('61'), {}),
    file.link(hex('61')),
    file.remove(hex('61')),
    file.rename(hex('61'), hex('62')),
    file.readdir({ high: 0, low: 0 }, { high: 0, low: 0 }, 4096, ATTRIBUTES),
    state.open({ access: 1, owner: hex('6f'), how: { kind: 'existing' }, claim: { kind: 'handle' } }),
    state.close(CURRENT_STATEID),
    state.lock({ exclusive: true, offset: 0, length: 1 }, { kind: 'lock', lock: ANONYMOUS_STATEID }, false),
    state.lockt({ exclusive: true, offset: 0, length: 1 }, hex('6f')),
    session.testStateid([ANONYMOUS_STATEID]),
  ];
  for (const step of steps) compound.add(step);
  return compound;
}

test('any bytes as a reply: values, or an error of ours; never a crash, a hang or endless memory', () => {
  const compound = everything();
  const alone = [
    Compound.alone(session.exchangeId(new Uint8Array(8), hex('6f'), 0)),
    Compound.alone(session.createSession({ high: 0, low: 1 }, 1, 0, CHANNEL)),
  ];
  let good = 0;
  const look = (bytes: Uint8Array, of: Compound) => {
    try {
      COMPOUND.decode(new XdrReader(bytes), of);
      good++;
    } catch (error) {
      assert.ok(
        error instanceof XdrError || error instanceof RemoteError || error instanceof RangeError,
        String(error),
      );
    }
  };
  const header = (steps: readonly Step<unknown>[]) => {
    const writer = new XdrWriter();
    writer.u32(0);
    writer.u32(0);
    writer.u32(steps.length);
    return writer;
  };
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), fc.integer({ min: 0, max: 18 }), u32, (bytes, at, status) => {
      look(bytes, compound);
      // Random bytes as the result of each operation alone: the numbers before it are right.
      const step = compound.steps[at + 1]!;
      const one = Compound.alone(step);
      for (const result of [0, status]) {
        const writer = header([step]);
        if (result !== 0) writer.view.setUint32(0, result);
        writer.halves(step.op, result);
        writer.encoded(bytes.subarray(0, bytes.length & ~3));
        look(writer.toBytes(), one);
      }
      for (const each of alone) {
        const writer = header(each.steps);
        writer.halves(each.steps[0]!.op, 0);
        writer.encoded(bytes.subarray(0, bytes.length & ~3));
        look(writer.toBytes(), each);
      }
    }),
    { seed: SEED, numRuns: 2000 },
  );
  assert.ok(good > 0, 'some replies were fit to be read');
});

const CHANNEL = { maxRequest: 1, maxReply: 1, maxKeptReply: 1, maxOperations: 1, maxRequests: 1 };

test('a reply that answers other operations, or goes on after a failure, is no reply', () => {
  const compound = Compound.alone(file.GETFH);
  const reply = (words: readonly number[]) => {
    const writer = new XdrWriter();
    for (const word of words) writer.u32(word);
    return () => COMPOUND.decode(new XdrReader(writer.toBytes()), compound);
  };
  const wrong: number[][] = [
    [0, 0, 1, Op.getattr, 0],
    [0, 0, 2, Op.getfh, 0],
    [0, 0, 0],
    [5, 0, 1, Op.getfh, 6],
    [5, 0, 1, Op.getfh, 0, 0],
  ];
  for (const words of wrong) {
    assert.throws(reply(words), (error) => error instanceof RemoteError || error instanceof XdrError);
  }
  const failed = reply([70, 0, 1, Op.getfh, 70])();
  assert.deepEqual([failed.status, failed.failed, failed.failedName], [70, 0, 'GETFH']);
  const refused = reply([10_021, 0, 0])();
  assert.deepEqual([refused.status, refused.refused], [10_021, true]);
});

test('names of any bytes go into LOOKUP, CREATE and OPEN as they are', () => {
  fc.assert(
    fc.property(name, (bytes) => {
      const reader = new XdrReader(encoded(file.lookup(bytes)));
      assert.deepEqual([...reader.opaque(40)], [...bytes]);
      reader.finish();
    }),
    { seed: SEED, numRuns: 100 },
  );
});
