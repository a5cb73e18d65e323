/**
 * The TCP header (RFC 9293 3.1) and its options as a checked view over bytes, read into one reused object.
 * Pure: no state but the object that is filled in, no allocation.
 */

export const TCP_HEADER_BYTES = 20;
/** Where the checksum stands in the header. */
export const TCP_CHECKSUM_AT = 16;
export const TCP_PROTOCOL = 6;

export const Flag = { FIN: 1, SYN: 2, RST: 4, PSH: 8, ACK: 16, URG: 32, ECE: 64, CWR: 128 } as const;

export const Option = {
  END: 0,
  NOP: 1,
  MSS: 2,
  WINDOW_SCALE: 3,
  SACK_PERMITTED: 4,
  SACK: 5,
  TIMESTAMPS: 8,
} as const;

/** The bytes NOP NOP TIMESTAMPS 10, which nearly every segment begins its options with (RFC 7323 appendix A). */
const ALIGNED_TIMESTAMPS = 0x0101080a;
/** Largest window shift (RFC 7323 2.3). */
export const MAX_WINDOW_SHIFT = 14;
export const MAX_SACK_BLOCKS = 4;

/** One received segment's header. Fields are plain integers, 32-bit ones signed; the parser fills every one of them. */
export class TcpSegment {
  sourcePort = 0;
  destinationPort = 0;
  seq = 0;
  ack = 0;
  flags = 0;
  /** As it is in the header, unscaled. */
  window = 0;
  urgent = 0;
  headerLength = 0;
  /** Where the data begins in the memory parsed, and how much there is. */
  dataAt = 0;
  dataLength = 0;
  /** SEG.LEN: data, SYN and FIN. */
  length = 0;
  hasTimestamps = false;
  tsVal = 0;
  tsEcr = 0;
  /** MSS option; 0 for none. */
  mss = 0;
  /** Window scale option, limited to 14; -1 for none. */
  windowScale = -1;
  sackPermitted = false;
  /** SACK blocks in `sack`: left and right edge of each. */
  sackCount = 0;
  readonly sack = new Int32Array(2 * MAX_SACK_BLOCKS);

  /** Reads `length` bytes at `at`. False where they are no TCP header; bad options are ignored from there on. */
  parse(view: DataView, at: number, length: number): boolean {
    if (length < TCP_HEADER_BYTES) return false;
    const headerLength = (view.getUint8(at + 12) >> 4) * 4;
    if (headerLength < TCP_HEADER_BYTES || headerLength > length) return false;
    const ports = view.getInt32(at);
    this.sourcePort = ports >>> 16;
    this.destinationPort = ports & 0xffff;
    this.seq = view.getInt32(at + 4);
    this.ack = view.getInt32(at + 8);
    const flags = view.getUint8(at + 13);
    this.flags = flags;
    this.window = view.getUint16(at + 14);
    this.urgent = view.getUint16(at + 18);
    this.headerLength = headerLength;
    this.dataAt = at + headerLength;
    this.dataLength = length - headerLength;
    this.length = this.dataLength + ((flags >> 1) & 1) + (flags & 1);
    this.sackCount = 0;
    const options = at + TCP_HEADER_BYTES;
    if (headerLength === 32 && view.getInt32(options) === ALIGNED_TIMESTAMPS) {
      this.hasTimestamps = true;
      this.tsVal = view.getInt32(options + 4);
      this.tsEcr = view.getInt32(options + 8);
      this.mss = 0;
      this.windowScale = -1;
      this.sackPermitted = false;
      return true;
    }
    this.hasTimestamps = false;
    this.mss = 0;
    this.windowScale = -1;
    this.sackPermitted = false;
    if (headerLength > TCP_HEADER_BYTES) this.#parseOptions(view, options, at + headerLength);
    return true;
  }

  #parseOptions(view: DataView, at: number, end: number): void {
    while (at < end) {
      const kind = view.getUint8(at);
      if (kind === Option.END) return;
      if (kind === Option.NOP) {
        at++;
        continue;
      }
      if (at + 1 >= end) return;
      const length = view.getUint8(at + 1);
      if (length < 2 || at + length > end) return;
      this.#option(view, at, kind, length);
      at += length;
    }
  }

  #option(view: DataView, at: number, kind: number, length: number): void {
    switch (kind) {
      case Option.MSS:
        if (length === 4) this.mss = view.getUint16(at + 2);
        return;
      case Option.WINDOW_SCALE:
        if (length === 3) this.windowScale = Math.min(view.getUint8(at + 2), MAX_WINDOW_SHIFT);
        return;
      case Option.SACK_PERMITTED:
        if (length === 2) this.sackPermitted = true;
        return;
      case Option.TIMESTAMPS:
        if (length !== 10) return;
        this.hasTimestamps = true;
        this.tsVal = view.getInt32(at + 2);
        this.tsEcr = view.getInt32(at + 6);
        return;
      case Option.SACK: {
        if (length < 10 || (length - 2) % 8 !== 0) return;
        const count = Math.min((length - 2) >> 3, MAX_SACK_BLOCKS);
        for (let i = 0; i < 2 * count; i++) this.sack[i] = view.getInt32(at + 2 + 4 * i);
        this.sackCount = count;
      }
    }
  }
}

/** Writes the fixed header, with no checksum and no urgent pointer. `headerLength` includes the options to be written. */
export function putTcpHeader(
  view: DataView,
  at: number,
  sourcePort: number,
  destinationPort: number,
  seq: number,
  ack: number,
  headerLength: number,
  flags: number,
  window: number,
): void {
  view.setInt32(at, (sourcePort << 16) | destinationPort);
  view.setInt32(at + 4, seq);
  view.setInt32(at + 8, ack);
  view.setInt32(at + 12, (headerLength << 26) | (flags << 16) | window);
  view.setInt32(at + 16, 0);
}

/** 12 bytes: the timestamps option, aligned by two NOPs. */
export function putTimestamps(view: DataView, at: number, tsVal: number, tsEcr: number): void {
  view.setInt32(at, ALIGNED_TIMESTAMPS);
  view.setInt32(at + 4, tsVal);
  view.setInt32(at + 8, tsEcr);
}

/** 4 + 8 × count bytes: a SACK option, aligned by two NOPs. */
export function putSack(view: DataView, at: number, blocks: Int32Array, count: number): void {
  view.setInt32(at, 0x01010500 | (2 + 8 * count));
  for (let i = 0; i < 2 * count; i++) view.setInt32(at + 4 + 4 * i, blocks[i]!);
}

/** 4 bytes. */
export function putMss(view: DataView, at: number, mss: number): void {
  view.setInt32(at, 0x02040000 | mss);
}

/** 4 bytes: a NOP and the window scale option. */
export function putWindowScale(view: DataView, at: number, shift: number): void {
  view.setInt32(at, 0x01030300 | shift);
}

/** 4 bytes: two NOPs and SACK permitted. */
export function putSackPermitted(view: DataView, at: number): void {
  view.setInt32(at, 0x01010402);
}
