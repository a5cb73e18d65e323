/**
 * The calls that wait for their reply, found by xid: a table of slots, no allocation, bounded.
 * Pure.
 */
import type { Procedure } from './message.ts';

/** One call from `call()` until its promise settles. Plain fields: the client works on them for every message. */
export class PendingCall {
  readonly procedure: Procedure<unknown, unknown>;
  readonly args: unknown;
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: Error) => void;
  readonly credential: Uint8Array;
  /** performance.now() at which it fails. */
  readonly deadline: number;
  xid = 0;
  /** Bytes of the request, once sent. */
  bytes = 0;
  /** How often it was sent under this xid. */
  attempts = 0;
  /** "Ask later" answers so far. */
  delays = 0;
  lastDelay: Error | null = null;
  settled = false;
  signal: AbortSignal | null = null;
  onAbort: (() => void) | null = null;

  constructor(
    procedure: Procedure<unknown, unknown>,
    args: unknown,
    resolve: (value: unknown) => void,
    reject: (error: Error) => void,
    credential: Uint8Array,
    deadline: number,
  ) {
    this.procedure = procedure;
    this.args = args;
    this.resolve = resolve;
    this.reject = reject;
    this.credential = credential;
    this.deadline = deadline;
  }
}

/** Calls by xid. An xid comes again only after 2^32 calls, so a late reply never meets another call. */
export class PendingTable {
  readonly limit: number;
  readonly #slots: (PendingCall | null)[];
  readonly #mask: number;
  #nextXid: number;
  #size = 0;

  constructor(limit: number, firstXid: number) {
    this.limit = limit;
    let slots = 2;
    while (slots < limit * 2) slots *= 2;
    this.#slots = new Array(slots).fill(null);
    this.#mask = slots - 1;
    this.#nextXid = firstXid >>> 0;
  }

  get size(): number {
    return this.#size;
  }

  /** Gives the call an xid whose slot is free; the caller has seen to it that `size < limit`. */
  add(call: PendingCall): void {
    let xid = this.#nextXid;
    while (this.#slots[xid & this.#mask] !== null) xid = (xid + 1) >>> 0;
    this.#nextXid = (xid + 1) >>> 0;
    call.xid = xid;
    this.#slots[xid & this.#mask] = call;
    this.#size++;
  }

  get(xid: number): PendingCall | null {
    const call = this.#slots[xid & this.#mask] as PendingCall | null;
    return call !== null && call.xid === xid ? call : null;
  }

  remove(call: PendingCall): void {
    const slot = call.xid & this.#mask;
    if (this.#slots[slot] !== call) return;
    this.#slots[slot] = null;
    this.#size--;
  }

  /** All calls, oldest first. */
  inOrder(): PendingCall[] {
    const calls = this.#slots.filter((call) => call !== null);
    // Distance behind the next xid, so that the wrap at 2^32 does not matter.
    const age = (call: PendingCall) => (this.#nextXid - call.xid) >>> 0;
    return calls.sort((a, b) => age(b) - age(a));
  }
}
