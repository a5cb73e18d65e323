/**
 * The scoreboard: one record for every segment in flight, in order of sequence number (RFC 6675 and RFC 8985 both need it).
 * A ring of integers, grown to what is in flight; it touches nothing else.
 */

const FIRST_CAPACITY = 4;

/** Fields of a record, as offsets from {@link SentRecords.at}. */
export const Rec = { SEQ: 0, LENGTH: 1, SENT_US: 2, FLAGS: 3 } as const;
const STRIDE = 4;

/** Flags of a record. LOST and RETRANSMITTED together: lost, and its retransmission is in flight. */
export const Mark = {
  SACKED: 1,
  LOST: 2,
  RETRANSMITTED: 4,
  /** Sent more than once: no round-trip sample (Karn). */
  EVER: 8,
  SYN: 16,
  FIN: 32,
} as const;

/** Its words are read in place by the recovery code: `words[at(i) + Rec.FLAGS]`. */
export class SentRecords {
  // Small integers in a plain array: half the memory of a small typed array, and most connections need no more.
  words: number[] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
  count = 0;
  #head = 0;
  #mask = FIRST_CAPACITY - 1;

  /** Index in `words` of record `i`, 0 being the oldest. */
  at(i: number): number {
    return ((this.#head + i) & this.#mask) * STRIDE;
  }

  push(seq: number, length: number, sentUs: number, flags: number): void {
    if (this.count > this.#mask) this.#grow();
    const at = this.at(this.count++);
    this.words[at] = seq;
    this.words[at + 1] = length;
    this.words[at + 2] = sentUs;
    this.words[at + 3] = flags;
  }

  /** Drops the oldest record. */
  shift(): void {
    this.#head = (this.#head + 1) & this.#mask;
    this.count--;
  }

  /** Cuts record `i` in two after its first `length` bytes; a FIN stays with the second part. */
  split(i: number, length: number): void {
    if (this.count > this.#mask) this.#grow();
    for (let j = this.count; j > i; j--) {
      const from = this.at(j - 1);
      const to = this.at(j);
      for (let w = 0; w < STRIDE; w++) this.words[to + w] = this.words[from + w]!;
    }
    this.count++;
    const first = this.at(i);
    const second = this.at(i + 1);
    const { words } = this;
    words[first + 1] = length;
    words[first + 3] = words[first + 3]! & ~Mark.FIN;
    words[second] = (words[second]! + length) | 0;
    words[second + 1] = words[second + 1]! - length;
    words[second + 3] = words[second + 3]! & ~Mark.SYN;
  }

  clear(): void {
    this.count = 0;
  }

  #grow(): void {
    const old = this.#mask + 1;
    const words: number[] = [];
    for (let i = 0; i < 2 * old; i++) {
      const at = this.at(i);
      for (let w = 0; w < STRIDE; w++) words.push(i < this.count ? this.words[at + w]! : 0);
    }
    this.words = words;
    this.#head = 0;
    this.#mask = 2 * old - 1;
  }
}
