/**
 * One line of text for each frame that passes, in the manner of tcpdump. A device around a device, and a frame input in
 * front of a frame input; frames are only read. Not for hot paths: every line is a string.
 */
import type { HeapBuffer } from '../../ring/heap.ts';
import type { Device, FrameInput } from '../device.ts';
import { textOfWords } from '../ip/words.ts';
import { ArpOperation, ArpPacket } from '../wire/arp.ts';
import { EthernetFrame, EtherType } from '../wire/ethernet.ts';
import { Ipv4Packet, Protocol } from '../wire/ipv4.ts';
import { Ipv6Packet } from '../wire/ipv6.ts';
import { REASON_NAMES, Reason } from '../wire/reason.ts';
import { Flag, TcpSegment } from '../wire/tcp.ts';
import { DeviceAround } from './around.ts';

/** What a frame is: `10.0.0.1:5000 > 10.0.0.2:80 tcp SYN seq 1 ack 0 win 65535 len 0`. `length` bytes are at `at`. */
export function describeFrame(view: DataView, at: number, length: number): string {
  const frame = new EthernetFrame();
  const reason = frame.parse(view, at, length);
  if (reason !== Reason.OK) return `malformed: ${REASON_NAMES[reason]}, ${length} bytes`;
  switch (frame.type) {
    case EtherType.ARP:
      return describeArp(view, frame.payloadAt, frame.payloadLength);
    case EtherType.IPV4:
      return describeIp4(view, frame.payloadAt, frame.payloadLength);
    case EtherType.IPV6:
      return describeIp6(view, frame.payloadAt, frame.payloadLength);
    default:
      return `type ${frame.type.toString(16).padStart(4, '0')}, ${length} bytes`;
  }
}

function describeArp(view: DataView, at: number, length: number): string {
  const arp = new ArpPacket();
  const reason = arp.parse(view, at, length);
  if (reason !== Reason.OK) return `arp malformed: ${REASON_NAMES[reason]}`;
  const sender = textOfWords(4, 0, 0, 0, arp.senderAddress);
  const target = textOfWords(4, 0, 0, 0, arp.targetAddress);
  if (arp.operation === ArpOperation.REQUEST) return `arp who has ${target}, tell ${sender}`;
  return `arp ${sender} is at ${macText(arp.senderHi, arp.senderLo)}`;
}

function describeIp4(view: DataView, at: number, length: number): string {
  const ip = new Ipv4Packet();
  const reason = ip.parse(view, at, length);
  if (reason !== Reason.OK) return `ip malformed: ${REASON_NAMES[reason]}`;
  const source = textOfWords(4, 0, 0, 0, ip.source);
  const destination = textOfWords(4, 0, 0, 0, ip.destination);
  if (ip.fragmentOffset !== 0 || ip.moreFragments) {
    const more = ip.moreFragments ? '+' : '';
    return `${source} > ${destination} fragment ${ip.identification} ${ip.fragmentOffset}${more} len ${ip.payloadLength}`;
  }
  return describeUpper(view, ip.payloadAt, ip.payloadLength, ip.protocol, source, destination);
}

function describeIp6(view: DataView, at: number, length: number): string {
  const ip = new Ipv6Packet();
  const reason = ip.parse(view, at, length);
  if (reason !== Reason.OK) return `ip6 malformed: ${REASON_NAMES[reason]}`;
  const source = textOfWords(6, ip.source0, ip.source1, ip.source2, ip.source3);
  const destination = textOfWords(6, ip.destination0, ip.destination1, ip.destination2, ip.destination3);
  if (ip.fragmentOffset !== 0 || ip.moreFragments) {
    const more = ip.moreFragments ? '+' : '';
    const id = ip.identification >>> 0;
    return `${source} > ${destination} fragment ${id} ${ip.fragmentOffset}${more} len ${ip.payloadLength}`;
  }
  return describeUpper(view, ip.payloadAt, ip.payloadLength, ip.protocol, source, destination);
}

function describeUpper(
  view: DataView,
  at: number,
  length: number,
  protocol: number,
  source: string,
  destination: string,
): string {
  const v6 = source.includes(':');
  const end = (host: string, port: number): string => (v6 ? `[${host}]:${port}` : `${host}:${port}`);
  const ports = (what: string): string =>
    `${end(source, view.getUint16(at))} > ${end(destination, view.getUint16(at + 2))} ${what}`;
  switch (protocol) {
    case Protocol.TCP:
      return describeTcp(view, at, length, ports) ?? `${source} > ${destination} tcp malformed`;
    case Protocol.UDP:
      if (length < 8) return `${source} > ${destination} udp malformed`;
      return ports(`udp len ${length - 8}`);
    case Protocol.ICMP:
    case Protocol.ICMPV6:
      if (length < 8) return `${source} > ${destination} icmp malformed`;
      return `${source} > ${destination} icmp${v6 ? '6' : ''} type ${view.getUint8(at)} code ${view.getUint8(at + 1)} len ${length - 8}`;
    default:
      return `${source} > ${destination} protocol ${protocol} len ${length}`;
  }
}

function describeTcp(view: DataView, at: number, length: number, ports: (what: string) => string): string | null {
  const segment = new TcpSegment();
  if (!segment.parse(view, at, length)) return null;
  const flags = Object.entries(Flag)
    .filter(([, bit]) => (segment.flags & bit) !== 0)
    .map(([name]) => name)
    .join('+');
  const { seq, ack, window, dataLength } = segment;
  return ports(`tcp ${flags || 'none'} seq ${seq >>> 0} ack ${ack >>> 0} win ${window} len ${dataLength}`);
}

function macText(hi: number, lo: number): string {
  const digits = hi.toString(16).padStart(4, '0') + (lo >>> 0).toString(16).padStart(8, '0');
  return digits.replace(/..(?=.)/g, '$&:');
}

/** Gets each line: the time in ms, `<` (in) or `>` (out), and what the frame is. */
export type TraceSink = (line: string) => void;

function line(now: number, mark: string, what: string): string {
  return `${now.toFixed(3)} ${mark} ${what}`;
}

/** A device whose outgoing frames are told of. */
export class TraceDevice extends DeviceAround {
  readonly #now: () => number;
  readonly #sink: TraceSink;

  constructor(inner: Device, now: () => number, sink: TraceSink) {
    super(inner);
    this.#now = now;
    this.#sink = sink;
  }

  transmit(packet: HeapBuffer, payload: HeapBuffer | null, payloadOffset: number, payloadLength: number): void {
    // One piece, because headers are read with the length of the whole packet.
    const whole = new Uint8Array(packet.length + payloadLength);
    whole.set(packet.memory.subarray(packet.offset, packet.offset + packet.length));
    if (payload !== null) {
      whole.set(payload.memory.subarray(payloadOffset, payloadOffset + payloadLength), packet.length);
    }
    this.#sink(line(this.#now(), '>', describeFrame(new DataView(whole.buffer), 0, whole.length)));
    this.inner.transmit(packet, payload, payloadOffset, payloadLength);
  }
}

/** A frame input whose frames are told of before they go on. */
export class TraceInput implements FrameInput {
  readonly #inner: FrameInput;
  readonly #now: () => number;
  readonly #sink: TraceSink;

  constructor(inner: FrameInput, now: () => number, sink: TraceSink) {
    this.#inner = inner;
    this.#now = now;
    this.#sink = sink;
  }

  input(frame: HeapBuffer): void {
    this.#sink(line(this.#now(), '<', describeFrame(frame.view, frame.offset, frame.length)));
    this.#inner.input(frame);
  }
}
