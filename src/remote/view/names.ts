/**
 * Names as map keys: a string with a character per byte, so that any bytes are a name and equal strings are equal names.
 * Pure.
 */
import type { Name } from '../server.ts';

export function nameBytes(name: string): Name {
  return Buffer.from(name, 'latin1');
}

export function nameText(name: Name): string {
  return Buffer.from(name.buffer, name.byteOffset, name.byteLength).toString('latin1');
}
