/**
 * ICMP and ICMPv6 messages received: requests are answered, errors are checked against what we have sent and handed to
 * the transports. It keeps nothing; path MTUs go to their cache.
 */
import { ERRNO } from '../../errors.ts';
import type { HeapBuffer } from '../../ring/heap.ts';
import type { NetContext } from '../context.ts';
import { Flow, pseudoSum } from '../flow.ts';
import type { Arrival } from '../ip/arrival.ts';
import type { LocalAddresses } from '../ip/local-addresses.ts';
import type { IpOutput } from '../ip/output.ts';
import type { PathMtu } from '../ip/path-mtu.ts';
import type { Ndp } from '../ndp.ts';
import type { Transports } from '../transports.ts';
import { fold } from '../wire/checksum.ts';
import { IcmpMessage, IcmpType, IcmpUnreachable } from '../wire/icmp.ts';
import { Icmpv6Type, Icmpv6Unreachable } from '../wire/icmpv6.ts';
import { Protocol } from '../wire/ipv4.ts';
import { QuotedPacket } from '../wire/quoted.ts';
import { Reason } from '../wire/reason.ts';
import type { IcmpSender } from './sender.ts';

export class IcmpReceiver {
  readonly #context: NetContext;
  readonly #addresses: LocalAddresses;
  readonly #output: IpOutput;
  readonly #paths: PathMtu;
  readonly #sender: IcmpSender | null;
  readonly #ndp: Ndp | null;
  readonly #transports: Transports;
  readonly #message = new IcmpMessage();
  readonly #quoted = new QuotedPacket();
  readonly #flow = new Flow();

  /** @param sender null where another answers (the host's own stack), and `ndp` likewise */
  constructor(
    context: NetContext,
    addresses: LocalAddresses,
    output: IpOutput,
    paths: PathMtu,
    sender: IcmpSender | null,
    ndp: Ndp | null,
    transports: Transports,
  ) {
    this.#context = context;
    this.#addresses = addresses;
    this.#output = output;
    this.#paths = paths;
    this.#sender = sender;
    this.#ndp = ndp;
    this.#transports = transports;
  }

  input4(arrival: Arrival): void {
    const { counters } = this.#context;
    const { view } = arrival.packet!;
    const message = this.#message;
    counters.icmpIn++;
    const reason = message.parse(view, arrival.at, arrival.length, 0);
    if (reason !== Reason.OK) {
      counters.drop(reason);
      return;
    }
    switch (message.type) {
      case IcmpType.ECHO:
        this.#sender?.echo(arrival);
        return;
      case IcmpType.ECHO_REPLY:
        counters.echoReplies++;
        return;
      case IcmpType.UNREACHABLE:
      case IcmpType.TIME_EXCEEDED:
      case IcmpType.PARAMETER_PROBLEM:
        break;
      default:
        // Source quench (RFC 6633) and redirects are not believed; timestamps and masks are not answered.
        counters.drop(Reason.ICMP_TYPE);
        return;
    }
    counters.errorsIn++;
    if (!arrival.unicast || this.#quoted.parse4(view, message.bodyAt, message.bodyLength) !== Reason.OK) {
      counters.drop(Reason.ICMP_QUOTE);
      return;
    }
    if (message.type === IcmpType.UNREACHABLE) {
      if (message.code === IcmpUnreachable.TOO_BIG) this.#tooBig(message.word & 0xffff);
      else this.#tell(errnoOf4(message.code), isHard4(message.code));
    } else if (message.type === IcmpType.TIME_EXCEEDED) {
      counters.timeExceededIn++;
      this.#tell(ERRNO.EHOSTUNREACH, false);
    } else this.#tell(ERRNO.EPROTO, true);
  }

  input6(arrival: Arrival): void {
    const { counters } = this.#context;
    const { view } = arrival.packet!;
    const message = this.#message;
    counters.icmpIn++;
    const pseudo = fold(pseudoSum(arrival.flow, Protocol.ICMPV6) + arrival.length);
    const reason = message.parse(view, arrival.at, arrival.length, pseudo);
    if (reason !== Reason.OK) {
      counters.drop(reason);
      return;
    }
    const { type, code } = message;
    if (type === Icmpv6Type.ECHO) {
      this.#sender?.echo(arrival);
      return;
    }
    if (type >= Icmpv6Type.ROUTER_SOLICITATION && type <= Icmpv6Type.REDIRECT) {
      this.#ndp?.input(arrival);
      return;
    }
    if (type === Icmpv6Type.ECHO_REPLY) {
      counters.echoReplies++;
      return;
    }
    if (type < Icmpv6Type.UNREACHABLE || type > Icmpv6Type.PARAMETER_PROBLEM) {
      counters.drop(Reason.ICMP_TYPE);
      return;
    }
    counters.errorsIn++;
    if (!arrival.unicast || this.#quoted.parse6(view, message.bodyAt, message.bodyLength) !== Reason.OK) {
      counters.drop(Reason.ICMP_QUOTE);
      return;
    }
    if (type === Icmpv6Type.TOO_BIG) this.#tooBig(Math.min(message.word >>> 0, 65535));
    else if (type === Icmpv6Type.UNREACHABLE) this.#tell(errnoOf6(code), isHard6(code));
    else if (type === Icmpv6Type.TIME_EXCEEDED) {
      counters.timeExceededIn++;
      this.#tell(ERRNO.EHOSTUNREACH, false);
    } else this.#tell(ERRNO.EPROTO, code === 1);
  }

  /** An IP packet of ours, at its buffer's offset, could not be delivered to the next hop. */
  undeliverable(packet: HeapBuffer): void {
    const { view, offset, length } = packet;
    const quoted = this.#quoted;
    const v4 = view.getUint8(offset) >> 4 === 4;
    const reason = v4 ? quoted.parse4(view, offset, length) : quoted.parse6(view, offset, length);
    if (reason === Reason.OK) this.#tell(ERRNO.EHOSTUNREACH, true);
  }

  /** The flow of the packet quoted; false where it cannot have been ours. */
  #ours(): boolean {
    const quoted = this.#quoted;
    const { family, local0, local1, local2, local3 } = quoted;
    if (!this.#addresses.isLocal(family, local0, local1, local2, local3)) return false;
    const flow = this.#flow;
    flow.family = family;
    flow.local0 = local0;
    flow.local1 = local1;
    flow.local2 = local2;
    flow.local3 = local3;
    flow.remote0 = quoted.remote0;
    flow.remote1 = quoted.remote1;
    flow.remote2 = quoted.remote2;
    flow.remote3 = quoted.remote3;
    flow.localPort = quoted.localPort;
    flow.remotePort = quoted.remotePort;
    flow.route = -1;
    return true;
  }

  #tell(errno: number, hard: boolean): void {
    const { protocol, seq } = this.#quoted;
    const { tcp, udp } = this.#transports;
    if (!this.#ours()) {
      this.#context.counters.drop(Reason.ICMP_QUOTE);
      return;
    }
    if (protocol === Protocol.TCP) tcp?.unreachable(this.#flow, seq, errno, hard);
    else if (protocol === Protocol.UDP) udp.unreachable(this.#flow, errno);
  }

  /** RFC 1191, RFC 8201; only for what is in flight (RFC 5927 4.1, RFC 8899 4.6.1). */
  #tooBig(claimed: number): void {
    const { counters, now } = this.#context;
    const { protocol, seq, totalLength } = this.#quoted;
    const { tcp, udp } = this.#transports;
    const flow = this.#flow;
    if (!this.#ours()) {
      counters.drop(Reason.ICMP_QUOTE);
      return;
    }
    if (protocol === Protocol.TCP) {
      const connection = tcp === null ? null : tcp.table.find(flow);
      const inFlight =
        connection !== null && ((seq - connection.sndUna) | 0) >= 0 && ((seq - connection.sndNxt) | 0) < 0;
      if (!inFlight) {
        counters.drop(Reason.ICMP_QUOTE);
        return;
      }
    } else if (protocol !== Protocol.UDP || !udp.sends(flow)) {
      counters.drop(Reason.ICMP_QUOTE);
      return;
    }
    const { family, remote0, remote1, remote2, remote3 } = flow;
    const current = this.#output.mtu(flow);
    const mtu = this.#paths.lower(now, family, remote0, remote1, remote2, remote3, claimed, totalLength, current);
    if (mtu === 0) {
      counters.drop(Reason.ICMP_MTU);
      return;
    }
    counters.pathMtuLowered++;
    if (protocol === Protocol.TCP) tcp!.packetTooBig(flow, seq, mtu);
  }
}

/** As Linux has them (icmp_err_convert). */
function errnoOf4(code: number): number {
  switch (code) {
    case IcmpUnreachable.NET:
    case IcmpUnreachable.NET_UNKNOWN:
    case IcmpUnreachable.NET_PROHIBITED:
      return ERRNO.ENETUNREACH;
    case IcmpUnreachable.PROTOCOL:
      return ERRNO.ENOPROTOOPT;
    case IcmpUnreachable.PORT:
      return ERRNO.ECONNREFUSED;
    case IcmpUnreachable.SOURCE_ROUTE:
      return ERRNO.EOPNOTSUPP;
    case IcmpUnreachable.HOST_UNKNOWN:
      return ERRNO.EHOSTDOWN;
    default:
      return ERRNO.EHOSTUNREACH;
  }
}

function isHard4(code: number): boolean {
  const { PROTOCOL, PORT, NET_UNKNOWN, HOST_UNKNOWN, NET_PROHIBITED, HOST_PROHIBITED, PROHIBITED } = IcmpUnreachable;
  return (
    code === PROTOCOL ||
    code === PORT ||
    code === NET_UNKNOWN ||
    code === HOST_UNKNOWN ||
    code === NET_PROHIBITED ||
    code === HOST_PROHIBITED ||
    code === PROHIBITED
  );
}

function errnoOf6(code: number): number {
  switch (code) {
    case Icmpv6Unreachable.NO_ROUTE:
      return ERRNO.ENETUNREACH;
    case Icmpv6Unreachable.PORT:
      return ERRNO.ECONNREFUSED;
    case Icmpv6Unreachable.PROHIBITED:
    case Icmpv6Unreachable.POLICY:
    case Icmpv6Unreachable.REJECTED:
      return ERRNO.EACCES;
    default:
      return ERRNO.EHOSTUNREACH;
  }
}

function isHard6(code: number): boolean {
  const { PROHIBITED, PORT, POLICY, REJECTED } = Icmpv6Unreachable;
  return code === PROHIBITED || code === PORT || code === POLICY || code === REJECTED;
}
