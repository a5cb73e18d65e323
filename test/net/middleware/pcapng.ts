/**
 * Reads captures as the specification of pcapng says (draft-ietf-opsawg-pcapng), not as our writer does: blocks with their
 * length at both ends. Pure.
 */
import assert from 'node:assert/strict';

export interface CapturedFrame {
  /** Milliseconds since 1970. */
  readonly ms: number;
  readonly bytes: Uint8Array;
  /** Length on the wire. */
  readonly original: number;
  /** 1 in, 2 out. */
  readonly direction: number;
}

export interface Capture {
  readonly name: string;
  /** Link type; 1 is Ethernet. */
  readonly link: number;
  readonly snap: number;
  readonly records: readonly CapturedFrame[];
}

/** @throws AssertionError where the file is no pcapng file of one section and one interface */
export function readPcapng(file: Uint8Array): Capture {
  const view = new DataView(file.buffer, file.byteOffset, file.length);
  const u32 = (at: number): number => view.getUint32(at, true);
  const options = (at: number, end: number): Map<number, Uint8Array> => {
    const found = new Map<number, Uint8Array>();
    while (at < end) {
      const code = view.getUint16(at, true);
      const length = view.getUint16(at + 2, true);
      if (code === 0) break;
      found.set(code, file.subarray(at + 4, at + 4 + length));
      at += 4 + ((length + 3) & ~3);
    }
    return found;
  };
  const result = { name: '', link: 0, snap: 0, records: [] as CapturedFrame[] };
  for (let at = 0, n = 0; at < file.length; n++) {
    const type = u32(at);
    const length = u32(at + 4);
    assert.equal(length % 4, 0);
    assert.equal(u32(at + length - 4), length);
    if (n === 0) {
      assert.equal(type, 0x0a0d0d0a);
      assert.equal(u32(at + 8), 0x1a2b3c4d);
      assert.equal(view.getUint16(at + 12, true), 1);
      assert.equal(view.getUint16(at + 14, true), 0);
      assert.equal(u32(at + 16), 0xffffffff);
    } else if (type === 1) {
      result.link = view.getUint16(at + 8, true);
      result.snap = u32(at + 12);
      result.name = new TextDecoder().decode(options(at + 16, at + length - 4).get(2));
    } else {
      assert.equal(type, 6);
      const kept = u32(at + 20);
      const flags = options(at + 28 + ((kept + 3) & ~3), at + length - 4).get(2)!;
      result.records.push({
        ms: (u32(at + 12) * 2 ** 32 + u32(at + 16)) / 1000,
        bytes: file.slice(at + 28, at + 28 + kept),
        original: u32(at + 24),
        direction: flags[0]!,
      });
    }
    at += length;
  }
  return result;
}
