/**
 * IPv6 neighbour discovery for one interface (RFC 4861): solicitations answered and asked, advertisements heard. What is
 * learned goes to the neighbour cache.
 *
 * Router advertisements and redirects are not believed: routes and addresses are configured. Our own addresses are not
 * tested for duplicates before use (RFC 4862 5.4 allows that by configuration); another host's test is answered, and
 * another host's claim to one of them is counted.
 */
import type { HeapBuffer } from '../ring/heap.ts';
import type { NetContext } from './context.ts';
import { Flow, pseudoSum } from './flow.ts';
import type { Arrival } from './ip/arrival.ts';
import type { LocalAddress, LocalAddresses } from './ip/local-addresses.ts';
import { isUnspecified } from './ip/words.ts';
import { transmitFrame } from './link.ts';
import type { Neighbour } from './neighbour.ts';
import type { Neighbours } from './neighbours.ts';
import { fold } from './wire/checksum.ts';
import { EtherType, groupMacHi, groupMacLo, isStation } from './wire/ethernet.ts';
import { sealIcmp } from './wire/icmp.ts';
import { Icmpv6Type, NEIGHBOUR_BYTES, NeighbourFlag, NeighbourMessage, putNeighbour } from './wire/icmpv6.ts';
import { Protocol } from './wire/ipv4.ts';
import { IPV6_HEADER_BYTES, putAddress6, putIpv6 } from './wire/ipv6.ts';
import { Reason } from './wire/reason.ts';

/** Neighbour discovery never comes through a router (RFC 4861 7.1). */
const HOP_LIMIT = 255;
const ALL_NODES_0 = 0xff020000 | 0;

export class Ndp {
  readonly #context: NetContext;
  readonly #addresses: LocalAddresses;
  readonly #neighbours: Neighbours;
  readonly #message = new NeighbourMessage();
  readonly #flow = new Flow();

  constructor(context: NetContext, addresses: LocalAddresses, neighbours: Neighbours) {
    this.#context = context;
    this.#addresses = addresses;
    this.#neighbours = neighbours;
  }

  /** Takes a message of neighbour discovery whose checksum is right. */
  input(arrival: Arrival): void {
    const { counters } = this.#context;
    if (arrival.hopLimit !== HOP_LIMIT) {
      counters.drop(Reason.NDP_HOP_LIMIT);
      return;
    }
    if (arrival.fragmented) {
      counters.drop(Reason.NDP_FRAGMENT);
      return;
    }
    const { view } = arrival.packet!;
    const type = view.getUint8(arrival.at);
    const { NEIGHBOUR_ADVERTISEMENT, NEIGHBOUR_SOLICITATION } = Icmpv6Type;
    if (type !== NEIGHBOUR_SOLICITATION && type !== NEIGHBOUR_ADVERTISEMENT) {
      counters.drop(Reason.NDP_IGNORED);
      return;
    }
    const message = this.#message;
    const reason = message.parse(view, arrival.at, arrival.length);
    if (reason !== Reason.OK) {
      counters.drop(reason);
      return;
    }
    if (message.hasMac && !isStation(message.macHi, message.macLo)) {
      counters.drop(Reason.NDP_INVALID);
      return;
    }
    if (type === NEIGHBOUR_SOLICITATION) this.#solicited(arrival.flow, arrival.unicast);
    else this.#advertised(arrival.unicast);
  }

  /** RFC 4861 7.2.3 and 7.2.4. */
  #solicited(flow: Flow, unicast: boolean): void {
    const { counters } = this.#context;
    const { target0, target1, target2, target3, hasMac, macHi, macLo } = this.#message;
    counters.solicitationsIn++;
    const { remote0, remote1, remote2, remote3 } = flow;
    const test = isUnspecified(remote0, remote1, remote2, remote3);
    // A test for a duplicate goes to the solicited-node group and names no hardware address (RFC 4861 7.1.1).
    const toSolicited = flow.local0 === ALL_NODES_0 && flow.local1 === 0 && flow.local2 === 1;
    if (test && (hasMac || !toSolicited)) {
      counters.drop(Reason.NDP_INVALID);
      return;
    }
    if (!this.#addresses.owns(6, target0, target1, target2, target3)) {
      counters.drop(Reason.NDP_NOT_OURS);
      return;
    }
    if (test) {
      this.advertise(target0, target1, target2, target3);
      return;
    }
    if (hasMac) this.#neighbours.heardQuestion(6, remote0, remote1, remote2, remote3, macHi, macLo);
    else if (!unicast) {
      counters.drop(Reason.NDP_INVALID);
      return;
    }
    const neighbour = this.#neighbours.resolve(6, remote0, remote1, remote2, remote3);
    if (neighbour === null) return;
    const packet = this.#packet(
      Icmpv6Type.NEIGHBOUR_ADVERTISEMENT,
      NeighbourFlag.SOLICITED | NeighbourFlag.OVERRIDE,
      this.#message,
      this.#ends(target0, target1, target2, target3, remote0, remote1, remote2, remote3),
    );
    if (packet === null) return;
    counters.advertisementsOut++;
    this.#neighbours.send(neighbour, packet, null, 0, 0);
  }

  /** RFC 4861 7.2.5. */
  #advertised(unicast: boolean): void {
    const { counters } = this.#context;
    const { target0, target1, target2, target3, hasMac, macHi, macLo, flags } = this.#message;
    counters.advertisementsIn++;
    const solicited = (flags & NeighbourFlag.SOLICITED) !== 0;
    if (solicited && !unicast) {
      counters.drop(Reason.NDP_INVALID);
      return;
    }
    if (this.#addresses.owns(6, target0, target1, target2, target3)) {
      counters.drop(Reason.NDP_CONFLICT);
      return;
    }
    const override = (flags & NeighbourFlag.OVERRIDE) !== 0;
    this.#neighbours.heardAnswer(6, target0, target1, target2, target3, hasMac, macHi, macLo, solicited, override);
  }

  /** Asks for a neighbour's hardware address: its solicited-node group, or where it is known itself. */
  solicit(neighbour: Neighbour, unicast: boolean): void {
    const { w0, w1, w2, w3 } = neighbour;
    const source = this.#addresses.sourceFor(6, w0, w1, w2, w3);
    if (source === null) return;
    const group3 = 0xff000000 | (w3 & 0xffffff);
    const ends = unicast
      ? this.#ends(source.w0, source.w1, source.w2, source.w3, w0, w1, w2, w3)
      : this.#ends(source.w0, source.w1, source.w2, source.w3, ALL_NODES_0, 0, 1, group3);
    const target = this.#target(w0, w1, w2, w3);
    const packet = this.#packet(Icmpv6Type.NEIGHBOUR_SOLICITATION, 0, target, ends);
    if (packet === null) return;
    this.#context.counters.solicitationsOut++;
    const hi = unicast ? neighbour.macHi : groupMacHi(6);
    const lo = unicast ? neighbour.macLo : groupMacLo(6, group3);
    transmitFrame(this.#context, hi, lo, EtherType.IPV6, packet, null, 0, 0);
  }

  /** Says to all nodes whose an address is (RFC 4861 7.2.6). */
  advertise(w0: number, w1: number, w2: number, w3: number): void {
    const ends = this.#ends(w0, w1, w2, w3, ALL_NODES_0, 0, 0, 1);
    const target = this.#target(w0, w1, w2, w3);
    const packet = this.#packet(Icmpv6Type.NEIGHBOUR_ADVERTISEMENT, NeighbourFlag.OVERRIDE, target, ends);
    if (packet === null) return;
    this.#context.counters.advertisementsOut++;
    transmitFrame(this.#context, groupMacHi(6), groupMacLo(6, 1), EtherType.IPV6, packet, null, 0, 0);
  }

  announce(address: LocalAddress): void {
    this.advertise(address.w0, address.w1, address.w2, address.w3);
  }

  #target(w0: number, w1: number, w2: number, w3: number): NeighbourMessage {
    const message = this.#message;
    message.target0 = w0;
    message.target1 = w1;
    message.target2 = w2;
    message.target3 = w3;
    return message;
  }

  #ends(l0: number, l1: number, l2: number, l3: number, r0: number, r1: number, r2: number, r3: number): Flow {
    const flow = this.#flow;
    flow.family = 6;
    flow.local0 = l0;
    flow.local1 = l1;
    flow.local2 = l2;
    flow.local3 = l3;
    flow.remote0 = r0;
    flow.remote1 = r1;
    flow.remote2 = r2;
    flow.remote3 = r3;
    return flow;
  }

  /** A whole IPv6 packet about the message's target. */
  #packet(type: number, flags: number, target: NeighbourMessage, ends: Flow): HeapBuffer | null {
    const packet = this.#context.alloc(NEIGHBOUR_BYTES);
    if (packet === null) return null;
    const { view, offset } = packet;
    const { macHi, macLo } = this.#context.device;
    const { target0, target1, target2, target3 } = target;
    const { local0, local1, local2, local3, remote0, remote1, remote2, remote3 } = ends;
    putNeighbour(view, offset, type, flags, target0, target1, target2, target3, macHi, macLo);
    sealIcmp(view, offset, NEIGHBOUR_BYTES, fold(pseudoSum(ends, Protocol.ICMPV6) + NEIGHBOUR_BYTES));
    packet.offset -= IPV6_HEADER_BYTES;
    packet.length += IPV6_HEADER_BYTES;
    putIpv6(view, packet.offset, 0, NEIGHBOUR_BYTES, Protocol.ICMPV6, HOP_LIMIT);
    putAddress6(view, packet.offset + 8, local0, local1, local2, local3);
    putAddress6(view, packet.offset + 24, remote0, remote1, remote2, remote3);
    return packet;
  }
}
