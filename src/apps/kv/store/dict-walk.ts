/**
 * Random choice and resumable scans of a dictionary.
 * Pure; nothing here changes the dictionary.
 */
import type { Dict } from './dict.ts';

/** Draws before a nearly empty table is searched instead. */
const DRAWS = 128;

/** An entry taken with equal probability, 0 if there is none. `random` gives 32 random bits. */
export function randomEntry(dict: Dict, random: () => number): number {
  if (dict.count === 0) return 0;
  const { slots } = dict;
  for (let i = 0; i < DRAWS; i++) {
    const entry = dict.entryAt(Math.floor(((random() >>> 0) / 4294967296) * slots));
    if (entry > 0) return entry;
  }
  const start = Math.floor(((random() >>> 0) / 4294967296) * slots);
  for (let i = 0; i < slots; i++) {
    const entry = dict.entryAt((start + i) % slots);
    if (entry > 0) return entry;
  }
  return 0;
}

/**
 * Visit the entries behind a cursor (0 begins) and give the next cursor (0 ends). As in redis the cursor counts home buckets
 * with its bits reversed, so every entry present from the first call to the last is visited at least once, however the tables
 * are resized between calls. `visit` must not change the dictionary.
 */
export function scanDict(dict: Dict, cursor: number, visit: (entry: number) => void): number {
  if (dict.count === 0) return 0;
  let v = cursor >>> 0;
  const { old } = dict;
  if (old === null) {
    visitHome(dict.table, dict.mask, v & dict.mask, visit);
    return advance(v, dict.mask);
  }
  const newerIsLarger = dict.mask > dict.oldMask;
  const small = newerIsLarger ? old : dict.table;
  const smallMask = newerIsLarger ? dict.oldMask : dict.mask;
  const large = newerIsLarger ? dict.table : old;
  const largeMask = newerIsLarger ? dict.mask : dict.oldMask;
  visitHome(small, smallMask, v & smallMask, visit);
  do {
    visitHome(large, largeMask, v & largeMask, visit);
    v = advance(v, largeMask);
  } while ((v & (smallMask ^ largeMask)) !== 0);
  return v;
}

/** Entries whose home is `home` lie in the run of occupied slots that begins there. */
function visitHome(table: Int32Array, mask: number, home: number, visit: (entry: number) => void): void {
  for (let slot = home; ; slot = (slot + 1) & mask) {
    const entry = table[(slot << 1) + 1]!;
    if (entry === 0) return;
    if (entry > 0 && (table[slot << 1]! & mask) === home) visit(entry);
  }
}

/** Increment the bits of `v` under `mask` from the highest down (redis: dictScan). */
function advance(v: number, mask: number): number {
  return reverse((reverse((v | ~mask) >>> 0) + 1) >>> 0);
}

function reverse(v: number): number {
  v = ((v >>> 1) & 0x55555555) | ((v & 0x55555555) << 1);
  v = ((v >>> 2) & 0x33333333) | ((v & 0x33333333) << 2);
  v = ((v >>> 4) & 0x0f0f0f0f) | ((v & 0x0f0f0f0f) << 4);
  v = ((v >>> 8) & 0x00ff00ff) | ((v & 0x00ff00ff) << 8);
  return ((v >>> 16) | (v << 16)) >>> 0;
}
