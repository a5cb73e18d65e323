/**
 * Looks at the next pipelined requests before they run, and touches what their keys will need: the cache misses of several
 * lookups then overlap, where they would follow one upon the other. It changes nothing, and reads the input and the dictionary.
 */
import { viewOf } from './bytes.ts';
import { type Arguments, readRequest } from './resp/request.ts';
import { CHUNK_SHIFT, UNIT_MASK } from './store/arena.ts';
import type { Dict } from './store/dict.ts';

/** Requests looked at together. */
const REQUESTS = 16;
/** Less input than this is hardly more than two requests. */
const WORTHWHILE_BYTES = 96;
/** Smaller tables (in words) stay in the cache by themselves. */
const SMALL_TABLE = 1 << 16;

export class LookAhead implements Arguments {
  argc = 0;
  off = new Int32Array(1024);
  len = new Int32Array(1024);
  /** Slots of the keys in the table, and then what lies there. */
  readonly #slots = new Int32Array(REQUESTS);
  /** What was read, summed, so that no compiler can leave the reading out. */
  touched = 0;

  /**
   * Touches what the requests in `input[pos .. end)` look up, a bounded number of them. The first argument behind the name is
   * taken for the key, as it is of nearly every command. Gives the position from which on nothing has been looked at.
   */
  touch(dict: Dict, input: Uint8Array, pos: number, end: number): number {
    const { table, mask } = dict;
    if (end - pos < WORTHWHILE_BYTES || table.length < SMALL_TABLE) return end;
    const view = viewOf(input);
    const slots = this.#slots;
    let count = 0;
    let sum = 0;
    while (count < REQUESTS && pos < end) {
      const next = readRequest(this, input, view, pos, end);
      if (next === 0) {
        pos = end;
        break;
      }
      pos = next;
      if (this.argc < 2) continue;
      slots[count++] = dict.hasher.hash(input, this.off[1]!, this.len[1]!) & mask;
    }
    // Loops with nothing but loads in them, so that the processor has many on their way at once.
    for (let i = 0; i < count; i++) slots[i] = table[(slots[i]! << 1) + 1]!;
    const { words } = dict.arena;
    for (let i = 0; i < count; i++) {
      const reference = slots[i]!;
      if (reference > 0) sum += words[reference >>> CHUNK_SHIFT]![(reference & UNIT_MASK) << 1]!;
    }
    this.touched = sum | 0;
    return pos;
  }
}
