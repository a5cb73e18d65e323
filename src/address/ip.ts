/**
 * Internet addresses as text and as bytes. Pure: no I/O, no state.
 * Accepts what `node:net`'s isIP accepts; prints IPv6 as RFC 5952 recommends.
 */

/** Where a socket is: an IP address (with `%scope` where needed) and port, or a Unix socket path (abstract: leading NUL). */
export type Address = { host: string; port: number } | { path: string };

export interface ParsedIp {
  family: 4 | 6;
  /** Network order: 4 or 16 bytes. */
  bytes: Uint8Array;
  /** The zone after `%` where it is a number: an interface's index (RFC 4007). */
  scope?: number;
  /** The zone as written, an interface's name or number; resolving a name is not for pure code. */
  zone?: string;
}

/** Reads an IPv4 or IPv6 address; null if it is neither. Names are not looked up. */
export function parseIp(text: string): ParsedIp | null {
  if (text.length > 128) return null;
  if (text.includes(':')) return parseIp6(text);
  const bytes = new Uint8Array(4);
  return parseIp4Into(text, bytes, 0) ? { family: 4, bytes } : null;
}

/** Prints 4 or 16 bytes as an address, `scope` after a `%`. */
export function formatIp(bytes: Uint8Array, scope?: string | number): string {
  if (bytes.length !== 4 && bytes.length !== 16) throw new RangeError(`an IP address of ${bytes.length} bytes`);
  const text = bytes.length === 4 ? bytes.join('.') : formatIp6(bytes);
  return scope === undefined || scope === '' || scope === 0 ? text : `${text}%${scope}`;
}

function parseIp4Into(text: string, bytes: Uint8Array, at: number): boolean {
  const parts = text.split('.');
  if (parts.length !== 4) return false;
  for (const part of parts) {
    if (!/^(0|[1-9][0-9]{0,2})$/.test(part)) return false;
    const value = Number(part);
    if (value > 255) return false;
    bytes[at++] = value;
  }
  return true;
}

function parseIp6(text: string): ParsedIp | null {
  const percent = text.indexOf('%');
  const zone = percent < 0 ? undefined : text.slice(percent + 1);
  if (zone !== undefined && !/^[0-9a-zA-Z\-.:]+$/.test(zone)) return null;
  const body = percent < 0 ? text : text.slice(0, percent);

  const gap = body.indexOf('::');
  if (gap >= 0 && body.indexOf('::', gap + 1) >= 0) return null;
  const head = groups(gap < 0 ? body : body.slice(0, gap), gap < 0);
  const tail = gap < 0 ? [] : groups(body.slice(gap + 2), true);
  if (head === null || tail === null) return null;
  const count = head.length + tail.length;
  if (gap < 0 ? count !== 8 : count > 7) return null;

  const bytes = new Uint8Array(16);
  head.forEach((value, i) => {
    put16(bytes, i, value);
  });
  tail.forEach((value, i) => {
    put16(bytes, 8 - tail.length + i, value);
  });
  if (zone === undefined) return { family: 6, bytes };
  return /^[0-9]{1,9}$/.test(zone) ? { family: 6, bytes, scope: Number(zone), zone } : { family: 6, bytes, zone };
}

/** The 16-bit groups of one side of `::`; an IPv4 address may end the text (`last`). Null if malformed. */
function groups(text: string, last: boolean): number[] | null {
  if (text === '') return [];
  const parts = text.split(':');
  const values: number[] = [];
  for (let i = 0; i < parts.length; i++) {
    const part = parts[i]!;
    if (/^[0-9a-fA-F]{1,4}$/.test(part)) {
      values.push(Number.parseInt(part, 16));
      continue;
    }
    const ip4 = new Uint8Array(4);
    if (!last || i !== parts.length - 1 || !parseIp4Into(part, ip4, 0)) return null;
    values.push((ip4[0]! << 8) | ip4[1]!, (ip4[2]! << 8) | ip4[3]!);
  }
  return values;
}

function put16(bytes: Uint8Array, group: number, value: number): void {
  bytes[2 * group] = value >> 8;
  bytes[2 * group + 1] = value & 255;
}

function formatIp6(bytes: Uint8Array): string {
  const words = Array.from({ length: 8 }, (_, i) => (bytes[2 * i]! << 8) | bytes[2 * i + 1]!);
  if (words.slice(0, 5).every((word) => word === 0) && words[5] === 0xffff) {
    return `::ffff:${bytes.subarray(12).join('.')}`;
  }
  let start = -1;
  let length = 1; // a single zero group is not shortened (RFC 5952 section 4.2.2)
  for (let i = 0; i < 8; i++) {
    let end = i;
    while (end < 8 && words[end] === 0) end++;
    if (end - i > length) {
      start = i;
      length = end - i;
    }
    i = end;
  }
  const hex = (part: number[]): string => part.map((word) => word.toString(16)).join(':');
  return start < 0 ? hex(words) : `${hex(words.slice(0, start))}::${hex(words.slice(start + length))}`;
}
