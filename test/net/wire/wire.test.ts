import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { ARP_BYTES, ArpPacket, putArp } from '../../../src/net/wire/arp.ts';
import { EthernetFrame, groupMacHi, groupMacLo, isStation, putEthernet } from '../../../src/net/wire/ethernet.ts';
import { IcmpMessage, IcmpType, putIcmp, sealIcmp } from '../../../src/net/wire/icmp.ts';
import { Icmpv6Type, NeighbourFlag, NeighbourMessage, putNeighbour } from '../../../src/net/wire/icmpv6.ts';
import { Ipv4Packet, Protocol, pseudoSum4, putIpv4 } from '../../../src/net/wire/ipv4.ts';
import {
  Ipv6Packet,
  ParameterProblem,
  pseudoSum6,
  putAddress6,
  putFragmentHeader,
  putIpv6,
} from '../../../src/net/wire/ipv6.ts';
import { QuotedPacket } from '../../../src/net/wire/quoted.ts';
import { REASON_NAMES, REASONS, Reason } from '../../../src/net/wire/reason.ts';
import { payloadSum, putUdp, UdpDatagram } from '../../../src/net/wire/udp.ts';
import { hex, plainSum } from '../hosts.ts';
import { viewOf } from '../view.ts';

const word = fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 });
const half = fc.integer({ min: 0, max: 65535 });
const octet = fc.integer({ min: 0, max: 255 });

test('reasons are dense, because each is the index of a counter', () => {
  assert.deepEqual(
    Object.values(Reason),
    Array.from({ length: REASONS }, (_, i) => i),
  );
  assert.equal(REASON_NAMES[Reason.IP_CHECKSUM], 'ipChecksum');
});

test('Ethernet: a captured header, tags and lengths', () => {
  const frame = new EthernetFrame();
  const bytes = hex('ffffffffffff 02005e000001 0806 0001');
  assert.equal(frame.parse(viewOf(bytes), 0, bytes.length), Reason.OK);
  assert.equal(frame.destinationHi, 0xffff);
  assert.equal(frame.destinationLo, -1);
  assert.equal(frame.sourceHi, 0x0200);
  assert.equal(frame.sourceLo, 0x5e000001);
  assert.equal(frame.type, 0x0806);
  assert.equal(frame.payloadLength, 2);
  assert.equal(frame.toGroup, true);
  for (const tag of ['8100', '88a8', '9100']) {
    assert.equal(frame.parse(viewOf(hex(`ffffffffffff 02005e000001 ${tag} 0001`)), 0, 16), Reason.FRAME_VLAN);
  }
  assert.equal(frame.parse(viewOf(hex('ffffffffffff 02005e000001 0100')), 0, 14), Reason.FRAME_TYPE);
  assert.equal(frame.parse(viewOf(hex('ffffffffffff 01005e000001 0800')), 0, 14), Reason.FRAME_SOURCE);
  assert.equal(frame.parse(viewOf(bytes), 0, 13), Reason.FRAME_SHORT);
  assert.equal(isStation(0, 0), false);
  // 224.0.0.251 (RFC 1112 6.4) and ff02::1:ff00:1 (RFC 2464 7).
  assert.equal(groupMacHi(4), 0x0100);
  assert.equal(groupMacLo(4, 0xe00000fb | 0), 0x5e0000fb);
  assert.equal(groupMacLo(6, 0xff000001 | 0), 0xff000001 | 0);
});

test('Ethernet: what is written is read', () => {
  const frame = new EthernetFrame();
  fc.assert(
    fc.property(half, word, half, word, fc.integer({ min: 0x600, max: 0xffff }), (dh, dl, sh, sl, type) => {
      const memory = new Uint8Array(20);
      putEthernet(viewOf(memory), 3, dh, dl, sh, sl, type);
      const reason = frame.parse(viewOf(memory), 3, 14);
      const read = [frame.destinationHi, frame.destinationLo, frame.sourceHi, frame.sourceLo, frame.type];
      assert.deepEqual(read, [dh, dl, sh, sl, type]);
      const tagged = [0x8100, 0x88a8, 0x9100].includes(type);
      assert.equal(reason, tagged ? Reason.FRAME_VLAN : sh & 0x100 ? Reason.FRAME_SOURCE : Reason.OK);
    }),
  );
});

test('ARP: a captured request, and every malformed field', () => {
  const request = hex('0001 0800 06 04 0001 000c2916a8a1 c0a80001 000000000000 c0a80002');
  const packet = new ArpPacket();
  assert.equal(packet.parse(viewOf(request), 0, request.length), Reason.OK);
  assert.equal(packet.operation, 1);
  assert.equal(packet.senderHi, 0x000c);
  assert.equal(packet.senderLo, 0x2916a8a1);
  assert.equal(packet.senderAddress, 0xc0a80001 | 0);
  assert.equal(packet.targetAddress, 0xc0a80002 | 0);
  const changed = (at: number, value: number): number => {
    const copy = request.slice();
    copy[at] = value;
    return packet.parse(viewOf(copy), 0, copy.length);
  };
  assert.equal(packet.parse(viewOf(request), 0, ARP_BYTES - 1), Reason.ARP_SHORT);
  assert.equal(changed(1, 6), Reason.ARP_KIND);
  assert.equal(changed(2, 0x86), Reason.ARP_KIND);
  assert.equal(changed(4, 8), Reason.ARP_KIND);
  assert.equal(changed(5, 16), Reason.ARP_KIND);
  assert.equal(changed(7, 3), Reason.ARP_OPERATION);
  assert.equal(changed(8, 1), Reason.ARP_SENDER);
});

test('ARP: what is written is read', () => {
  const packet = new ArpPacket();
  fc.assert(
    fc.property(fc.constantFrom(1, 2), half, word, word, half, word, word, (operation, sh, sl, sa, th, tl, ta) => {
      const memory = new Uint8Array(40).fill(0xaa);
      putArp(viewOf(memory), 5, operation, sh, sl, sa, th, tl, ta);
      const reason = packet.parse(viewOf(memory), 5, ARP_BYTES);
      assert.equal(reason, isStation(sh, sl) ? Reason.OK : Reason.ARP_SENDER);
      assert.deepEqual(
        [packet.senderAddress, packet.targetHi, packet.targetLo, packet.targetAddress],
        [sa, th, tl, ta],
      );
      assert.deepEqual([packet.operation, packet.senderHi, packet.senderLo], [operation, sh, sl]);
    }),
  );
});

/** A well-known header: its checksum is b861. */
const HEADER = hex('4500 0073 0000 4000 4011 b861 c0a80001 c0a800c7');

test('IPv4: a known header', () => {
  const packet = new Ipv4Packet();
  const bytes = new Uint8Array(0x73);
  bytes.set(HEADER);
  assert.equal(packet.parse(viewOf(bytes), 0, bytes.length), Reason.OK);
  assert.equal(packet.headerLength, 20);
  assert.equal(packet.totalLength, 0x73);
  assert.equal(packet.dontFragment, true);
  assert.equal(packet.moreFragments, false);
  assert.equal(packet.timeToLive, 64);
  assert.equal(packet.protocol, Protocol.UDP);
  assert.equal(packet.source, 0xc0a80001 | 0);
  assert.equal(packet.destination, 0xc0a800c7 | 0);
  assert.equal(packet.payloadAt, 20);
  assert.equal(packet.payloadLength, 0x73 - 20);
  const written = new Uint8Array(20);
  putIpv4(viewOf(written), 0, 0, 0x73, 0, 0x4000, 64, 17, 0xc0a80001 | 0, 0xc0a800c7 | 0);
  assert.deepEqual(written, HEADER);
});

test('IPv4: every malformed header has its reason', () => {
  const packet = new Ipv4Packet();
  const parse = (text: string, length?: number): number => {
    const bytes = hex(text);
    return packet.parse(viewOf(bytes), 0, length ?? bytes.length);
  };
  const rest = '0000 4000 4011 b861 c0a80001 c0a800c7';
  assert.equal(parse(`4500 0073 ${rest}`, 19), Reason.IP_SHORT);
  assert.equal(parse(`6500 0014 ${rest}`), Reason.IP_VERSION);
  assert.equal(parse(`4400 0014 ${rest}`), Reason.IP_HEADER_LENGTH);
  assert.equal(parse(`4600 0014 ${rest}`), Reason.IP_HEADER_LENGTH);
  assert.equal(parse(`4500 0073 ${rest}`), Reason.IP_TOTAL_LENGTH);
  assert.equal(parse(`4500 0013 ${rest}`), Reason.IP_TOTAL_LENGTH);
  assert.equal(parse(`4500 0014 ${rest}`), Reason.IP_CHECKSUM);
});

test('IPv4: what is written is read, its checksum is that of RFC 1071, and one wrong bit is seen', () => {
  const packet = new Ipv4Packet();
  fc.assert(
    fc.property(
      octet,
      fc.integer({ min: 0, max: 60 }),
      half,
      half,
      octet,
      octet,
      word,
      word,
      fc.integer({ min: 0, max: 159 }),
      (tos, payload, id, fragment, ttl, protocol, source, destination, bit) => {
        const memory = new Uint8Array(100);
        putIpv4(viewOf(memory), 2, tos, 20 + payload, id, fragment, ttl, protocol, source, destination);
        assert.equal(packet.parse(viewOf(memory), 2, 90), Reason.OK);
        assert.equal(plainSum(memory.subarray(2, 22)), 0xffff);
        assert.deepEqual(
          [packet.typeOfService, packet.payloadLength, packet.identification, packet.timeToLive, packet.protocol],
          [tos, payload, id, ttl, protocol],
        );
        assert.deepEqual([packet.source, packet.destination], [source, destination]);
        assert.equal(packet.fragmentOffset, (fragment & 0x1fff) * 8);
        assert.equal(packet.moreFragments, (fragment & 0x2000) !== 0);
        assert.equal(packet.dontFragment, (fragment & 0x4000) !== 0);
        const at = 2 + (bit >> 3);
        memory[at] = memory[at]! ^ (1 << (bit & 7));
        assert.notEqual(packet.parse(viewOf(memory), 2, 90), Reason.OK);
      },
    ),
  );
});

test('IPv4: options are skipped', () => {
  const memory = new Uint8Array(40);
  // Record route, padded; the checksum is that of the model.
  memory.set(hex('4700 0020 0001 0000 4001 0000 0a000001 0a000002 0707 0400 0000 0000 cafebabe'));
  const sum = ~plainSum(memory.subarray(0, 28)) & 0xffff;
  memory[10] = sum >> 8;
  memory[11] = sum;
  const packet = new Ipv4Packet();
  assert.equal(packet.parse(viewOf(memory), 0, 40), Reason.OK);
  assert.equal(packet.payloadAt, 28);
  assert.equal(packet.payloadLength, 4);
});

const IP6 = '20010db8000000000000000000000001 20010db8000000000000000000000002';

test('IPv6: a plain packet and its extension headers', () => {
  const packet = new Ipv6Packet();
  const parse = (text: string, length?: number): number => {
    const bytes = hex(text);
    return packet.parse(viewOf(bytes), 0, length ?? bytes.length);
  };
  assert.equal(parse(`6a312345 0004 11 40 ${IP6} 01020304`), Reason.OK);
  assert.equal(packet.trafficClass, 0xa3);
  assert.equal(packet.flowLabel, 0x12345);
  assert.equal(packet.hopLimit, 64);
  assert.equal(packet.protocol, Protocol.UDP);
  assert.equal(packet.payloadAt, 40);
  assert.equal(packet.payloadLength, 4);
  assert.deepEqual([packet.source0, packet.source3, packet.destination3], [0x20010db8, 1, 2]);

  // Hop-by-hop (PadN), routing without segments left, destination options, then UDP.
  const chain = `3c00 0000 0000 0000`;
  assert.equal(parse(`60000000 001c 00 40 ${IP6} 2b00 0104 00000000 ${chain} 1100 0104 00000000 01020304`), Reason.OK);
  assert.equal(packet.protocol, Protocol.UDP);
  assert.equal(packet.payloadAt, 64);
  assert.equal(packet.payloadLength, 4);
  assert.equal(packet.protocolOffset, 56);

  // A fragment, and an atomic one whose chain goes on (RFC 6946).
  assert.equal(parse(`60000000 000c 2c 40 ${IP6} 1100 0009 deadbeef 01020304`), Reason.OK);
  assert.equal(packet.hasFragment, true);
  assert.equal(packet.fragmentOffset, 8);
  assert.equal(packet.moreFragments, true);
  assert.equal(packet.identification, 0xdeadbeef | 0);
  assert.equal(packet.protocol, Protocol.UDP);
  assert.equal(packet.fragmentHeaderOffset, 40);
  assert.equal(packet.fragmentNameOffset, 6);
  assert.equal(parse(`60000000 0014 2c 40 ${IP6} 3c00 0000 deadbeef 1100 0104 00000000 01020304`), Reason.OK);
  assert.equal(packet.protocol, Protocol.UDP);
  assert.equal(packet.payloadLength, 4);
});

test('IPv6: every malformed packet has its reason, and what its sender is to be told', () => {
  const packet = new Ipv6Packet();
  const parse = (text: string, length?: number): number => {
    const bytes = hex(text);
    return packet.parse(viewOf(bytes), 0, length ?? bytes.length);
  };
  assert.equal(parse(`60000000 0000 3b 40 ${IP6}`, 39), Reason.IP_SHORT);
  assert.equal(parse(`40000000 0000 3b 40 ${IP6}`), Reason.IP_VERSION);
  assert.equal(parse(`60000000 0001 3b 40 ${IP6}`), Reason.IP_TOTAL_LENGTH);
  assert.equal(parse(`60000000 0004 3c 40 ${IP6} 11000000`), Reason.IP_EXTENSION);
  assert.equal(parse(`60000000 0008 3c 40 ${IP6} 1101000000000000`), Reason.IP_EXTENSION);
  assert.equal(packet.problem, ParameterProblem.NONE);
  // Routing header of type 0 with a segment left (RFC 5095).
  assert.equal(parse(`60000000 0008 2b 40 ${IP6} 1100000100000000`), Reason.IP_ROUTING);
  assert.deepEqual([packet.problem, packet.problemPointer], [ParameterProblem.FIELD, 42]);
  // Hop-by-hop options that are not first.
  assert.equal(parse(`60000000 0010 3c 40 ${IP6} 0000010400000000 1100010400000000`), Reason.IP_EXTENSION);
  assert.deepEqual([packet.problem, packet.problemPointer], [ParameterProblem.NEXT_HEADER, 40]);
  // Unknown options by their two highest bits: skip, discard, discard and tell.
  assert.equal(parse(`60000000 0008 3c 40 ${IP6} 1100 0504 00000000`), Reason.OK);
  assert.equal(parse(`60000000 0008 3c 40 ${IP6} 1100 4504 00000000`), Reason.IP_OPTION);
  assert.equal(packet.problem, ParameterProblem.NONE);
  assert.equal(parse(`60000000 0008 3c 40 ${IP6} 1100 8504 00000000`), Reason.IP_OPTION);
  assert.deepEqual([packet.problem, packet.problemPointer], [ParameterProblem.OPTION, 42]);
  // An option longer than its header, and two fragment headers.
  assert.equal(parse(`60000000 0008 3c 40 ${IP6} 1100 0105 00000000`), Reason.IP_OPTION);
  assert.equal(parse(`60000000 0010 2c 40 ${IP6} 2c00000000000000 1100000000000000`), Reason.IP_EXTENSION);
  // Nine headers.
  const nine = '3c00010400000000'.repeat(8);
  assert.equal(parse(`60000000 0048 3c 40 ${IP6} ${nine} 1100010400000000`), Reason.IP_EXTENSION);
});

test('IPv6: what is written is read', () => {
  const packet = new Ipv6Packet();
  const quad = fc.tuple(word, word, word, word);
  fc.assert(
    fc.property(octet, octet, quad, quad, half, word, fc.boolean(), (traffic, hops, s, d, offset, id, more) => {
      const memory = new Uint8Array(80);
      const at = 4;
      putIpv6(viewOf(memory), at, traffic, 8 + 16, Protocol.FRAGMENT, hops);
      putAddress6(viewOf(memory), at + 8, ...s);
      putAddress6(viewOf(memory), at + 24, ...d);
      putFragmentHeader(viewOf(memory), at + 40, Protocol.UDP, offset & 0xfff8, more, id);
      assert.equal(packet.parse(viewOf(memory), at, 70), Reason.OK);
      assert.deepEqual([packet.trafficClass, packet.hopLimit, packet.totalLength], [traffic, hops, 64]);
      assert.deepEqual([packet.source0, packet.source1, packet.source2, packet.source3], s);
      assert.deepEqual([packet.destination0, packet.destination1, packet.destination2, packet.destination3], d);
      assert.deepEqual(
        [packet.fragmentOffset, packet.moreFragments, packet.identification],
        [offset & 0xfff8, more, id],
      );
      assert.equal(packet.payloadLength, 16);
    }),
  );
});

test('ICMP: a captured ping', () => {
  // ping of 32 letters, identifier 1, sequence number 1: the checksum on the wire is 4d5a.
  const letters = '6162636465666768696a6b6c6d6e6f7071727374757677616263646566676869';
  const bytes = hex(`0800 4d5a 0001 0001 ${letters}`);
  const message = new IcmpMessage();
  assert.equal(message.parse(viewOf(bytes), 0, bytes.length, 0), Reason.OK);
  assert.deepEqual([message.type, message.code, message.word, message.bodyLength], [8, 0, 0x00010001, 32]);
  assert.equal(message.isError, false);
  const written = bytes.slice();
  putIcmp(viewOf(written), 0, IcmpType.ECHO, 0, 0x00010001);
  sealIcmp(viewOf(written), 0, written.length, 0);
  assert.deepEqual(written, bytes);
  bytes[20] = 0;
  assert.equal(message.parse(viewOf(bytes), 0, bytes.length, 0), Reason.ICMP_CHECKSUM);
  assert.equal(message.parse(viewOf(bytes), 0, 7, 0), Reason.ICMP_SHORT);
});

test('neighbour discovery: a solicitation with its checksum, and what RFC 4861 7.1 forbids', () => {
  const message = new NeighbourMessage();
  const bytes = new Uint8Array(32);
  putNeighbour(viewOf(bytes), 0, Icmpv6Type.NEIGHBOUR_SOLICITATION, 0, 0xfe800000 | 0, 0, 0, 2, 0x0200, 0x5e000001);
  assert.deepEqual(bytes, hex('8700 0000 00000000 fe800000000000000000000000000002 0101 02005e000001'));
  const source = hex('fe800000000000000000000000000001');
  const group = hex('ff0200000000000000000001ff000002');
  const pseudo = pseudoSum6(0xfe800000 | 0, 0, 0, 1, 0xff020000 | 0, 0, 1, 0xff000002 | 0, Protocol.ICMPV6);
  sealIcmp(viewOf(bytes), 0, 32, pseudo + 32);
  assert.equal(plainSum(source, group, hex('00000020 0000003a'), bytes), 0xffff);

  assert.equal(message.parse(viewOf(bytes), 0, 32), Reason.OK);
  assert.deepEqual([message.target0, message.target3], [0xfe800000 | 0, 2]);
  assert.deepEqual([message.hasMac, message.macHi, message.macLo], [true, 0x0200, 0x5e000001]);
  assert.equal(message.parse(viewOf(bytes), 0, 23), Reason.NDP_SHORT);
  assert.equal(message.parse(viewOf(bytes), 0, 30), Reason.NDP_INVALID);
  const changed = (at: number, value: number): number => {
    const copy = bytes.slice();
    copy[at] = value;
    return message.parse(viewOf(copy), 0, copy.length);
  };
  assert.equal(changed(25, 0), Reason.NDP_INVALID);
  assert.equal(changed(25, 2), Reason.NDP_INVALID);
  assert.equal(changed(1, 1), Reason.NDP_INVALID);
  assert.equal(changed(8, 0xff), Reason.NDP_INVALID);
  // An option that is not known is passed over.
  assert.equal(changed(24, 77), Reason.OK);
  assert.equal(message.hasMac, false);
});

test('neighbour discovery: what is written is read', () => {
  const message = new NeighbourMessage();
  fc.assert(
    fc.property(fc.constantFrom(135, 136), word, word, word, half, word, (type, w1, w2, w3, hi, lo) => {
      const memory = new Uint8Array(40);
      const flags = NeighbourFlag.SOLICITED | NeighbourFlag.OVERRIDE;
      putNeighbour(viewOf(memory), 1, type, flags, 0x20010db8, w1, w2, w3, hi, lo);
      assert.equal(message.parse(viewOf(memory), 1, 32), Reason.OK);
      assert.deepEqual([message.target1, message.target2, message.target3, message.flags], [w1, w2, w3, flags]);
      assert.deepEqual([message.hasMac, message.macHi, message.macLo], [true, hi, lo]);
    }),
  );
});

test('UDP: what is written is read, and its checksum is that of the model', () => {
  const datagram = new UdpDatagram();
  const payloads = fc.uint8Array({ maxLength: 100 });
  fc.assert(
    fc.property(half, half, word, word, payloads, fc.boolean(), (from, to, source, destination, payload, odd) => {
      const at = odd ? 3 : 4;
      const memory = new Uint8Array(160);
      memory.set(payload, at + 8);
      const pseudo = pseudoSum4(source, destination, Protocol.UDP);
      putUdp(viewOf(memory), at, from, to, payload.length, payloadSum(viewOf(memory), at + 8, payload.length, pseudo));
      const length = 8 + payload.length;
      const header = new Uint8Array(12);
      new DataView(header.buffer).setInt32(0, source);
      new DataView(header.buffer).setInt32(4, destination);
      header[9] = 17;
      new DataView(header.buffer).setUint16(10, length);
      assert.equal(plainSum(header, memory.subarray(at, at + length)), 0xffff);
      assert.equal(datagram.parse(viewOf(memory), at, length + 5, pseudo, false, false), Reason.OK);
      assert.deepEqual(
        [datagram.sourcePort, datagram.destinationPort, datagram.payloadLength],
        [from, to, payload.length],
      );
    }),
  );
});

test('UDP: a checksum that comes out as zero is sent as all ones', () => {
  const memory = new Uint8Array(10);
  // Ports, length and payload chosen so that the sum is all ones before the complement.
  const pseudo = pseudoSum4(0x0a000001, 0x0a000002, Protocol.UDP);
  const others = plainSum(hex('0001 0002 000a 000a'), Uint8Array.of(pseudo >> 8, pseudo));
  const word16 = 0xffff - others;
  memory[8] = word16 >> 8;
  memory[9] = word16;
  putUdp(viewOf(memory), 0, 1, 2, 2, payloadSum(viewOf(memory), 8, 2, pseudo));
  assert.deepEqual([memory[6], memory[7]], [0xff, 0xff]);
  assert.equal(new UdpDatagram().parse(viewOf(memory), 0, 10, pseudo, false, false), Reason.OK);
});

test('UDP: every malformed datagram has its reason; no checksum is right for IPv4 only', () => {
  const datagram = new UdpDatagram();
  const bytes = hex('0035 0036 000a 0000 abcd');
  assert.equal(datagram.parse(viewOf(bytes), 0, 7, 0, true, false), Reason.UDP_SHORT);
  assert.equal(datagram.parse(viewOf(bytes), 0, 9, 0, true, false), Reason.UDP_LENGTH);
  assert.equal(datagram.parse(viewOf(bytes), 0, 10, 0, true, false), Reason.OK);
  assert.equal(datagram.parse(viewOf(bytes), 0, 10, 0, false, false), Reason.UDP_CHECKSUM);
  assert.equal(datagram.parse(viewOf(bytes), 0, 10, 0, false, true), Reason.UDP_CHECKSUM);
  bytes[7] = 1;
  assert.equal(datagram.parse(viewOf(bytes), 0, 10, 0, true, false), Reason.UDP_CHECKSUM);
  assert.equal(datagram.parse(viewOf(bytes), 0, 10, 0, true, true), Reason.UDP_CHECKSUM);
  bytes[7] = 10;
  assert.equal(datagram.parse(viewOf(bytes), 0, 10, 0, true, false), Reason.UDP_CHECKSUM);
  assert.equal(datagram.parse(viewOf(bytes), 0, 10, 0, true, true), Reason.OK);
  assert.equal(datagram.parse(viewOf(hex('0035 0036 0007 0000')), 0, 8, 0, true, false), Reason.UDP_LENGTH);
});

test('no parser throws or reads a length that is not there, whatever the bytes', () => {
  const ethernet = new EthernetFrame();
  const arp = new ArpPacket();
  const ip4 = new Ipv4Packet();
  const ip6 = new Ipv6Packet();
  const icmp = new IcmpMessage();
  const neighbour = new NeighbourMessage();
  const udp = new UdpDatagram();
  const quoted = new QuotedPacket();
  const first = fc.constantFrom(0x45, 0x46, 0x4f, 0x60, 0x87, 0x88, 0);
  const next = fc.constantFrom(0, 6, 17, 43, 44, 58, 60, 255);
  fc.assert(
    fc.property(
      fc.uint8Array({ maxLength: 120 }),
      first,
      next,
      fc.integer({ min: 0, max: 40 }),
      (bytes, b0, b6, from) => {
        const at = Math.min(from, bytes.length);
        const length = bytes.length - at;
        if (length > 0) bytes[at] = b0;
        if (length > 6) bytes[at + 6] = b6;
        if (length > 5 && b0 === 0x60) {
          bytes[at + 4] = 0;
          bytes[at + 5] = Math.max(0, length - 40);
        }
        const end = at + length;
        ethernet.parse(viewOf(bytes), at, length);
        arp.parse(viewOf(bytes), at, length);
        quoted.parse4(viewOf(bytes), at, length);
        quoted.parse6(viewOf(bytes), at, length);
        if (ip4.parse(viewOf(bytes), at, length) === Reason.OK) assert.ok(ip4.payloadAt + ip4.payloadLength <= end);
        if (ip6.parse(viewOf(bytes), at, length) === Reason.OK) {
          assert.ok(ip6.payloadLength >= 0 && ip6.payloadAt + ip6.payloadLength <= end);
        }
        if (icmp.parse(viewOf(bytes), at, length, 0) === Reason.OK) assert.equal(icmp.bodyAt + icmp.bodyLength, end);
        if (udp.parse(viewOf(bytes), at, length, 0, true, true) === Reason.OK)
          assert.ok(udp.payloadAt + udp.payloadLength <= end);
        neighbour.parse(viewOf(bytes), at, length);
      },
    ),
    { numRuns: 3000 },
  );
});
