/**
 * The XDP program that decides, for each frame that comes in, whether it is ours or the kernel's. Pure: it assembles
 * code; xdp-filter.ts loads it.
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
import { BpfAssembler, type BpfCode, type Register } from './bpf-assembler.ts';
import {
  ADDRESS_ENTRY_BYTES,
  ADDRESS_KEY_BYTES,
  ADDRESS_SLOTS,
  AddressWord,
  Counter,
  OWN_ADDRESS,
  PORT_BITMAP_BYTES,
  SERVED_ADDRESS,
  type XdpMapName,
} from './xdp-layout.ts';

export const XDP_PASS = 2;
export const XDP_REDIRECT = 4;

// Registers that live through the program. HEADER becomes the transport's, and then free for use.
const CONTEXT: Register = 'r6';
const HEADER: Register = 'r7';
const END: Register = 'r8';
/** The word of the entry that has the address. */
const WORD: Register = 'r9';
// Until the next call only.
/** The address that is looked for: two halves, in network order. */
const HIGH: Register = 'r3';
const LOW: Register = 'r4';
/** What it was looked for: 4 or 6, the packet's destination; or {@link OWN_ONLY}. */
const REASON: Register = 'r5';
const OWN_ONLY = 0;
// At `transport` and behind it, when those are not needed any more.
const TRACK: Register = 'r3'; // 1 for a first fragment, otherwise 0
const PROTOCOL: Register = 'r5';
/** Of our side. */
const PORT: Register = 'r2';

// On the stack, from r10 down.
const INDEX = -4;
const TIME = -16;
const FRAGMENT = -56;
const FRAGMENT_ID = FRAGMENT + 32;
const FRAGMENT_PROTOCOL = FRAGMENT + 36;

const FRAGMENT_SECONDS = 30;
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
  ipv4(code);
  addresses(code);
  served4(code);
  ports(code);
  verdicts(code);
  // What is rare, or longer than its jumps.
  fragment4(code);
  options4(code);
  arp(code);
  ipv6(code);
  solicitation(code);
  served6(code);
  icmp4(code);
  icmp6(code);
  fragments(code);
  return code.assemble();
}

/** To the kernel unless `bytes` behind the header register are in the frame. */
function needBytes(code: BpfAssembler, bytes: number): BpfAssembler {
  return code.move('r2', HEADER).add('r2', bytes).jumpIf('above', 'r2', END, 'pass');
}

/** The address looked for is the IPv4 address at `offset` of the header. Uses r1. */
function address4(code: BpfAssembler, offset: number): BpfAssembler {
  return code
    .load('u32', LOW, HEADER, offset)
    .alu('shiftLeft', LOW, 32)
    .alu32('move', 'r1', 0xffff0000)
    .alu('or', LOW, 'r1')
    .move(HIGH, 0);
}

/** The address looked for is the IPv6 address at `offset` of the header. */
function address6(code: BpfAssembler, offset: number): BpfAssembler {
  return code.load('u64', HIGH, HEADER, offset).load('u64', LOW, HEADER, offset + 8);
}

/** Copies 16 bytes at `offset` of the header to the stack. Uses r1. */
function copy16(code: BpfAssembler, offset: number, stack: number): BpfAssembler {
  for (let i = 0; i < 16; i += 8) code.load('u64', 'r1', HEADER, offset + i).store('u64', 'r10', stack + i, 'r1');
  return code;
}

/** r0 = the value of a key on the stack, or 0. */
function lookUp(code: BpfAssembler, map: XdpMapName, key: number): BpfAssembler {
  return code.loadMap('r1', map).move('r2', 'r10').add('r2', key).call('mapLookup');
}

/** r1 = where the slot's part of a table begins, of 2^`shift` bytes for each. */
function offsetOfSlot(code: BpfAssembler, shift: number): BpfAssembler {
  return code.move('r1', WORD).and('r1', AddressWord.SLOT).alu('shiftLeft', 'r1', shift);
}

function ethernet(code: BpfAssembler, vlan: number): void {
  code.move(CONTEXT, 'r1').load('u32', HEADER, CONTEXT, 0).load('u32', END, CONTEXT, 4);
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
    .jumpIf('equal', 'r3', wire16(0x86dd), 'ipv6')
    .jumpIf('equal', 'r3', wire16(0x0806), 'arp')
    .jumpIf('notEqual', 'r3', wire16(0x0800), 'pass');
}

function ipv4(code: BpfAssembler): void {
  needBytes(code, 20)
    .load('u8', 'r2', HEADER, 0)
    .move('r1', 'r2')
    .alu('shiftRight', 'r1', 4)
    .jumpIf('notEqual', 'r1', 4, 'pass')
    .move(REASON, 4);
  address4(code, 16);
}

/**
 * Ours where the address looked for is an own one, the kernel's where it is none of ours; otherwise WORD has its slot.
 * Uses r0 and r1. It looks at one entry after the other: there are few, and to look up in a hash costs as much as all 64.
 */
function addresses(code: BpfAssembler): void {
  code.label('address').loadMapValue('r0', 'addresses');
  for (let slot = 0; slot < ADDRESS_SLOTS; slot++) {
    const entry = slot * ADDRESS_ENTRY_BYTES;
    code
      .load('u32', WORD, 'r0', entry + ADDRESS_KEY_BYTES)
      .jumpIf('equal', WORD, 0, 'pass')
      .load('u64', 'r1', 'r0', entry + 8)
      .jumpIf('notEqual', 'r1', LOW, `address-${slot + 1}`)
      .load('u64', 'r1', 'r0', entry)
      .jumpIf('equal', 'r1', HIGH, 'found')
      .label(`address-${slot + 1}`);
  }
  code
    .jump('pass')
    .label('found')
    .jumpIf('anyBit', WORD, OWN_ADDRESS, 'ours')
    .move('r1', WORD)
    .and('r1', SERVED_ADDRESS)
    .jumpIf('equal', 'r1', 0, 'pass') // forgotten this moment
    .jumpIf('equal', REASON, 6, 'served6')
    .jumpIf('notEqual', REASON, 4, 'pass');
}

/** A packet to a served address; r2 is the first byte of its header. */
function served4(code: BpfAssembler): void {
  code
    .jumpIf('below', 'r2', 0x45, 'pass') // a header of less than 20 bytes
    .load('u8', PROTOCOL, HEADER, 9)
    .load('u16', 'r1', HEADER, 6)
    .and('r1', wire16(0x3fff)) // more fragments, or not the first
    .jumpIf('notEqual', 'r1', 0, 'ipv4-fragment')
    .move(TRACK, 0)
    .label('ipv4-first')
    .jumpIf('notEqual', 'r2', 0x45, 'ipv4-options')
    .label('ipv4-payload')
    .add(HEADER, 20)
    .jumpIf('equal', PROTOCOL, ICMP, 'icmp');
}

/**
 * From here HEADER is the transport's. The place of the port's byte is computed before the paths of TCP and UDP part:
 * without CAP_PERFMON what is added to the address of a map must have the same bounds on every path.
 */
function ports(code: BpfAssembler): void {
  needBytes(code.label('transport'), 4).load('u16', PORT, HEADER, 2).fromNetwork(PORT, 16).label('port');
  offsetOfSlot(code, Math.log2(2 * PORT_BITMAP_BYTES))
    .move('r0', PROTOCOL)
    .and('r0', 1) // 0 of TCP, 1 of UDP
    .alu('shiftLeft', 'r0', Math.log2(PORT_BITMAP_BYTES))
    .add('r1', 'r0')
    .move('r0', PORT)
    .alu('shiftRight', 'r0', 3)
    .and('r0', PORT_BITMAP_BYTES - 1)
    .add('r1', 'r0')
    .loadMapValue('r0', 'ports')
    .add('r0', 'r1')
    .jumpIf('equal', PROTOCOL, TCP, 'port-look')
    .jumpIf('notEqual', PROTOCOL, UDP, 'pass')
    .label('port-look')
    .load('u8', 'r1', 'r0', 0)
    .and(PORT, 7)
    .alu('shiftRight', 'r1', PORT)
    .and('r1', 1)
    .jumpIf('equal', 'r1', 0, 'pass')
    .jumpIf('notEqual', TRACK, 0, 'first-fragment');
}

function verdicts(code: BpfAssembler): void {
  offsetOfSlot(code.label('ours'), Math.log2(ADDRESS_ENTRY_BYTES))
    .loadMapValue('r0', 'addresses')
    .add('r0', 'r1')
    .load('u32', 'r0', 'r0', ADDRESS_KEY_BYTES)
    .jumpIf('notEqual', 'r0', WORD, 'pass') // the entry has changed while it was looked at
    .load('u32', 'r2', CONTEXT, 16)
    .loadMap('r1', 'sockets')
    .move('r3', XDP_PASS)
    .call('redirectMap')
    .move(WORD, 'r0')
    .store('u32', 'r10', INDEX, Counter.REDIRECTED)
    .jumpIf('equal', WORD, XDP_REDIRECT, 'count')
    .store('u32', 'r10', INDEX, Counter.NO_SOCKET)
    .jump('count')
    .label('pass')
    .move(WORD, XDP_PASS)
    .store('u32', 'r10', INDEX, Counter.PASSED)
    .label('count');
  count(code, 'end');
  code.label('end').move('r0', WORD).exit();
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

/** RFC 826: ours if it asks for, or is addressed to, an own address. */
function arp(code: BpfAssembler): void {
  needBytes(code.label('arp'), 28)
    .load('u32', 'r3', HEADER, 0)
    .jumpIf('notEqual', 'r3', 0x00080100, 'pass') // Ethernet and IPv4
    .load('u16', 'r3', HEADER, 4)
    .jumpIf('notEqual', 'r3', wire16(0x0604), 'pass')
    .move(REASON, OWN_ONLY);
  address4(code, 24).jump('address');
}

/** r1 has the flags and the offset. What names the packet: RFC 791. */
function fragment4(code: BpfAssembler): void {
  code
    .label('ipv4-fragment')
    .load('u32', 'r0', HEADER, 12)
    .store('u32', 'r10', FRAGMENT + 12, 'r0')
    .load('u32', 'r0', HEADER, 16)
    .store('u32', 'r10', FRAGMENT + 28, 'r0')
    .load('u16', 'r0', HEADER, 4)
    .store('u32', 'r10', FRAGMENT_ID, 'r0')
    .store('u32', 'r10', FRAGMENT_PROTOCOL, PROTOCOL);
  for (const at of [0, 16]) {
    code.store('u64', 'r10', FRAGMENT + at, 0).store('u32', 'r10', FRAGMENT + at + 8, 0xffff0000);
  }
  code.jumpIf('anyBit', 'r1', wire16(0x1fff), 'later-fragment').move(TRACK, 1).jump('ipv4-first');
}

/** Past the options, four bytes at a time: a process without CAP_PERFMON may not add a variable to a frame's address. */
function options4(code: BpfAssembler): void {
  code.label('ipv4-options').and('r2', 15);
  for (let words = 15; words > 5; words--) {
    code.jumpIf('below', 'r2', words, `ipv4-options-${words}`).add(HEADER, 4).label(`ipv4-options-${words}`);
  }
  code.jump('ipv4-payload');
}

/** ICMP about a packet of ours (RFC 792). The stack sends no IP options, so the quoted header has 20 bytes. */
function icmp4(code: BpfAssembler): void {
  needBytes(code.label('icmp'), 8 + 20 + 4)
    .load('u8', 'r1', HEADER, 0)
    .jumpIf('equal', 'r1', 3, 'icmp-quote')
    .jumpIf('equal', 'r1', 11, 'icmp-quote')
    .jumpIf('notEqual', 'r1', 12, 'pass')
    .label('icmp-quote')
    .load('u8', 'r1', HEADER, 8)
    .jumpIf('notEqual', 'r1', 0x45, 'pass')
    .load('u16', 'r1', HEADER, 8 + 6)
    .jumpIf('anyBit', 'r1', wire16(0x1fff), 'pass')
    .load('u32', 'r1', HEADER, 8 + 12)
    .alu('shiftRight', LOW, 32)
    .jumpIf('notEqual', 'r1', LOW, 'pass') // it quotes a packet of somebody else
    .load('u8', PROTOCOL, HEADER, 8 + 9)
    .load('u16', PORT, HEADER, 8 + 20)
    .fromNetwork(PORT, 16)
    .jump('port');
}

function ipv6(code: BpfAssembler): void {
  needBytes(code.label('ipv6'), 40)
    .load('u8', 'r1', HEADER, 0)
    .alu('shiftRight', 'r1', 4)
    .jumpIf('notEqual', 'r1', 6, 'pass')
    .load('u8', 'r1', HEADER, 24)
    .jumpIf('equal', 'r1', 0xff, 'multicast')
    .move(REASON, 6);
  address6(code, 24).jump('address');
}

/** A neighbour solicitation (RFC 4861 4.3) by multicast: its target says whose it is. */
function solicitation(code: BpfAssembler): void {
  code.label('multicast').load('u8', 'r1', HEADER, 6).jumpIf('notEqual', 'r1', ICMP6, 'pass');
  needBytes(code, 40 + 24)
    .load('u8', 'r1', HEADER, 40)
    .jumpIf('notEqual', 'r1', 135, 'pass')
    .move(REASON, OWN_ONLY);
  address6(code, 48).jump('address');
}

function served6(code: BpfAssembler): void {
  code
    .label('served6')
    .load('u8', PROTOCOL, HEADER, 6)
    .jumpIf('equal', PROTOCOL, ICMP6, 'icmp6')
    .jumpIf('equal', PROTOCOL, FRAGMENT_HEADER, 'ipv6-fragment')
    .move(TRACK, 0)
    .add(HEADER, 40)
    .jump('transport');
  // RFC 8200 4.5: next header, reserved, offset and flags, identification.
  needBytes(code.label('ipv6-fragment'), 48);
  copy16(code, 8, FRAGMENT);
  copy16(code, 24, FRAGMENT + 16)
    .load('u32', 'r1', HEADER, 44)
    .store('u32', 'r10', FRAGMENT_ID, 'r1')
    .load('u8', PROTOCOL, HEADER, 40)
    .store('u32', 'r10', FRAGMENT_PROTOCOL, PROTOCOL)
    .load('u16', 'r1', HEADER, 42)
    .jumpIf('anyBit', 'r1', wire16(0xfff8), 'later-fragment')
    .move(TRACK, 1)
    .add(HEADER, 48)
    .jump('transport');
}

/** ICMPv6 errors, types 1 to 4, about a packet of ours (RFC 4443). */
function icmp6(code: BpfAssembler): void {
  needBytes(code.label('icmp6').add(HEADER, 40), 8 + 40 + 4)
    .load('u8', 'r1', HEADER, 0)
    .jumpIf('equal', 'r1', 0, 'pass')
    .jumpIf('above', 'r1', 4, 'pass')
    .load('u64', 'r1', HEADER, 8 + 8)
    .jumpIf('notEqual', 'r1', HIGH, 'pass')
    .load('u64', 'r1', HEADER, 8 + 16)
    .jumpIf('notEqual', 'r1', LOW, 'pass')
    .move(TRACK, 0)
    .load('u8', PROTOCOL, HEADER, 8 + 6)
    .load('u16', PORT, HEADER, 8 + 40)
    .fromNetwork(PORT, 16)
    .jump('port');
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
