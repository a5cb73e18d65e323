/**
 * A region: a span of memory that several parties may share, seen as bytes and as words.
 * Pure: mapped regions are made in linux/, in-process ones here; neither rings nor heap know the difference.
 */

export interface Region {
  readonly u8: Uint8Array;
  readonly i32: Int32Array;
  readonly byteLength: number;
  /**
   * High 32 bits of the region's address. A mapped region starts where the low 32 bits are zero,
   * so an offset into it is the low word of the pointer. 0 for memory the kernel never sees.
   */
  readonly addressHigh: number;
  /** Ends the region's life; views taken before must not be used after. */
  close(): void;
}

/** A region of this process alone, for the simulator, tests and browsers. `shared` makes it visible to workers. */
export function localRegion(byteLength: number, shared = false): Region {
  const buffer = shared ? new SharedArrayBuffer(byteLength) : new ArrayBuffer(byteLength);
  return { u8: new Uint8Array(buffer), i32: new Int32Array(buffer), byteLength, addressHigh: 0, close() {} };
}
