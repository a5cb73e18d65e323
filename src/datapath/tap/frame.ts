/**
 * Which frames hold nothing that a program would keep: for a link that has no buffer left to give away.
 * Pure: it reads the bytes it is given, and believes none of them.
 */

const ARP = 0x0806;
const IPV4 = 0x0800;
const IPV6 = 0x86dd;
const TCP = 6;
const ICMPV6 = 58;

/** True for ARP, neighbour discovery and TCP without data: what the stack answers or acts on, and does not keep. */
export function holdsNoData(memory: Uint8Array, at: number, length: number): boolean {
  if (length < 14 + 20) return false;
  const type = (memory[at + 12]! << 8) | memory[at + 13]!;
  const ip = at + 14;
  if (type === ARP) return true;
  if (type === IPV4) {
    const header = (memory[ip]! & 15) * 4;
    const total = (memory[ip + 2]! << 8) | memory[ip + 3]!;
    const isFragment = (memory[ip + 6]! & 0x3f) !== 0 || memory[ip + 7] !== 0;
    return !isFragment && memory[ip + 9] === TCP && isBare(memory, ip + header, total - header, at + length);
  }
  if (type !== IPV6 || length < 14 + 40) return false;
  const total = (memory[ip + 4]! << 8) | memory[ip + 5]!;
  const next = memory[ip + 6];
  return next === ICMPV6 || (next === TCP && isBare(memory, ip + 40, total, at + length));
}

/** A TCP segment of `length` bytes that is all header. */
function isBare(memory: Uint8Array, at: number, length: number, end: number): boolean {
  return at + 20 <= end && (memory[at + 12]! >> 4) * 4 >= length;
}
