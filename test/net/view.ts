/**
 * Bytes as the readers and writers of headers take them. Pure.
 */

/** The same bytes, for numbers of several of them. */
export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
}
