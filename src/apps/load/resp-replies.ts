/**
 * Counts the replies in a stream of the Redis protocol (RESP2 and RESP3), however it is cut into pieces.
 * Pure: a state machine over bytes with bounded state; it keeps no bytes and makes no values.
 */

const State = { TYPE: 0, LINE: 1, LENGTH: 2, BULK: 3, BROKEN: 4 } as const;

const CR = 13;
const LF = 10;

/** Longest bulk the protocol allows (proto-max-bulk-len, 512 MiB), and most elements that are believed. */
const MOST = 512 * 1024 * 1024;

export class ReplyCounter {
  /** Replies completed since the counter was made. */
  replies = 0;
  /** Of those, error replies. */
  errors = 0;
  /** Nil replies (a GET of a key that does not exist). */
  nils = 0;
  /** Replies with a bulk string that differed from {@link ReplyCounter.expected}. */
  wrong = 0;
  /** When set, every bulk string must be exactly these bytes. */
  expected: Uint8Array | null = null;
  #state: number = State.TYPE;
  #type = 0;
  /** Values that must still come before the reply is whole. */
  #missing = 1;
  /** Within an aggregate: what comes is not the reply itself. (Its last element leaves only one value missing, too.) */
  #inside = false;
  /** A push (`>`) is no reply. */
  #push = false;
  #error = false;
  #nil = false;
  #differs = false;
  #length = 0;
  #negative = false;
  /** Bytes of the bulk (with its CR LF) that must still come. */
  #left = 0;
  #previous = 0;

  /** False once the stream was not RESP; it stays so until {@link ReplyCounter.reset}. */
  get ok(): boolean {
    return this.#state !== State.BROKEN;
  }

  /** Forgets an unfinished reply: the connection is a new one. */
  reset(): void {
    this.#state = State.TYPE;
    this.#missing = 1;
    this.#inside = false;
    this.#push = false;
    this.#error = false;
    this.#nil = false;
    this.#differs = false;
  }

  /** Takes bytes `from` … `to` of `memory`. @returns how many replies they completed */
  absorb(memory: Uint8Array, from: number, to: number): number {
    const before = this.replies;
    let at = from;
    while (at < to) {
      if (this.#state === State.BULK) {
        at = this.#bulk(memory, at, to);
        continue;
      }
      const byte = memory[at++]!;
      if (this.#state === State.TYPE) this.#begin(byte);
      else if (this.#state === State.LENGTH) this.#digit(byte);
      else if (this.#state === State.LINE) {
        if (byte === LF && this.#previous === CR) this.#value();
        this.#previous = byte;
      } else return this.replies - before;
    }
    return this.replies - before;
  }

  /** What comes now is the reply itself: neither an element of it nor an attribute before it. */
  get #outermost(): boolean {
    return this.#missing === 1 && !this.#inside;
  }

  #begin(type: number): void {
    this.#type = type;
    this.#previous = 0;
    this.#length = -1;
    this.#negative = false;
    switch (type) {
      case 0x2d: // -
        this.#error ||= this.#outermost;
        this.#state = State.LINE;
        return;
      case 0x5f: // _
        this.#nil ||= this.#outermost;
        this.#state = State.LINE;
        return;
      case 0x2b: // +
      case 0x3a: // :
      case 0x2c: // ,
      case 0x23: // #
      case 0x28: // (
        this.#state = State.LINE;
        return;
      case 0x24: // $
      case 0x21: // !
      case 0x3d: // =
      case 0x2a: // *
      case 0x25: // %
      case 0x7e: // ~
      case 0x7c: // |
      case 0x3e: // >
        this.#state = State.LENGTH;
        return;
      default:
        this.#state = State.BROKEN;
    }
  }

  #digit(byte: number): void {
    const digit = byte - 0x30;
    if (digit >= 0 && digit <= 9) {
      this.#length = Math.max(this.#length, 0) * 10 + digit;
      if (this.#length > MOST || this.#previous === CR) this.#state = State.BROKEN;
    } else if (byte === 0x2d && this.#length < 0 && !this.#negative) this.#negative = true;
    else if (byte === LF && this.#previous === CR && this.#length >= 0) this.#measured();
    else if (byte !== CR || this.#previous === CR) this.#state = State.BROKEN;
    this.#previous = byte;
  }

  #measured(): void {
    const count = this.#length;
    if (this.#negative) {
      if (count !== 1) this.#state = State.BROKEN;
      else {
        this.#nil ||= this.#outermost;
        this.#value();
      }
      return;
    }
    const outermost = this.#outermost;
    switch (this.#type) {
      case 0x24:
      case 0x21:
      case 0x3d:
        if (this.#type === 0x21) this.#error ||= outermost;
        this.#left = count + 2;
        this.#state = State.BULK;
        if (this.expected !== null && count !== this.expected.length) this.#differs = true;
        return;
      case 0x25:
        this.#missing += 2 * count;
        break;
      case 0x7c:
        // Attributes come before the value they belong to, which is still to come.
        this.#missing += 2 * count + 1;
        break;
      case 0x3e:
        this.#push ||= outermost;
        this.#missing += count;
        break;
      default:
        this.#missing += count;
    }
    if (outermost && this.#type !== 0x7c) this.#inside = true;
    if (this.#missing > MOST) this.#state = State.BROKEN;
    else this.#value();
  }

  #bulk(memory: Uint8Array, at: number, to: number): number {
    const { expected } = this;
    const take = Math.min(this.#left, to - at);
    if (expected !== null && this.#length === expected.length) {
      const start = this.#length + 2 - this.#left;
      for (let i = 0; i < take && start + i < expected.length; i++) {
        if (memory[at + i] !== expected[start + i]) this.#differs = true;
      }
    }
    this.#left -= take;
    if (this.#left === 0) {
      if (memory[at + take - 1] !== LF) this.#state = State.BROKEN;
      else this.#value();
    }
    return at + take;
  }

  /** One value is whole: perhaps the reply is. */
  #value(): void {
    this.#state = State.TYPE;
    if (--this.#missing > 0) return;
    this.#missing = 1;
    this.#inside = false;
    if (this.#push) this.#push = false;
    else {
      this.replies++;
      if (this.#error) this.errors++;
      if (this.#nil) this.nils++;
      if (this.#differs) this.wrong++;
    }
    this.#error = false;
    this.#nil = false;
    this.#differs = false;
  }
}
