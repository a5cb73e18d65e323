/**
 * The packet that an ICMP error quotes, which is one that was sent from here, as far as it is there: a checked view.
 * Pure: it reads the bytes it is given.
 */
import { Protocol } from './ipv4.ts';
import { IPV6_HEADER_BYTES } from './ipv6.ts';
import { Reason } from './reason.ts';

/** Bytes of the transport's header that must be there: ports and, of TCP, the sequence number (RFC 792). */
const TRANSPORT_BYTES = 8;

export class QuotedPacket {
  family = 4;
  protocol = 0;
  /** As in its header. */
  totalLength = 0;
  local0 = 0;
  local1 = 0;
  local2 = 0;
  local3 = 0;
  remote0 = 0;
  remote1 = 0;
  remote2 = 0;
  remote3 = 0;
  localPort = 0;
  remotePort = 0;
  /** TCP's sequence number; of other protocols, what stands there. */
  seq = 0;

  parse4(view: DataView, at: number, length: number): Reason {
    if (length < 20 || view.getUint8(at) >> 4 !== 4) return Reason.ICMP_QUOTE;
    const headerLength = (view.getUint8(at) & 15) << 2;
    if (headerLength < 20 || headerLength + TRANSPORT_BYTES > length) return Reason.ICMP_QUOTE;
    // Only the first fragment has ports.
    if ((view.getUint16(at + 6) & 0x1fff) !== 0) return Reason.ICMP_QUOTE;
    this.family = 4;
    this.protocol = view.getUint8(at + 9);
    this.totalLength = view.getUint16(at + 2);
    this.local0 = this.local1 = this.local2 = 0;
    this.local3 = view.getInt32(at + 12);
    this.remote0 = this.remote1 = this.remote2 = 0;
    this.remote3 = view.getInt32(at + 16);
    this.#ports(view, at + headerLength);
    return Reason.OK;
  }

  /** Of extension headers, only a fragment header is ever sent from here, so only that is read. */
  parse6(view: DataView, at: number, length: number): Reason {
    if (length < IPV6_HEADER_BYTES + TRANSPORT_BYTES || view.getUint8(at) >> 4 !== 6) return Reason.ICMP_QUOTE;
    let next = view.getUint8(at + 6);
    let transport = at + IPV6_HEADER_BYTES;
    if (next === Protocol.FRAGMENT) {
      if (length < IPV6_HEADER_BYTES + 8 + TRANSPORT_BYTES) return Reason.ICMP_QUOTE;
      if ((view.getUint16(transport + 2) & 0xfff8) !== 0) return Reason.ICMP_QUOTE;
      next = view.getUint8(transport);
      transport += 8;
    }
    this.family = 6;
    this.protocol = next;
    this.totalLength = IPV6_HEADER_BYTES + view.getUint16(at + 4);
    this.local0 = view.getInt32(at + 8);
    this.local1 = view.getInt32(at + 12);
    this.local2 = view.getInt32(at + 16);
    this.local3 = view.getInt32(at + 20);
    this.remote0 = view.getInt32(at + 24);
    this.remote1 = view.getInt32(at + 28);
    this.remote2 = view.getInt32(at + 32);
    this.remote3 = view.getInt32(at + 36);
    this.#ports(view, transport);
    return Reason.OK;
  }

  #ports(view: DataView, at: number): void {
    this.localPort = view.getUint16(at);
    this.remotePort = view.getUint16(at + 2);
    this.seq = view.getInt32(at + 4);
  }
}
