/**
 * ICMP and ICMPv6 messages sent from here: echo replies and errors, each with a limit. It touches only what it is given:
 * the packet that is answered, the output and two token buckets.
 */
import type { HeapBuffer } from '../../ring/heap.ts';
import type { NetContext } from '../context.ts';
import { Flow, pseudoSum } from '../flow.ts';
import type { Arrival } from '../ip/arrival.ts';
import { Destination, type LocalAddresses } from '../ip/local-addresses.ts';
import type { IpOutput } from '../ip/output.ts';
import { TokenBucket } from '../ip/token-bucket.ts';
import { isBadSource, isUnspecified } from '../ip/words.ts';
import { fold } from '../wire/checksum.ts';
import { ICMP_HEADER_BYTES, IcmpType, isIcmpError, putIcmp, sealIcmp } from '../wire/icmp.ts';
import { Icmpv6Type } from '../wire/icmpv6.ts';
import { Ipv4Packet, Protocol } from '../wire/ipv4.ts';
import { IPV6_HEADER_BYTES, IPV6_MINIMUM_MTU, Ipv6Packet } from '../wire/ipv6.ts';
import { Reason } from '../wire/reason.ts';

/** Bytes of a packet that an IPv4 error quotes: the whole message is at most 576 (RFC 1812 4.3.2.3). */
const IPV4_QUOTE = 576 - 20 - ICMP_HEADER_BYTES;
/** The whole message is at most the least MTU (RFC 4443 2.4 (c)). */
const IPV6_QUOTE = IPV6_MINIMUM_MTU - IPV6_HEADER_BYTES - ICMP_HEADER_BYTES;

export interface IcmpLimits {
  readonly echoesPerSecond: number;
  readonly echoBurst: number;
  readonly errorsPerSecond: number;
  readonly errorBurst: number;
}

export const DEFAULT_ICMP_LIMITS: IcmpLimits = {
  echoesPerSecond: 10_000,
  echoBurst: 1000,
  errorsPerSecond: 100,
  errorBurst: 20,
};

export class IcmpSender {
  readonly #context: NetContext;
  readonly #addresses: LocalAddresses;
  readonly #output: IpOutput;
  readonly #echoes: TokenBucket;
  readonly #errors: TokenBucket;
  readonly #flow = new Flow();
  readonly #ip4 = new Ipv4Packet();
  readonly #ip6 = new Ipv6Packet();

  constructor(context: NetContext, addresses: LocalAddresses, output: IpOutput, limits: IcmpLimits) {
    this.#context = context;
    this.#addresses = addresses;
    this.#output = output;
    this.#echoes = new TokenBucket(limits.echoesPerSecond, limits.echoBurst, context.now);
    this.#errors = new TokenBucket(limits.errorsPerSecond, limits.errorBurst, context.now);
  }

  /** Answers an echo request: the same message with another type (RFC 792, RFC 4443 4.2). */
  echo(arrival: Arrival): void {
    const { counters, now } = this.#context;
    const packet = arrival.packet!;
    if (!arrival.unicast) {
      counters.drop(Reason.ICMP_GROUP);
      return;
    }
    if (!this.#echoes.take(now)) {
      counters.drop(Reason.ICMP_RATE);
      return;
    }
    const reply = this.#context.alloc(arrival.length);
    if (reply === null) return;
    const { memory, offset } = reply;
    if (memory === packet.memory) memory.copyWithin(offset, arrival.at, arrival.at + arrival.length);
    else memory.set(packet.memory.subarray(arrival.at, arrival.at + arrival.length), offset);
    memory[offset] = arrival.flow.family === 4 ? IcmpType.ECHO_REPLY : Icmpv6Type.ECHO_REPLY;
    counters.echoesAnswered++;
    this.send(this.#flow.copy(arrival.flow), reply);
  }

  /**
   * Tells a packet's sender what became of it, unless a rule forbids that (RFC 1122 3.2.2, RFC 4443 2.4 (e)): never
   * about an ICMP error, a fragment but the first, a packet to a group, or one whose source is not one host; and never
   * more often than the limit allows.
   * @param word the second word of the message
   */
  error(packet: HeapBuffer, at: number, family: number, type: number, code: number, word: number): void {
    const { counters, now } = this.#context;
    const length = packet.offset + packet.length - at;
    const quoted = family === 4 ? this.#readable4(packet, at, length) : this.#readable6(packet, at, length);
    if (quoted === 0) return;
    if (!this.#errors.take(now)) {
      counters.errorsWithheld++;
      return;
    }
    const bytes = Math.min(quoted, family === 4 ? IPV4_QUOTE : IPV6_QUOTE);
    const message = this.#context.alloc(ICMP_HEADER_BYTES + bytes);
    if (message === null) return;
    const { memory, offset } = message;
    putIcmp(message.view, offset, type, code, word);
    const body = offset + ICMP_HEADER_BYTES;
    if (memory === packet.memory) memory.copyWithin(body, at, at + bytes);
    else memory.set(packet.memory.subarray(at, at + bytes), body);
    counters.errorsSent++;
    this.send(this.#flow, message);
  }

  /** Completes a message's checksum and sends it. */
  send(flow: Flow, message: HeapBuffer, hopLimit?: number): void {
    const { view, offset, length } = message;
    if (flow.family === 4) {
      sealIcmp(view, offset, length, 0);
      this.#output.send(flow, Protocol.ICMP, message, null, 0, 0, hopLimit);
      return;
    }
    sealIcmp(view, offset, length, fold(pseudoSum(flow, Protocol.ICMPV6) + length));
    this.#output.send(flow, Protocol.ICMPV6, message, null, 0, 0, hopLimit);
  }

  /** Fills in the flow back to the sender; the length of the packet, or 0 where it is not to be told. */
  #readable4(packet: HeapBuffer, at: number, length: number): number {
    const ip = this.#ip4;
    if (ip.parse(packet.view, at, length) !== Reason.OK || ip.fragmentOffset !== 0) return 0;
    if (isBadSource(4, 0, ip.source) || this.#addresses.isBroadcast(ip.source)) return 0;
    if (!this.#addresses.isLocal(4, 0, 0, 0, ip.destination)) return 0;
    if (ip.protocol === Protocol.ICMP && (ip.payloadLength === 0 || isIcmpError(packet.memory[ip.payloadAt]!)))
      return 0;
    const flow = this.#flow;
    flow.family = 4;
    flow.local0 = flow.local1 = flow.local2 = 0;
    flow.local3 = ip.destination;
    flow.remote0 = flow.remote1 = flow.remote2 = 0;
    flow.remote3 = ip.source;
    flow.route = -1;
    return ip.totalLength;
  }

  #readable6(packet: HeapBuffer, at: number, length: number): number {
    const ip = this.#ip6;
    // A packet whose extension headers are the problem is not read to its end.
    ip.parse(packet.view, at, length);
    if (length < IPV6_HEADER_BYTES || ip.fragmentOffset !== 0) return 0;
    const { source0, source1, source2, source3 } = ip;
    if (isBadSource(6, source0, source3) || isUnspecified(source0, source1, source2, source3)) return 0;
    const { destination0, destination1, destination2, destination3 } = ip;
    if (this.#addresses.kind6(destination0, destination1, destination2, destination3) !== Destination.UNICAST) {
      if (!this.#addresses.isLocal(6, destination0, destination1, destination2, destination3)) return 0;
    }
    // Errors are the types below 128.
    if (ip.protocol === Protocol.ICMPV6 && (ip.payloadLength === 0 || packet.memory[ip.payloadAt]! < 128)) return 0;
    const flow = this.#flow;
    flow.family = 6;
    flow.local0 = destination0;
    flow.local1 = destination1;
    flow.local2 = destination2;
    flow.local3 = destination3;
    flow.remote0 = source0;
    flow.remote1 = source1;
    flow.remote2 = source2;
    flow.remote3 = source3;
    flow.route = -1;
    return IPV6_HEADER_BYTES + packet.view.getUint16(at + 4);
  }
}
