/**
 * Memory for long records, used again once whoever read from it is done: fresh memory costs more to touch than to fill.
 * It keeps a few megabytes, and knows its own.
 */

const KEPT_MOST = 16;
/** What is shorter is not worth it, what is longer is rare. */
const LEAST_BYTES = 64 * 1024;
const MOST_BYTES = 4 * 1024 * 1024;

const free: ArrayBufferLike[] = [];
const given = new WeakSet<ArrayBufferLike>();

/** At least `size` bytes with whatever is in them: all must be written before they are read. */
export function recordMemory(size: number): Uint8Array {
  if (size < LEAST_BYTES || size > MOST_BYTES) return new Uint8Array(Buffer.allocUnsafeSlow(size).buffer);
  const at = free.findIndex((buffer) => buffer.byteLength >= size);
  const buffer = at < 0 ? Buffer.allocUnsafeSlow(size).buffer : (free.splice(at, 1)[0] as ArrayBufferLike);
  given.add(buffer);
  return new Uint8Array(buffer);
}

/** Nobody looks at these bytes of a record any more, nor at others of the same record. Other memory is left alone. */
export function giveBack({ buffer }: Uint8Array): void {
  if (given.delete(buffer) && free.length < KEPT_MOST) free.push(buffer);
}
