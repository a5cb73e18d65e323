/**
 * ARP for one interface (RFC 826, with RFC 5227's announcements and defence): questions answered and asked, conflicts
 * noticed. What is learned goes to the neighbour cache.
 */
import type { NetContext } from './context.ts';
import type { LocalAddresses } from './ip/local-addresses.ts';
import type { Routes } from './ip/routes.ts';
import { isBadSource } from './ip/words.ts';
import { transmitFrame } from './link.ts';
import type { Neighbour } from './neighbour.ts';
import type { Neighbours } from './neighbours.ts';
import { ARP_BYTES, ArpOperation, ArpPacket, putArp } from './wire/arp.ts';
import { BROADCAST_HI, BROADCAST_LO, EtherType } from './wire/ethernet.ts';
import { Reason } from './wire/reason.ts';

/** An address is defended at most once in this time (RFC 5227 2.4). */
export const DEFEND_INTERVAL_MS = 10_000;

export class Arp {
  readonly #context: NetContext;
  readonly #addresses: LocalAddresses;
  readonly #routes: Routes;
  readonly #neighbours: Neighbours;
  readonly #packet = new ArpPacket();
  #defendedAt = Number.NEGATIVE_INFINITY;

  constructor(context: NetContext, addresses: LocalAddresses, routes: Routes, neighbours: Neighbours) {
    this.#context = context;
    this.#addresses = addresses;
    this.#routes = routes;
    this.#neighbours = neighbours;
  }

  /** Takes an ARP packet of `length` bytes at `at`. */
  input(view: DataView, at: number, length: number): void {
    const { counters, device } = this.#context;
    const packet = this.#packet;
    const reason = packet.parse(view, at, length);
    if (reason !== Reason.OK) {
      counters.drop(reason);
      return;
    }
    const { senderAddress, senderHi, senderLo, targetAddress } = packet;
    if (this.#addresses.owns(4, 0, 0, 0, senderAddress)) {
      if (senderHi !== device.macHi || senderLo !== device.macLo) this.#defend(senderAddress);
      return;
    }
    // 0.0.0.0 asks whether an address is free (RFC 5227 2.1.1): answered, and nothing learned.
    const probe = senderAddress === 0;
    if (!probe && (isBadSource(4, 0, senderAddress) || this.#addresses.isBroadcast(senderAddress))) {
      counters.drop(Reason.ARP_SENDER);
      return;
    }
    const onLink = !probe && this.#isOnLink(senderAddress);
    const forUs = this.#addresses.owns(4, 0, 0, 0, targetAddress);
    if (packet.operation === ArpOperation.REPLY) {
      counters.arpRepliesIn++;
      if (!onLink) {
        counters.drop(Reason.ARP_SENDER);
        return;
      }
      if (forUs && this.#neighbours.isAsked(4, 0, 0, 0, senderAddress)) {
        this.#neighbours.heardAnswer(4, 0, 0, 0, senderAddress, true, senderHi, senderLo, true, true);
      } else this.#neighbours.heardUnasked(4, 0, 0, 0, senderAddress, senderHi, senderLo);
      return;
    }
    counters.arpRequestsIn++;
    if (!forUs) {
      if (onLink) this.#neighbours.heardUnasked(4, 0, 0, 0, senderAddress, senderHi, senderLo);
      return;
    }
    if (onLink) this.#neighbours.heardQuestion(4, 0, 0, 0, senderAddress, senderHi, senderLo);
    counters.arpRepliesOut++;
    this.#send(ArpOperation.REPLY, senderHi, senderLo, targetAddress, senderHi, senderLo, senderAddress);
  }

  /** Asks for a neighbour's hardware address. */
  solicit(neighbour: Neighbour, unicast: boolean): void {
    const source = this.#addresses.sourceFor(4, 0, 0, 0, neighbour.w3);
    if (source === null) return;
    this.#context.counters.arpRequestsOut++;
    const hi = unicast ? neighbour.macHi : BROADCAST_HI;
    const lo = unicast ? neighbour.macLo : BROADCAST_LO;
    this.#send(ArpOperation.REQUEST, hi, lo, source.w3, 0, 0, neighbour.w3);
  }

  /** Says to all whose an address is (RFC 5227 2.3): a request for it from itself. */
  announce(address: number): void {
    this.#context.counters.arpRequestsOut++;
    this.#send(ArpOperation.REQUEST, BROADCAST_HI, BROADCAST_LO, address, 0, 0, address);
  }

  /** RFC 5227 2.4 (b). */
  #defend(address: number): void {
    const { counters, now } = this.#context;
    counters.drop(Reason.ARP_CONFLICT);
    if (now - this.#defendedAt < DEFEND_INTERVAL_MS) return;
    this.#defendedAt = now;
    this.announce(address);
  }

  /** An address that packets are sent to directly. A router need not be in a network of ours. */
  #isOnLink(address: number): boolean {
    const route = this.#routes.find(4, 0, 0, 0, address);
    return (route !== null && route.gateway === null) || this.#isGateway(address);
  }

  #isGateway(address: number): boolean {
    for (const route of this.#routes.list) if (route.family === 4 && route.gateway?.w3 === address) return true;
    return false;
  }

  #send(
    operation: number,
    macHi: number,
    macLo: number,
    senderAddress: number,
    targetHi: number,
    targetLo: number,
    targetAddress: number,
  ): void {
    const context = this.#context;
    const packet = context.alloc(ARP_BYTES);
    if (packet === null) return;
    const { macHi: ownHi, macLo: ownLo } = context.device;
    const { view, offset } = packet;
    putArp(view, offset, operation, ownHi, ownLo, senderAddress, targetHi, targetLo, targetAddress);
    transmitFrame(context, macHi, macLo, EtherType.ARP, packet, null, 0, 0);
  }
}
