/**
 * The XDP program that decides, for each frame that comes in, whether it is ours or the kernel's; and the layout of its
 * maps. Pure: it assembles code and packs keys; xdp-filter.ts loads it.
 *
 * To our socket on the queue of the frame go
 * - all IP packets to an *own* address, ARP for it, and IPv6 neighbour solicitations for it (also by multicast);
 * - TCP and UDP to a *served* (address, port), and ICMP errors (unreachable, too big, time exceeded, parameter problem)
 *   about packets that came from one: path MTU discovery needs them.
 * Everything else is the kernel's (XDP_PASS), in particular echo requests to served addresses, multicast and broadcast.
 *
 * Fragments to an own address are ours. Of a packet to a served port only the first fragment has the ports: it is ours,
 * and it is remembered for 30 seconds, so that the others follow it; one that comes before the first goes to the kernel.
 * IPv6 packets to a served address with extension headers other than one fragment header are the kernel's.
 * VLAN: with `vlan` 0 frames without a tag or with the priority tag 0 count, otherwise those of that VLAN; the kernel has
 * the others. A tag stays in the frame. Frames cut short, or whose headers make no sense, are the kernel's to count.
 */
import { parseIp } from '../address/ip.ts';
import { BpfAssembler, type BpfCode, type Register } from './bpf-assembler.ts';

export const XDP_PASS = 2;
export const XDP_REDIRECT = 4;

/** Key of `addresses`: 16 bytes, IPv4 as ::ffff:a.b.c.d. Value: a word, the address' slot with {@link OWN_ADDRESS}. */
export const ADDRESS_KEY_BYTES = 16;
/** All that is sent to the address is ours, not its served ports only. */
export const OWN_ADDRESS = 0x10000;
/** Addresses whose ports are served. Each has two values in `ports`: number 2 × slot is TCP, the next one UDP. */
export const ADDRESS_SLOTS = 32;
/** A value of `ports`: a bit for each port, 2^16 bits. */
export const PORT_BITMAP_BYTES = 8192;
/** Fragmented packets that are remembered; the oldest is forgotten. Key: source, destination, identification, protocol. */
export const FRAGMENT_SLOTS = 1024;
export const FRAGMENT_KEY_BYTES = 40;
const FRAGMENT_SECONDS = 30;

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

// Registers that live through the program. L3 becomes L4 and then free for use once a packet's address is known.
const CONTEXT: Register = 'r6';
const HEADER: Register = 'r7';
const END: Register = 'r8';
const SLOT: Register = 'r9';

// On the stack, from r10 down.
const ADDRESS = -16;
const PORT = -20;
const INDEX = -24;
/** Word: 1 while a first fragment is looked at. */
const TRACK = -28;
const FRAGMENT = -72;
const FRAGMENT_ID = FRAGMENT + 32;
const FRAGMENT_PROTOCOL = FRAGMENT + 36;
const TIME = -80;

const TCP = 6;
const UDP = 17;
const ICMP = 1;
const ICMP6 = 58;
const FRAGMENT_HEADER = 44;

/** A 16-bit number as it looks when loaded from a frame: in network order, on a little-endian machine. */
function wire16(value: number): number {
  return ((value & 0xff) << 8) | (value >> 8);
}

/** Assembles the program. `vlan`: 0, or the VLAN (1 to 4094) whose frames count. */
export function assembleXdpProgram(vlan = 0): BpfCode {
  if (!(Number.isInteger(vlan) && vlan >= 0 && vlan <= 4094)) throw new RangeError(`VLAN ${vlan}`);
  const code = new BpfAssembler();
  ethernet(code, vlan);
  arp(code);
  ipv4(code);
  icmp4(code);
  ipv6(code);
  icmp6(code);
  solicitation(code);
  ports(code);
  fragments(code);
  verdicts(code);
  return code.assemble();
}

/** To the kernel unless `bytes` behind the header register are in the frame. */
function needBytes(code: BpfAssembler, bytes: number): BpfAssembler {
  return code.move('r2', HEADER).add('r2', bytes).jumpIf('above', 'r2', END, 'pass');
}

/** Copies the IPv4 address at `offset` of the header to the key of `addresses`. Uses r1. */
function keyOf4(code: BpfAssembler, offset: number): BpfAssembler {
  return code
    .store('u64', 'r10', ADDRESS, 0)
    .store('u32', 'r10', ADDRESS + 8, 0xffff0000)
    .load('u32', 'r1', HEADER, offset)
    .store('u32', 'r10', ADDRESS + 12, 'r1');
}

/** Copies 16 bytes at `offset` of the header to the stack; by words, for a header need not be aligned to more. Uses r1. */
function copy16(code: BpfAssembler, offset: number, stack: number): BpfAssembler {
  for (let i = 0; i < 16; i += 4) code.load('u32', 'r1', HEADER, offset + i).store('u32', 'r10', stack + i, 'r1');
  return code;
}

/** r0 = the value of a key on the stack, or 0. */
function lookUp(code: BpfAssembler, map: XdpMapName, key: number): BpfAssembler {
  return code.loadMap('r1', map).move('r2', 'r10').add('r2', key).call('mapLookup');
}

/** Ours where the key is an own address, the kernel's where it is none of ours; otherwise SLOT is its slot. */
function judgeAddress(code: BpfAssembler): BpfAssembler {
  return lookUp(code, 'addresses', ADDRESS)
    .jumpIf('equal', 'r0', 0, 'pass')
    .load('u32', SLOT, 'r0', 0)
    .jumpIf('anyBit', SLOT, OWN_ADDRESS, 'ours');
}

function ethernet(code: BpfAssembler, vlan: number): void {
  code.move(CONTEXT, 'r1').load('u32', HEADER, CONTEXT, 0).load('u32', END, CONTEXT, 4).store('u32', 'r10', TRACK, 0);
  needBytes(code, 14)
    .load('u16', 'r3', HEADER, 12)
    .jumpIf('notEqual', 'r3', wire16(0x8100), vlan === 0 ? 'untagged' : 'pass');
  needBytes(code, 18)
    .load('u16', 'r4', HEADER, 14)
    .fromNetwork('r4', 16)
    .and('r4', 0xfff)
    .jumpIf('notEqual', 'r4', vlan, 'pass')
    .load('u16', 'r3', HEADER, 16)
    .add(HEADER, 4)
    .label('untagged')
    .add(HEADER, 14)
    .jumpIf('equal', 'r3', wire16(0x0800), 'ipv4')
    .jumpIf('equal', 'r3', wire16(0x86dd), 'ipv6')
    .jumpIf('notEqual', 'r3', wire16(0x0806), 'pass');
}

/** RFC 826: ours if it asks for, or is addressed to, an own address. */
function arp(code: BpfAssembler): void {
  needBytes(code.label('arp'), 28)
    .load('u32', 'r3', HEADER, 0)
    .jumpIf('notEqual', 'r3', 0x00080100, 'pass') // Ethernet and IPv4
    .load('u16', 'r3', HEADER, 4)
    .jumpIf('notEqual', 'r3', wire16(0x0604), 'pass');
  judgeAddress(keyOf4(code, 24)).jump('pass');
}

function ipv4(code: BpfAssembler): void {
  needBytes(code.label('ipv4'), 20)
    .load('u8', 'r3', HEADER, 0)
    .alu('shiftRight', 'r3', 4)
    .jumpIf('notEqual', 'r3', 4, 'pass');
  judgeAddress(keyOf4(code, 16))
    .load('u8', 'r5', HEADER, 0)
    .and('r5', 15)
    .alu('shiftLeft', 'r5', 2)
    .jumpIf('below', 'r5', 20, 'pass')
    .load('u8', 'r4', HEADER, 9)
    .load('u16', 'r3', HEADER, 6)
    .and('r3', wire16(0x3fff)) // more fragments, or not the first
    .jumpIf('equal', 'r3', 0, 'ipv4-whole');
  // A fragment: what names its packet, RFC 791.
  code
    .load('u32', 'r1', HEADER, 12)
    .store('u32', 'r10', FRAGMENT + 12, 'r1')
    .load('u32', 'r1', HEADER, 16)
    .store('u32', 'r10', FRAGMENT + 28, 'r1')
    .load('u16', 'r1', HEADER, 4)
    .store('u32', 'r10', FRAGMENT_ID, 'r1')
    .store('u32', 'r10', FRAGMENT_PROTOCOL, 'r4');
  for (const at of [0, 16]) {
    code.store('u64', 'r10', FRAGMENT + at, 0).store('u32', 'r10', FRAGMENT + at + 8, 0xffff0000);
  }
  code.jumpIf('anyBit', 'r3', wire16(0x1fff), 'later-fragment').store('u32', 'r10', TRACK, 1).label('ipv4-whole');
  // Past the options, four bytes at a time: a process without CAP_PERFMON may not add a variable to a frame's address.
  for (let length = 60; length > 20; length -= 4) {
    code.jumpIf('below', 'r5', length, `ipv4-options-${length}`).add(HEADER, 4).label(`ipv4-options-${length}`);
  }
  code.add(HEADER, 20).jumpIf('notEqual', 'r4', ICMP, 'transport');
}

/** ICMP about a packet of ours (RFC 792). The stack sends no IP options, so the quoted header has 20 bytes. */
function icmp4(code: BpfAssembler): void {
  needBytes(code.label('icmp'), 8 + 20 + 4)
    .load('u8', 'r3', HEADER, 0)
    .jumpIf('equal', 'r3', 3, 'icmp-quote')
    .jumpIf('equal', 'r3', 11, 'icmp-quote')
    .jumpIf('notEqual', 'r3', 12, 'pass')
    .label('icmp-quote')
    .load('u8', 'r3', HEADER, 8)
    .jumpIf('notEqual', 'r3', 0x45, 'pass')
    .load('u16', 'r3', HEADER, 8 + 6)
    .jumpIf('anyBit', 'r3', wire16(0x1fff), 'pass')
    .load('u32', 'r3', HEADER, 8 + 12)
    .load('u32', 'r1', 'r10', ADDRESS + 12)
    .jumpIf('notEqual', 'r3', 'r1', 'pass') // it quotes a packet of somebody else
    .load('u8', 'r4', HEADER, 8 + 9)
    .load('u16', 'r5', HEADER, 8 + 20)
    .fromNetwork('r5', 16)
    .jump('port');
}

function ipv6(code: BpfAssembler): void {
  needBytes(code.label('ipv6'), 40)
    .load('u8', 'r3', HEADER, 0)
    .alu('shiftRight', 'r3', 4)
    .jumpIf('notEqual', 'r3', 6, 'pass')
    .load('u8', 'r3', HEADER, 24)
    .jumpIf('equal', 'r3', 0xff, 'multicast');
  judgeAddress(copy16(code, 24, ADDRESS))
    .load('u8', 'r4', HEADER, 6)
    .jumpIf('equal', 'r4', ICMP6, 'icmp6')
    .jumpIf('equal', 'r4', FRAGMENT_HEADER, 'ipv6-fragment')
    .add(HEADER, 40)
    .jump('transport');
  // RFC 8200 4.5: next header, reserved, offset and flags, identification.
  needBytes(code.label('ipv6-fragment'), 48);
  copy16(code, 8, FRAGMENT);
  copy16(code, 24, FRAGMENT + 16)
    .load('u32', 'r1', HEADER, 44)
    .store('u32', 'r10', FRAGMENT_ID, 'r1')
    .load('u8', 'r4', HEADER, 40)
    .store('u32', 'r10', FRAGMENT_PROTOCOL, 'r4')
    .load('u16', 'r3', HEADER, 42)
    .jumpIf('anyBit', 'r3', wire16(0xfff8), 'later-fragment')
    .store('u32', 'r10', TRACK, 1)
    .add(HEADER, 48)
    .jump('transport');
}

/** ICMPv6 errors, types 1 to 4, about a packet of ours (RFC 4443). */
function icmp6(code: BpfAssembler): void {
  needBytes(code.label('icmp6').add(HEADER, 40), 8 + 40 + 4)
    .load('u8', 'r3', HEADER, 0)
    .jumpIf('equal', 'r3', 0, 'pass')
    .jumpIf('above', 'r3', 4, 'pass');
  for (let i = 0; i < 16; i += 4) {
    code
      .load('u32', 'r3', HEADER, 8 + 8 + i)
      .load('u32', 'r1', 'r10', ADDRESS + i)
      .jumpIf('notEqual', 'r3', 'r1', 'pass');
  }
  code
    .load('u8', 'r4', HEADER, 8 + 6)
    .load('u16', 'r5', HEADER, 8 + 40)
    .fromNetwork('r5', 16)
    .jump('port');
}

/** A neighbour solicitation (RFC 4861 4.3) by multicast: its target says whose it is. */
function solicitation(code: BpfAssembler): void {
  code.label('multicast').load('u8', 'r4', HEADER, 6).jumpIf('notEqual', 'r4', ICMP6, 'pass');
  needBytes(code, 40 + 24)
    .load('u8', 'r3', HEADER, 40)
    .jumpIf('notEqual', 'r3', 135, 'pass');
  judgeAddress(copy16(code, 48, ADDRESS)).jump('pass');
}

/** From here HEADER is the transport's header, r4 the protocol, SLOT the address'. */
function ports(code: BpfAssembler): void {
  needBytes(code.label('transport'), 4)
    .load('u16', 'r5', HEADER, 2)
    .fromNetwork('r5', 16)
    .label('port') // r5 is the port on our side
    .alu('shiftLeft', SLOT, 1)
    .jumpIf('equal', 'r4', TCP, 'port-look')
    .jumpIf('notEqual', 'r4', UDP, 'pass')
    .add(SLOT, 1)
    .label('port-look')
    .store('u32', 'r10', INDEX, SLOT)
    .store('u32', 'r10', PORT, 'r5');
  lookUp(code, 'ports', INDEX)
    .jumpIf('equal', 'r0', 0, 'pass')
    .load('u32', 'r2', 'r10', PORT)
    .move('r1', 'r2')
    .alu('shiftRight', 'r1', 3)
    .and('r1', PORT_BITMAP_BYTES - 1)
    .add('r0', 'r1')
    .load('u8', 'r1', 'r0', 0)
    .and('r2', 7)
    .alu('shiftRight', 'r1', 'r2')
    .and('r1', 1)
    .jumpIf('equal', 'r1', 0, 'pass')
    .load('u32', 'r1', 'r10', TRACK)
    .jumpIf('equal', 'r1', 0, 'ours');
}

function fragments(code: BpfAssembler): void {
  code
    .label('first-fragment')
    .call('ktimeGetNs')
    .store('u64', 'r10', TIME, 'r0')
    .loadMap('r1', 'fragments')
    .move('r2', 'r10')
    .add('r2', FRAGMENT)
    .move('r3', 'r10')
    .add('r3', TIME)
    .move('r4', 0)
    .call('mapUpdate')
    .jump('ours')
    .label('later-fragment');
  lookUp(code, 'fragments', FRAGMENT)
    .jumpIf('equal', 'r0', 0, 'pass')
    .load('u64', HEADER, 'r0', 0)
    .call('ktimeGetNs')
    .alu('subtract', 'r0', HEADER)
    .move('r1', FRAGMENT_SECONDS)
    .alu('multiply', 'r1', 1e9)
    .jumpIf('above', 'r0', 'r1', 'pass') // the identification has come round
    .store('u32', 'r10', INDEX, Counter.FRAGMENTS);
  count(code, 'ours');
}

/** Adds one to the counter whose number is at INDEX, then goes on at `next`. */
function count(code: BpfAssembler, next: string): void {
  lookUp(code, 'counters', INDEX)
    .jumpIf('equal', 'r0', 0, next)
    .load('u64', 'r1', 'r0', 0)
    .add('r1', 1)
    .store('u64', 'r0', 0, 'r1') // no atomic: a value per processor, and XDP does not interrupt itself
    .jump(next);
}

function verdicts(code: BpfAssembler): void {
  code
    .label('ours')
    .load('u32', 'r2', CONTEXT, 16)
    .loadMap('r1', 'sockets')
    .move('r3', XDP_PASS)
    .call('redirectMap')
    .move(SLOT, 'r0')
    .store('u32', 'r10', INDEX, Counter.REDIRECTED)
    .jumpIf('equal', SLOT, XDP_REDIRECT, 'count')
    .store('u32', 'r10', INDEX, Counter.NO_SOCKET)
    .jump('count')
    .label('pass')
    .move(SLOT, XDP_PASS)
    .store('u32', 'r10', INDEX, Counter.PASSED)
    .label('count');
  count(code, 'end');
  code.label('end').move('r0', SLOT).exit();
}
