/**
 * Big-endian integers in bytes, as every protocol here has them. Pure: it reads and writes the bytes it is given.
 * 32-bit words are signed, so that they stay small integers in V8.
 */

/** The 16-bit word at `at`. */
export function uint16(memory: Uint8Array, at: number): number {
  return (memory[at]! << 8) | memory[at + 1]!;
}

/** The 32-bit word at `at`, signed. */
export function int32(memory: Uint8Array, at: number): number {
  return (memory[at]! << 24) | (memory[at + 1]! << 16) | (memory[at + 2]! << 8) | memory[at + 3]!;
}

export function putUint16(memory: Uint8Array, at: number, value: number): void {
  memory[at] = value >> 8;
  memory[at + 1] = value;
}

export function putInt32(memory: Uint8Array, at: number, value: number): void {
  memory[at] = value >> 24;
  memory[at + 1] = value >> 16;
  memory[at + 2] = value >> 8;
  memory[at + 3] = value;
}
