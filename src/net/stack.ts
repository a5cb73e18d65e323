/**
 * One interface's TCP/IP below and beside TCP: frames in, frames out, and the parts tied together (docs/design/net.md).
 * Pure: it touches the heap, device and timers it was given, and nothing else.
 *
 * A turn: setTime, the timers, input for each frame, loop, tcp.nextReady and udp.nextReady, the program, flush.
 */
import type { Heap, HeapBuffer } from '../ring/heap.ts';
import { Arp } from './arp.ts';
import { NetContext } from './context.ts';
import type { StackCounters } from './counters.ts';
import type { Device, FrameInput } from './device.ts';
import type { Timers } from './flow.ts';
import { IcmpReceiver } from './icmp/receiver.ts';
import { DEFAULT_ICMP_LIMITS, type IcmpLimits, IcmpSender } from './icmp/sender.ts';
import type { Arrival } from './ip/arrival.ts';
import { IpInput, type Upper } from './ip/input.ts';
import { LocalAddresses } from './ip/local-addresses.ts';
import { IpOutput } from './ip/output.ts';
import { PathMtu } from './ip/path-mtu.ts';
import { DEFAULT_REASSEMBLY_LIMITS, Reassembly, type ReassemblyLimits } from './ip/reassembly.ts';
import { type RouteOptions, Routes } from './ip/routes.ts';
import { type IpWords, isLinkLocal6, wordsOfText } from './ip/words.ts';
import { Ndp } from './ndp.ts';
import type { Neighbour } from './neighbour.ts';
import { DEFAULT_NEIGHBOUR_LIMITS, type NeighbourLimits, Neighbours, type Resolver } from './neighbours.ts';
import type { TcpLayer, Transports } from './transports.ts';
import { Udp } from './udp/udp.ts';
import { EthernetFrame, EtherType } from './wire/ethernet.ts';
import { ICMP_REASSEMBLY, IcmpType, IcmpUnreachable } from './wire/icmp.ts';
import { Icmpv6Type, Icmpv6Unreachable } from './wire/icmpv6.ts';
import { Protocol } from './wire/ipv4.ts';
import { Reason } from './wire/reason.ts';

export interface StackLimits {
  readonly neighbours: NeighbourLimits;
  readonly reassembly: ReassemblyLimits;
  readonly icmp: IcmpLimits;
}

export interface StackOptions {
  readonly heap: Heap;
  readonly device: Device;
  readonly timers: Timers;
  /** 32 random bits, as an integer; not to be guessed from outside. */
  readonly random: () => number;
  /** Milliseconds of a monotonic clock, may be fractional. */
  readonly now: number;
  readonly limits?: Partial<StackLimits>;
  /**
   * False where the host's own stack has the same address: ARP, neighbour discovery, echo and errors are its affair.
   * Then nothing of the kind is sent from here. Default true.
   */
  readonly answers?: boolean;
  /** Asked for hardware addresses in place of ARP and neighbour discovery; its answers come through `neighbours.set`. */
  readonly lookup?: (neighbour: Neighbour) => void;
}

/** Packets to ourselves taken in by one turn. */
const LOOPBACK_BUDGET = 256;

export class Stack implements FrameInput, Upper, Transports, Resolver {
  readonly context: NetContext;
  readonly counters: StackCounters;
  readonly addresses = new LocalAddresses();
  readonly routes = new Routes();
  readonly neighbours: Neighbours;
  readonly paths: PathMtu;
  readonly reassembly: Reassembly;
  readonly udp: Udp;
  /** What Tcp sends through: its `output`. */
  readonly output: IpOutput;
  readonly #arp: Arp;
  readonly #ndp: Ndp;
  readonly #icmp: IcmpReceiver;
  readonly #sender: IcmpSender | null;
  readonly #ip: IpInput;
  readonly #frame = new EthernetFrame();
  readonly #answers: boolean;
  readonly #lookup: ((neighbour: Neighbour) => void) | null;
  #tcp: TcpLayer | null = null;
  #acceptsPartial = false;

  constructor(options: StackOptions) {
    const { limits = {} } = options;
    const context = new NetContext(options.heap, options.device, options.timers, options.random, options.now);
    this.context = context;
    this.counters = context.counters;
    this.#answers = options.answers ?? true;
    this.#lookup = options.lookup ?? null;
    this.neighbours = new Neighbours(context, limits.neighbours ?? DEFAULT_NEIGHBOUR_LIMITS);
    this.paths = new PathMtu(context.random());
    this.output = new IpOutput(context, this.addresses, this.routes, this.paths, this.neighbours);
    this.udp = new Udp(context, this.addresses, this.output, this.neighbours);
    this.reassembly = new Reassembly(context, limits.reassembly ?? DEFAULT_REASSEMBLY_LIMITS);
    this.#arp = new Arp(context, this.addresses, this.routes, this.neighbours);
    this.#ndp = new Ndp(context, this.addresses, this.neighbours);
    const icmpLimits = limits.icmp ?? DEFAULT_ICMP_LIMITS;
    this.#sender = this.#answers ? new IcmpSender(context, this.addresses, this.output, icmpLimits) : null;
    const ndp = this.#answers ? this.#ndp : null;
    this.#icmp = new IcmpReceiver(context, this.addresses, this.output, this.paths, this.#sender, ndp, this);
    this.#ip = new IpInput(context, this.addresses, this.reassembly, this);
    this.neighbours.resolver = this;
    this.reassembly.onTimeout = (packet, at, family) => this.#reassemblyTimedOut(packet, at, family);
    this.acceptsPartial = options.device.offloads.receivePartial;
  }

  // ---- Configuration -------------------------------------------------------------------------------------------

  get tcp(): TcpLayer | null {
    return this.#tcp;
  }

  /** The TCP above, whose output is {@link Stack.output}; without one, segments are dropped and counted. */
  set tcp(tcp: TcpLayer | null) {
    this.#tcp = tcp;
    if (tcp !== null) tcp.acceptsPartial = this.#acceptsPartial;
  }

  /** Of the frames that follow, TCP's and UDP's checksums may be partial; first as the device says. */
  set acceptsPartial(accepts: boolean) {
    this.#acceptsPartial = accepts;
    this.udp.acceptsPartial = accepts;
    if (this.#tcp !== null) this.#tcp.acceptsPartial = accepts;
  }

  /**
   * Makes an address ours, and its network reachable on the link (with a link-local address, fe80::/64).
   * @param host an IP literal, or words
   * @throws RangeError where it is no address, or at the bound of 32
   */
  addAddress(host: string | IpWords, prefixLength: number): void {
    const address = typeof host === 'string' ? wordsOfText(host) : host;
    this.addresses.add(address, prefixLength);
    const linkLocal = address.family === 6 && isLinkLocal6(address.w0);
    this.routes.add(address, linkLocal ? 64 : prefixLength);
    this.neighbours.invalidate();
  }

  /** Gives an address up; the route to its network goes too, unless another address is in it. */
  removeAddress(host: string | IpWords): boolean {
    const address = typeof host === 'string' ? wordsOfText(host) : host;
    const own = this.addresses.list.find(
      ({ family, w0, w1, w2, w3 }) =>
        family === address.family && w0 === address.w0 && w1 === address.w1 && w2 === address.w2 && w3 === address.w3,
    );
    if (own === undefined) return false;
    this.addresses.remove(own);
    const route = this.routes.list.find(
      (candidate) =>
        candidate.gateway === null &&
        candidate.prefixLength === own.prefixLength &&
        candidate.fits(own.family, own.w0, own.w1, own.w2, own.w3),
    );
    const shared = route !== undefined && this.addresses.list.some((a) => route.fits(a.family, a.w0, a.w1, a.w2, a.w3));
    if (route !== undefined && !shared) this.routes.remove(route.prefix, route.prefixLength);
    this.neighbours.invalidate();
    return true;
  }

  /** Adds a route: `addRoute('0.0.0.0', 0, '10.0.0.1')` is a default route. @throws RangeError */
  addRoute(prefix: string, prefixLength: number, gateway: string | null, options: RouteOptions = {}): void {
    const via = gateway === null ? null : wordsOfText(gateway);
    this.routes.add(wordsOfText(prefix), prefixLength, { ...options, gateway: via });
    this.neighbours.invalidate();
  }

  removeRoute(prefix: string, prefixLength: number): boolean {
    const removed = this.routes.remove(wordsOfText(prefix), prefixLength);
    this.neighbours.invalidate();
    return removed;
  }

  /** Says to everybody on the link which addresses are ours (gratuitous ARP, unsolicited advertisements). */
  announce(): void {
    if (!this.#answers) return;
    for (const address of this.addresses.list) {
      if (address.family === 4) this.#arp.announce(address.w3);
      else this.#ndp.announce(address);
    }
  }

  // ---- A turn --------------------------------------------------------------------------------------------------

  /** The time of everything that follows, here and in TCP. */
  setTime(ms: number): void {
    this.context.now = ms;
    this.#tcp?.setTime(ms);
  }

  /** Takes one frame, which is borrowed; see {@link FrameInput}. */
  input(frame: HeapBuffer): void {
    const { counters } = this.context;
    const { view, offset, length } = frame;
    const ethernet = this.#frame;
    counters.framesIn++;
    counters.bytesIn += length;
    const reason = ethernet.parse(view, offset, length);
    if (reason !== Reason.OK) {
      counters.drop(reason);
      return;
    }
    const { device } = this.context;
    const toGroup = ethernet.toGroup;
    if (!toGroup && (ethernet.destinationLo !== device.macLo || ethernet.destinationHi !== device.macHi)) {
      counters.drop(Reason.FRAME_NOT_OURS);
      return;
    }
    switch (ethernet.type) {
      case EtherType.IPV4:
        this.#ip.input4(frame, ethernet.payloadAt, ethernet.payloadLength, toGroup, false);
        return;
      case EtherType.IPV6:
        this.#ip.input6(frame, ethernet.payloadAt, ethernet.payloadLength, toGroup, false);
        return;
      case EtherType.ARP:
        if (this.#answers) this.#arp.input(view, ethernet.payloadAt, ethernet.payloadLength);
        return;
      default:
        counters.drop(Reason.FRAME_TYPE);
    }
  }

  /** Takes in what has been sent to ourselves, as {@link Stack.input} takes frames; before the program runs. */
  loop(): void {
    for (let count = Math.min(this.output.looping, LOOPBACK_BUDGET); count > 0; count--) {
      const packet = this.output.takeLoopback();
      if (packet === null) return;
      const { memory, offset, length } = packet;
      if (memory[offset]! >> 4 === 4) this.#ip.input4(packet, offset, length, false, true);
      else this.#ip.input6(packet, offset, length, false, true);
      packet.release();
    }
  }

  /** Something has been sent to ourselves: the next turn has work, whatever arrives. */
  get looping(): boolean {
    return this.output.looping > 0;
  }

  /** Sends what TCP has queued and ends the device's batch. */
  flush(): void {
    this.#tcp?.flush();
    this.context.device.flush();
  }

  /** Every counter by name, with how much of what is bounded is in use. */
  observe(): Record<string, number> {
    return {
      ...this.counters.observe(),
      neighbours: this.neighbours.size,
      neighbourPacketsWaiting: this.neighbours.waiting,
      pathMtus: this.paths.size,
      fragmentsHeld: this.reassembly.held,
      reassembling: this.reassembly.datagrams,
      udpSockets: this.udp.size,
      loopbackWaiting: this.output.looping,
    };
  }

  /** Lets go of every buffer and timer. TCP's are its own. */
  dispose(): void {
    this.neighbours.dispose();
    this.reassembly.dispose();
    this.output.dispose();
    this.udp.dispose();
  }

  // ---- For the parts -------------------------------------------------------------------------------------------

  deliver(arrival: Arrival): boolean {
    const { counters } = this.context;
    const v4 = arrival.flow.family === 4;
    switch (arrival.protocol) {
      case Protocol.TCP:
        this.#deliverTcp(arrival);
        return true;
      case Protocol.UDP:
        if (this.udp.input(arrival) || !arrival.unicast) return true;
        if (v4) this.#complainTo(arrival, IcmpType.UNREACHABLE, IcmpUnreachable.PORT);
        else this.#complainTo(arrival, Icmpv6Type.UNREACHABLE, Icmpv6Unreachable.PORT);
        return true;
      case Protocol.ICMP:
        if (v4) this.#icmp.input4(arrival);
        else counters.drop(Reason.IP_PROTOCOL);
        return true;
      case Protocol.ICMPV6:
        if (v4) return false;
        this.#icmp.input6(arrival);
        return true;
      default:
        return false;
    }
  }

  complain(packet: HeapBuffer, ipAt: number, family: number, type: number, code: number, word: number): void {
    this.#sender?.error(packet, ipAt, family, type, code, word);
  }

  #complainTo(arrival: Arrival, type: number, code: number): void {
    this.#sender?.error(arrival.packet!, arrival.ipAt, arrival.flow.family, type, code, 0);
  }

  /** RFC 9293 3.9.2.3: a segment to a group is nobody's. */
  #deliverTcp(arrival: Arrival): void {
    const { counters } = this.context;
    const tcp = this.#tcp;
    if (tcp === null || !arrival.unicast) {
      counters.drop(Reason.TCP_UNWANTED);
      return;
    }
    counters.tcpIn++;
    if (this.neighbours.doubted > 0) this.#confirmBy(arrival, tcp);
    tcp.input(arrival.packet!, arrival.at, arrival.length, arrival.flow);
  }

  /**
   * RFC 4861 7.3.1: an acknowledgement of new data shows that what we send arrives. Only looked for while some neighbour
   * is in doubt, since it costs a search for the connection.
   */
  #confirmBy(arrival: Arrival, tcp: TcpLayer): void {
    if (arrival.length < 20) return;
    const { flow } = arrival;
    const { view } = arrival.packet!;
    const { at } = arrival;
    flow.remotePort = view.getUint16(at);
    flow.localPort = view.getUint16(at + 2);
    const connection = tcp.table.find(flow);
    if (connection === null || (view.getUint8(at + 13) & 0x10) === 0) return;
    const ack = view.getInt32(at + 8);
    const isNew = ((ack - connection.sndUna) | 0) > 0 && ((ack - connection.sndNxt) | 0) <= 0;
    if (isNew) this.neighbours.confirm(connection.flow.route);
  }

  solicit(neighbour: Neighbour, unicast: boolean): void {
    if (this.#lookup !== null) this.#lookup(neighbour);
    else if (neighbour.family === 4) this.#arp.solicit(neighbour, unicast);
    else this.#ndp.solicit(neighbour, unicast);
  }

  unresolved(packet: HeapBuffer): void {
    this.#icmp.undeliverable(packet);
  }

  #reassemblyTimedOut(packet: HeapBuffer, at: number, family: number): void {
    const type = family === 4 ? IcmpType.TIME_EXCEEDED : Icmpv6Type.TIME_EXCEEDED;
    this.#sender?.error(packet, at, family, type, ICMP_REASSEMBLY, 0);
  }
}
