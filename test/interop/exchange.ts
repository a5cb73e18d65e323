/** What both sides of the interoperability tests send each other, and the calls and replies between the processes. */

export interface PeerCall {
  readonly do:
    | 'listen bulk'
    | 'listen echo'
    | 'listen reset'
    | 'bulk'
    | 'many'
    | 'short'
    | 'datagrams'
    | 'echo datagrams'
    | 'attempt'
    | 'reset'
    | 'await reset'
    | 'half close';
  readonly host: string;
  readonly port?: number;
  readonly bytes?: number;
  readonly count?: number;
  readonly parallel?: number;
  readonly sizes?: readonly number[];
  readonly text?: string;
}

export interface PeerReply {
  readonly id: number;
  readonly value?: number | string;
  readonly error?: string;
}

/** A prime, so that the pattern meets every border of segments and buffers. */
const BLOCK_BYTES = 50021;

/** A long run of bytes by seed, to send or to check, without keeping it. */
export class Bulk {
  at = 0;
  readonly #bytes: number;
  readonly #block: Buffer;

  constructor(seed: number, bytes: number) {
    this.#bytes = bytes;
    this.#block = Buffer.allocUnsafe(BLOCK_BYTES);
    let state = seed | 1;
    for (let i = 0; i < BLOCK_BYTES; i++) {
      state = (Math.imul(state, 1664525) + 1013904223) | 0;
      this.#block[i] = state >>> 24;
    }
  }

  /** The next piece; null at the end. */
  next(): Buffer | null {
    if (this.at >= this.#bytes) return null;
    const from = this.at % BLOCK_BYTES;
    const piece = this.#block.subarray(from, Math.min(BLOCK_BYTES, from + this.#bytes - this.at));
    this.at += piece.length;
    return piece;
  }

  /** Checks the next bytes of what was received; gives where the first wrong piece is, -1 for none. */
  check(memory: Uint8Array, offset: number, length: number): number {
    if (this.at + length > this.#bytes) return this.#bytes;
    for (let end = offset + length; offset < end; ) {
      const from = this.at % BLOCK_BYTES;
      const run = Math.min(end - offset, BLOCK_BYTES - from);
      if (this.#block.compare(memory, offset, offset + run, from, from + run) !== 0) return this.at;
      this.at += run;
      offset += run;
    }
    return -1;
  }
}

/** What connection `i` says in a round: its own, and of many lengths. */
export function messageOf(i: number, round: number): string {
  return `${i}.${round};`.padEnd(16 + ((i * 37 + round * 101) % 700), 'x');
}
