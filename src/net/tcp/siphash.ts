/**
 * SipHash (Aumasson and Bernstein, 2012) on pairs of 32-bit integers, and HalfSipHash for the connection table.
 * Pure; the message is the 32-bit words in `message`, so that nothing is allocated per hash.
 */

/** Words to be hashed. Callers fill it from index 0. */
export const message = new Int32Array(16);

let high32 = 0;

/**
 * SipHash-2-4 of the first `words` words of {@link message}, each little-endian; gives the low 32 bits, signed.
 * The high ones are in {@link sipHigh}.
 * @param key four words: 128 bits
 */
export function sipHash(key: Int32Array, words: number): number {
  // Four 64-bit words as high and low halves: local, so that they stay in registers.
  let h0 = key[1]! ^ 0x736f6d65;
  let l0 = key[0]! ^ 0x70736575;
  let h1 = key[3]! ^ 0x646f7261;
  let l1 = key[2]! ^ 0x6e646f6d;
  let h2 = key[1]! ^ 0x6c796765;
  let l2 = key[0]! ^ 0x6e657261;
  let h3 = key[3]! ^ 0x74656462;
  let l3 = key[2]! ^ 0x79746573;
  // A block of two words each; then one with the odd word and the length; then the end.
  const last = words >> 1;
  for (let block = 0; block <= last + 1; block++) {
    let high = 0;
    let low = 0;
    let rounds = 2;
    if (block < last) {
      high = message[2 * block + 1]!;
      low = message[2 * block]!;
    } else if (block === last) {
      high = (words & 0x3f) << 26;
      low = (words & 1) !== 0 ? message[words - 1]! : 0;
    } else {
      l2 ^= 0xff;
      rounds = 4;
    }
    h3 ^= high;
    l3 ^= low;
    for (; rounds > 0; rounds--) {
      let sum = (l0 + l1) | 0;
      h0 = (h0 + h1 + (sum >>> 0 < l1 >>> 0 ? 1 : 0)) | 0;
      l0 = sum;
      let half = ((h1 << 13) | (l1 >>> 19)) ^ h0;
      l1 = ((l1 << 13) | (h1 >>> 19)) ^ l0;
      h1 = half;
      half = h0;
      h0 = l0;
      l0 = half;
      sum = (l2 + l3) | 0;
      h2 = (h2 + h3 + (sum >>> 0 < l3 >>> 0 ? 1 : 0)) | 0;
      l2 = sum;
      half = ((h3 << 16) | (l3 >>> 16)) ^ h2;
      l3 = ((l3 << 16) | (h3 >>> 16)) ^ l2;
      h3 = half;
      sum = (l0 + l3) | 0;
      h0 = (h0 + h3 + (sum >>> 0 < l3 >>> 0 ? 1 : 0)) | 0;
      l0 = sum;
      half = ((h3 << 21) | (l3 >>> 11)) ^ h0;
      l3 = ((l3 << 21) | (h3 >>> 11)) ^ l0;
      h3 = half;
      sum = (l2 + l1) | 0;
      h2 = (h2 + h1 + (sum >>> 0 < l1 >>> 0 ? 1 : 0)) | 0;
      l2 = sum;
      half = ((h1 << 17) | (l1 >>> 15)) ^ h2;
      l1 = ((l1 << 17) | (h1 >>> 15)) ^ l2;
      h1 = half;
      half = h2;
      h2 = l2;
      l2 = half;
    }
    h0 ^= high;
    l0 ^= low;
  }
  high32 = h0 ^ h1 ^ h2 ^ h3;
  return l0 ^ l1 ^ l2 ^ l3;
}

/** High 32 bits of the last {@link sipHash}, signed. */
export function sipHigh(): number {
  return high32;
}

/**
 * HalfSipHash-1-3 of three words, signed, without the block that says the length, which is always the same: for hash
 * tables only, so that a peer cannot choose which slot it gets.
 */
export function halfSipHash(key0: number, key1: number, a: number, b: number, c: number): number {
  // Said to be 32-bit integers, else V8 adds the first two as doubles in every round.
  let v0 = key0 | 0;
  let v1 = key1 | 0;
  let v2 = 0x6c796765 ^ key0;
  let v3 = 0x74656462 ^ key1 ^ a;
  for (let i = 0; i < 6; i++) {
    v0 = (v0 + v1) | 0;
    v1 = ((v1 << 5) | (v1 >>> 27)) ^ v0;
    v0 = (v0 << 16) | (v0 >>> 16);
    v2 = (v2 + v3) | 0;
    v3 = ((v3 << 8) | (v3 >>> 24)) ^ v2;
    v0 = (v0 + v3) | 0;
    v3 = ((v3 << 7) | (v3 >>> 25)) ^ v0;
    v2 = (v2 + v1) | 0;
    v1 = ((v1 << 13) | (v1 >>> 19)) ^ v2;
    v2 = (v2 << 16) | (v2 >>> 16);
    // After each of the first three rounds a word has been taken in and the next one comes.
    if (i === 0) {
      v0 ^= a;
      v3 ^= b;
    } else if (i === 1) {
      v0 ^= b;
      v3 ^= c;
    } else if (i === 2) {
      v0 ^= c;
      v2 ^= 0xff;
    }
  }
  return v1 ^ v3;
}
