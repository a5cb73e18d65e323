/**
 * The addresses of a filter: a table in memory that the XDP program (xdp-program.ts) reads with each frame. It stores into
 * that memory and does nothing else; one thread at a time may change it.
 *
 * The program runs meanwhile. It reads an entry's word, then the key and the ports, then the word again, and leaves the
 * frame to the kernel where that has changed. So a key changes only while the word says that the entry is nobody's, and
 * each change gives the word another generation: no frame is judged by what is stored in halves, or by the next address of
 * the entry. This relies on the program's loads being in order. ARM does not promise that; there a frame to an address that
 * has halves of two of them could be taken for the new one's, for some nanoseconds.
 */
import { ERRNO, systemError } from '../errors.ts';
import type { BpfMap } from './bpf.ts';
import {
  ADDRESS_ENTRY_BYTES,
  ADDRESS_KEY_BYTES,
  ADDRESS_SLOTS,
  AddressWord,
  addressKey,
  type OWN_ADDRESS,
  type SERVED_ADDRESS,
} from './xdp-layout.ts';

const ENTRY_WORDS = ADDRESS_ENTRY_BYTES / 4;
const KEY_WORDS = ADDRESS_KEY_BYTES / 4;

export class AddressTable {
  readonly #words: Int32Array;

  /** Of the map `addresses`, which must stay open for as long as the table is used. */
  constructor(map: BpfMap) {
    this.#words = map.mapped!.i32;
  }

  /** The slot of an address, own or served; -1 where it is not there. @throws TypeError where the text is no address */
  find(address: string): number {
    const key = keyWords(address);
    for (let slot = 0; slot < ADDRESS_SLOTS; slot++) {
      if (this.#kind(slot) !== 0 && key.every((word, i) => this.#words[slot * ENTRY_WORDS + i] === word)) return slot;
    }
    return -1;
  }

  /**
   * What is sent to the address is ours: all of it, or what goes to its served ports. It keeps the slot that it has.
   * @throws TypeError where the text is no address; IsthmusError ENOSPC beyond {@link ADDRESS_SLOTS} addresses
   */
  set(address: string, kind: typeof OWN_ADDRESS | typeof SERVED_ADDRESS): number {
    const known = this.find(address);
    if (known >= 0) {
      if (this.#kind(known) !== kind) this.#become(known, kind);
      return known;
    }
    let slot = 0; // the first free one: the program looks at them in this order, as far as there ever were any
    while (slot < ADDRESS_SLOTS && this.#kind(slot) !== 0) slot++;
    if (slot === ADDRESS_SLOTS) {
      throw systemError(ERRNO.ENOSPC, 'filter', address, `at most ${ADDRESS_SLOTS} addresses`);
    }
    this.#storeKey(slot, keyWords(address));
    this.#become(slot, kind);
    return slot;
  }

  /** The address is the kernel's. Its slot may be given to another once its ports are cleared; -1 where it had none. */
  forget(address: string): number {
    const slot = this.find(address);
    if (slot >= 0) {
      this.#become(slot, 0);
      this.#storeKey(slot, NO_KEY);
    }
    return slot;
  }

  #kind(slot: number): number {
    return this.#words[slot * ENTRY_WORDS + KEY_WORDS]! & AddressWord.KIND;
  }

  #become(slot: number, kind: number): void {
    const at = slot * ENTRY_WORDS + KEY_WORDS;
    const generation = (this.#words[at]! + AddressWord.GENERATION) & -AddressWord.GENERATION;
    Atomics.store(this.#words, at, generation | AddressWord.USED | kind | slot);
  }

  #storeKey(slot: number, key: Int32Array): void {
    for (let i = 0; i < KEY_WORDS; i++) Atomics.store(this.#words, slot * ENTRY_WORDS + i, key[i]!);
  }
}

const NO_KEY = new Int32Array(KEY_WORDS);

function keyWords(address: string): Int32Array {
  return new Int32Array(addressKey(address).buffer);
}
