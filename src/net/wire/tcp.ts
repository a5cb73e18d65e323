/**
 * The TCP header (RFC 9293 3.1) and its options as a checked view over bytes, read into one reused object.
 * Pure: no state but the object that is filled in, no allocation.
 */

export const TCP_HEADER_BYTES = 20;
/** Header with the most options there can be. */
export const TCP_HEADER_MAX = 60;
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
  parse(memory: Uint8Array, at: number, length: number): boolean {
    if (length < TCP_HEADER_BYTES) return false;
    const headerLength = (memory[at + 12]! >> 4) * 4;
    if (headerLength < TCP_HEADER_BYTES || headerLength > length) return false;
    this.sourcePort = (memory[at]! << 8) | memory[at + 1]!;
    this.destinationPort = (memory[at + 2]! << 8) | memory[at + 3]!;
    this.seq = int32(memory, at + 4);
    this.ack = int32(memory, at + 8);
    const flags = memory[at + 13]!;
    this.flags = flags;
    this.window = (memory[at + 14]! << 8) | memory[at + 15]!;
    this.urgent = (memory[at + 18]! << 8) | memory[at + 19]!;
    this.headerLength = headerLength;
    this.dataAt = at + headerLength;
    this.dataLength = length - headerLength;
    this.length = this.dataLength + ((flags >> 1) & 1) + (flags & 1);
    this.sackCount = 0;
    const options = at + TCP_HEADER_BYTES;
    if (headerLength === 32 && int32(memory, options) === ALIGNED_TIMESTAMPS) {
      this.hasTimestamps = true;
      this.tsVal = int32(memory, options + 4);
      this.tsEcr = int32(memory, options + 8);
      this.mss = 0;
      this.windowScale = -1;
      this.sackPermitted = false;
      return true;
    }
    this.hasTimestamps = false;
    this.mss = 0;
    this.windowScale = -1;
    this.sackPermitted = false;
    if (headerLength > TCP_HEADER_BYTES) this.#parseOptions(memory, options, at + headerLength);
    return true;
  }

  #parseOptions(memory: Uint8Array, at: number, end: number): void {
    while (at < end) {
      const kind = memory[at]!;
      if (kind === Option.END) return;
      if (kind === Option.NOP) {
        at++;
        continue;
      }
      if (at + 1 >= end) return;
      const length = memory[at + 1]!;
      if (length < 2 || at + length > end) return;
      this.#option(memory, at, kind, length);
      at += length;
    }
  }

  #option(memory: Uint8Array, at: number, kind: number, length: number): void {
    switch (kind) {
      case Option.MSS:
        if (length === 4) this.mss = (memory[at + 2]! << 8) | memory[at + 3]!;
        return;
      case Option.WINDOW_SCALE:
        if (length === 3) this.windowScale = Math.min(memory[at + 2]!, MAX_WINDOW_SHIFT);
        return;
      case Option.SACK_PERMITTED:
        if (length === 2) this.sackPermitted = true;
        return;
      case Option.TIMESTAMPS:
        if (length !== 10) return;
        this.hasTimestamps = true;
        this.tsVal = int32(memory, at + 2);
        this.tsEcr = int32(memory, at + 6);
        return;
      case Option.SACK: {
        if (length < 10 || (length - 2) % 8 !== 0) return;
        const count = Math.min((length - 2) >> 3, MAX_SACK_BLOCKS);
        for (let i = 0; i < 2 * count; i++) this.sack[i] = int32(memory, at + 2 + 4 * i);
        this.sackCount = count;
      }
    }
  }
}

/** The 32-bit word at `at`, signed, network order. */
export function int32(memory: Uint8Array, at: number): number {
  return (memory[at]! << 24) | (memory[at + 1]! << 16) | (memory[at + 2]! << 8) | memory[at + 3]!;
}

export function putInt32(memory: Uint8Array, at: number, value: number): void {
  memory[at] = value >> 24;
  memory[at + 1] = value >> 16;
  memory[at + 2] = value >> 8;
  memory[at + 3] = value;
}

/** Writes the fixed header, with no checksum and no urgent pointer. `headerLength` includes the options to be written. */
export function putTcpHeader(
  memory: Uint8Array,
  at: number,
  sourcePort: number,
  destinationPort: number,
  seq: number,
  ack: number,
  headerLength: number,
  flags: number,
  window: number,
): void {
  memory[at] = sourcePort >> 8;
  memory[at + 1] = sourcePort;
  memory[at + 2] = destinationPort >> 8;
  memory[at + 3] = destinationPort;
  putInt32(memory, at + 4, seq);
  putInt32(memory, at + 8, ack);
  memory[at + 12] = headerLength << 2;
  memory[at + 13] = flags;
  memory[at + 14] = window >> 8;
  memory[at + 15] = window;
  memory[at + 16] = 0;
  memory[at + 17] = 0;
  memory[at + 18] = 0;
  memory[at + 19] = 0;
}

/** 12 bytes: the timestamps option, aligned by two NOPs. */
export function putTimestamps(memory: Uint8Array, at: number, tsVal: number, tsEcr: number): void {
  putInt32(memory, at, ALIGNED_TIMESTAMPS);
  putInt32(memory, at + 4, tsVal);
  putInt32(memory, at + 8, tsEcr);
}

/** 4 + 8 × count bytes: a SACK option, aligned by two NOPs. */
export function putSack(memory: Uint8Array, at: number, blocks: Int32Array, count: number): void {
  putInt32(memory, at, 0x01010500 | (2 + 8 * count));
  for (let i = 0; i < 2 * count; i++) putInt32(memory, at + 4 + 4 * i, blocks[i]!);
}

/** 4 bytes. */
export function putMss(memory: Uint8Array, at: number, mss: number): void {
  putInt32(memory, at, 0x02040000 | mss);
}

/** 4 bytes: a NOP and the window scale option. */
export function putWindowScale(memory: Uint8Array, at: number, shift: number): void {
  putInt32(memory, at, 0x01030300 | shift);
}

/** 4 bytes: two NOPs and SACK permitted. */
export function putSackPermitted(memory: Uint8Array, at: number): void {
  putInt32(memory, at, 0x01010402);
}
