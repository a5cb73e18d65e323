/**
 * The way up for an IP packet: checked, found to be for us, put together where it came in pieces, and handed on.
 * It fills in one Arrival for each packet and keeps nothing but fragments.
 */
import type { HeapBuffer } from '../../ring/heap.ts';
import type { NetContext } from '../context.ts';
import { IcmpType, IcmpUnreachable } from '../wire/icmp.ts';
import { Icmpv6Type } from '../wire/icmpv6.ts';
import { Ipv4Packet, Protocol } from '../wire/ipv4.ts';
import { Ipv6Packet, ParameterProblem } from '../wire/ipv6.ts';
import { Reason } from '../wire/reason.ts';
import { Arrival } from './arrival.ts';
import { Destination, type LocalAddresses } from './local-addresses.ts';
import { FragmentInfo, type Reassembly } from './reassembly.ts';
import { isBadSource, isLoopback } from './words.ts';

/** What happens to a packet that is for us. */
export interface Upper {
  /** True where the protocol is read here; then it has been handed on. */
  deliver(arrival: Arrival): boolean;
  /** Tells the sender what was wrong with a packet. */
  complain(packet: HeapBuffer, ipAt: number, family: number, type: number, code: number, word: number): void;
}

export class IpInput {
  readonly #context: NetContext;
  readonly #addresses: LocalAddresses;
  readonly #reassembly: Reassembly;
  readonly #upper: Upper;
  readonly #ip4 = new Ipv4Packet();
  readonly #ip6 = new Ipv6Packet();
  readonly #arrival = new Arrival();
  readonly #fragment = new FragmentInfo();

  constructor(context: NetContext, addresses: LocalAddresses, reassembly: Reassembly, upper: Upper) {
    this.#context = context;
    this.#addresses = addresses;
    this.#reassembly = reassembly;
    this.#upper = upper;
  }

  /**
   * Takes an IPv4 packet: `length` bytes at `at`, padding included; `packet` is borrowed.
   * @param toGroup the frame was to more than one station
   * @param local it comes from ourselves
   */
  input4(packet: HeapBuffer, at: number, length: number, toGroup: boolean, local: boolean, joined = false): void {
    const { counters } = this.#context;
    const ip = this.#ip4;
    counters.ip4In++;
    const reason = ip.parse(packet.view, at, length);
    if (reason !== Reason.OK) {
      counters.drop(reason);
      return;
    }
    const { source, destination } = ip;
    const kind = this.#addresses.kind4(destination);
    if (local) {
      if (kind === Destination.OTHER && !isLoopback(4, 0, 0, 0, destination)) {
        counters.drop(Reason.IP_NOT_OURS);
        return;
      }
    } else if (this.#cannotBeSource4(source)) {
      counters.drop(Reason.IP_SOURCE);
      return;
    } else if (kind === Destination.OTHER) {
      counters.drop(Reason.IP_NOT_OURS);
      return;
    } else if (kind === Destination.UNICAST && toGroup) {
      counters.drop(Reason.IP_LINK_BROADCAST);
      return;
    }

    if (ip.moreFragments || ip.fragmentOffset !== 0) {
      this.#fragment4(packet, at, toGroup, local);
      return;
    }
    const arrival = this.#arrival;
    const { flow } = arrival;
    arrival.packet = packet;
    arrival.ipAt = at;
    arrival.protocol = ip.protocol;
    arrival.protocolOffset = 9;
    arrival.at = ip.payloadAt;
    arrival.length = ip.payloadLength;
    arrival.hopLimit = ip.timeToLive;
    arrival.unicast = kind === Destination.UNICAST || kind === Destination.OTHER;
    arrival.fragmented = joined;
    arrival.local = local;
    flow.family = 4;
    flow.local0 = flow.local1 = flow.local2 = 0;
    flow.local3 = destination;
    flow.remote0 = flow.remote1 = flow.remote2 = 0;
    flow.remote3 = source;
    flow.route = -1;
    if (!this.#upper.deliver(arrival)) {
      counters.drop(Reason.IP_PROTOCOL);
      if (arrival.unicast) {
        this.#upper.complain(packet, at, 4, IcmpType.UNREACHABLE, IcmpUnreachable.PROTOCOL, 0);
      }
    }
    arrival.packet = null;
  }

  /** Takes an IPv6 packet, as {@link IpInput.input4}. */
  input6(packet: HeapBuffer, at: number, length: number, toGroup: boolean, local: boolean, joined = false): void {
    const { counters } = this.#context;
    const ip = this.#ip6;
    counters.ip6In++;
    const reason = ip.parse(packet.view, at, length);
    if (reason !== Reason.OK && ip.problem === ParameterProblem.NONE) {
      counters.drop(reason);
      return;
    }
    const { destination0, destination1, destination2, destination3, source0, source1, source2, source3 } = ip;
    const kind = this.#addresses.kind6(destination0, destination1, destination2, destination3);
    if (local) {
      if (kind === Destination.OTHER && !isLoopback(6, destination0, destination1, destination2, destination3)) {
        counters.drop(Reason.IP_NOT_OURS);
        return;
      }
    } else if (isBadSource(6, source0, source3) || this.#isOurs(source0, source1, source2, source3)) {
      counters.drop(Reason.IP_SOURCE);
      return;
    } else if (kind === Destination.OTHER) {
      counters.drop(Reason.IP_NOT_OURS);
      return;
    } else if (kind === Destination.UNICAST && toGroup) {
      counters.drop(Reason.IP_LINK_BROADCAST);
      return;
    }
    if (reason !== Reason.OK) {
      counters.drop(reason);
      if (kind === Destination.UNICAST) {
        this.#upper.complain(packet, at, 6, Icmpv6Type.PARAMETER_PROBLEM, ip.problem, ip.problemPointer);
      }
      return;
    }
    if (ip.hasFragment && (ip.moreFragments || ip.fragmentOffset !== 0)) {
      this.#fragment6(packet, at, toGroup, local, kind === Destination.UNICAST);
      return;
    }
    const arrival = this.#arrival;
    const { flow } = arrival;
    arrival.packet = packet;
    arrival.ipAt = at;
    arrival.protocol = ip.protocol;
    arrival.protocolOffset = ip.protocolOffset;
    arrival.at = ip.payloadAt;
    arrival.length = ip.payloadLength;
    arrival.hopLimit = ip.hopLimit;
    arrival.unicast = kind === Destination.UNICAST || kind === Destination.OTHER;
    arrival.fragmented = joined || ip.hasFragment;
    arrival.local = local;
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
    if (!this.#upper.deliver(arrival)) {
      counters.drop(Reason.IP_PROTOCOL);
      if (arrival.unicast && ip.protocol !== Protocol.NONE) {
        const { NEXT_HEADER } = ParameterProblem;
        this.#upper.complain(packet, at, 6, Icmpv6Type.PARAMETER_PROBLEM, NEXT_HEADER, arrival.protocolOffset);
      }
    }
    arrival.packet = null;
  }

  #cannotBeSource4(source: number): boolean {
    if (isBadSource(4, 0, source) || source >>> 24 === 127) return true;
    return this.#addresses.owns(4, 0, 0, 0, source) || this.#addresses.isBroadcast(source);
  }

  #isOurs(w0: number, w1: number, w2: number, w3: number): boolean {
    return this.#addresses.isLocal(6, w0, w1, w2, w3);
  }

  #fragment4(packet: HeapBuffer, at: number, toGroup: boolean, local: boolean): void {
    const ip = this.#ip4;
    const info = this.#fragment;
    info.family = 4;
    info.source0 = info.source1 = info.source2 = 0;
    info.source3 = ip.source;
    info.destination0 = info.destination1 = info.destination2 = 0;
    info.destination3 = ip.destination;
    info.protocol = ip.protocol;
    info.identification = ip.identification;
    info.offset = ip.fragmentOffset;
    info.more = ip.moreFragments;
    info.packetAt = at;
    info.headerLength = ip.headerLength;
    info.dataAt = ip.payloadAt;
    info.dataLength = ip.payloadLength;
    const whole = this.#reassembly.add(packet, info);
    if (whole === null) return;
    this.input4(whole, whole.offset, whole.length, toGroup, local, true);
    whole.release();
  }

  #fragment6(packet: HeapBuffer, at: number, toGroup: boolean, local: boolean, unicast: boolean): void {
    const ip = this.#ip6;
    const info = this.#fragment;
    if (ip.fragmentOffset === 0 && ip.payloadLength < leastUpper(ip.protocol)) {
      this.#context.counters.drop(Reason.FRAGMENT_HEADERS);
      return;
    }
    info.family = 6;
    info.source0 = ip.source0;
    info.source1 = ip.source1;
    info.source2 = ip.source2;
    info.source3 = ip.source3;
    info.destination0 = ip.destination0;
    info.destination1 = ip.destination1;
    info.destination2 = ip.destination2;
    info.destination3 = ip.destination3;
    info.protocol = 0;
    info.identification = ip.identification;
    info.offset = ip.fragmentOffset;
    info.more = ip.moreFragments;
    info.packetAt = at;
    info.headerLength = ip.fragmentHeaderOffset;
    info.nameOffset = ip.fragmentNameOffset;
    info.nextHeader = ip.protocol;
    info.dataAt = ip.payloadAt;
    info.dataLength = ip.payloadLength;
    // RFC 8200 4.5: the length of a fragment that is not the last, or one that ends too far, is a problem to tell of.
    if (unicast && ip.moreFragments && (ip.payloadLength & 7) !== 0) {
      this.#upper.complain(packet, at, 6, Icmpv6Type.PARAMETER_PROBLEM, ParameterProblem.FIELD, 4);
    }
    const whole = this.#reassembly.add(packet, info);
    if (whole === null) return;
    this.input6(whole, whole.offset, whole.length, toGroup, local, true);
    whole.release();
  }
}

/** Bytes of the upper header that a first fragment must hold (RFC 7112). */
function leastUpper(protocol: number): number {
  if (protocol === Protocol.TCP) return 20;
  return protocol === Protocol.UDP || protocol === Protocol.ICMPV6 ? 8 : 1;
}
