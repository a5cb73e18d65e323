/**
 * The maps of an XDP filter: what this process (xdp-filter.ts, xdp-addresses.ts) and the program (xdp-program.ts) find
 * where in them. Pure: sizes, bits, and how an address becomes a key.
 */
import { parseIp } from '../address/ip.ts';

/** Addresses, own and served. The number of an address' entry in `addresses` is its slot. */
export const ADDRESS_SLOTS = 64;
/** An entry: the key, {@link AddressWord}, nothing. The program looks no further than the first whose word is 0. */
export const ADDRESS_ENTRY_BYTES = 32;
/** An address: 16 bytes, IPv4 as ::ffff:a.b.c.d. */
export const ADDRESS_KEY_BYTES = 16;
/** All that is sent to the address is ours. */
export const OWN_ADDRESS = 0x100;
/** What is sent to its served ports is ours. */
export const SERVED_ADDRESS = 0x200;
/** The word of an entry. How it may change: xdp-addresses.ts. */
export const AddressWord = {
  SLOT: ADDRESS_SLOTS - 1,
  /** The entry has been used. */
  USED: 0x80,
  /** {@link OWN_ADDRESS}, {@link SERVED_ADDRESS}, or 0 where the entry is nobody's now. */
  KIND: OWN_ADDRESS | SERVED_ADDRESS,
  /** Counts the changes of the word: a power of two, this bit and all above. */
  GENERATION: 0x400,
} as const;
/** Each address has two bitmaps in `ports`, a bit for each of 2^16 ports: number 2 × slot is TCP, the next one UDP. */
export const PORT_BITMAP_BYTES = 8192;
/** Fragmented packets that are remembered; the oldest is forgotten. Key: source, destination, identification, protocol. */
export const FRAGMENT_SLOTS = 1024;
export const FRAGMENT_KEY_BYTES = 40;

/** Indices of `counters`, 64 bits each per processor, in frames. */
export const Counter = {
  /** Given to one of our sockets. */
  REDIRECTED: 0,
  /** Left to the kernel. */
  PASSED: 1,
  /** Ours, but its queue has no socket: left to the kernel. */
  NO_SOCKET: 2,
  /** Fragments other than first ones that followed their first; also counted as redirected. */
  FRAGMENTS: 3,
} as const;
export const COUNTERS = 4;

/** Names of the maps that the code refers to. */
export type XdpMapName = 'sockets' | 'addresses' | 'ports' | 'fragments' | 'counters';

/** The key of an address. @throws TypeError where the text is no address */
export function addressKey(text: string): Uint8Array {
  const ip = parseIp(text);
  if (ip === null) throw new TypeError(`${JSON.stringify(text)} is no IP address`);
  const key = new Uint8Array(ADDRESS_KEY_BYTES);
  if (ip.family === 4) key[10] = key[11] = 0xff;
  key.set(ip.bytes, ip.family === 4 ? 12 : 0);
  return key;
}
