/**
 * ICMPv6 types (RFC 4443) and neighbour discovery messages (RFC 4861): a checked view and emitters. Pure: it reads and
 * writes the bytes it is given. The common header has the same form as ICMP's and is read by wire/icmp.ts.
 */
import { putAddress6 } from './ipv6.ts';
import { Reason } from './reason.ts';

export const Icmpv6Type = {
  UNREACHABLE: 1,
  TOO_BIG: 2,
  TIME_EXCEEDED: 3,
  PARAMETER_PROBLEM: 4,
  ECHO: 128,
  ECHO_REPLY: 129,
  ROUTER_SOLICITATION: 133,
  ROUTER_ADVERTISEMENT: 134,
  NEIGHBOUR_SOLICITATION: 135,
  NEIGHBOUR_ADVERTISEMENT: 136,
  REDIRECT: 137,
} as const;

/** Codes of UNREACHABLE (RFC 4443 3.1). */
export const Icmpv6Unreachable = {
  NO_ROUTE: 0,
  PROHIBITED: 1,
  SCOPE: 2,
  ADDRESS: 3,
  PORT: 4,
  POLICY: 5,
  REJECTED: 6,
} as const;

/** Bytes of a solicitation or advertisement with one link-layer address option. */
export const NEIGHBOUR_BYTES = 32;
/** Flags of an advertisement, in the word after the checksum. */
export const NeighbourFlag = { ROUTER: 1 << 31, SOLICITED: 1 << 30, OVERRIDE: 1 << 29 } as const;

const SOURCE_LINK_ADDRESS = 1;
const TARGET_LINK_ADDRESS = 2;

/** A neighbour solicitation or advertisement. */
export class NeighbourMessage {
  /** Flags of an advertisement; 0 in a solicitation's. */
  flags = 0;
  target0 = 0;
  target1 = 0;
  target2 = 0;
  target3 = 0;
  /** The source (solicitation) or target (advertisement) link-layer address option was there. */
  hasMac = false;
  macHi = 0;
  macLo = 0;

  /** Reads the ICMPv6 message of `length` bytes at `at`, whose checksum is right (RFC 4861 7.1.1, 7.1.2). */
  parse(view: DataView, at: number, length: number): Reason {
    if (length < 24) return Reason.NDP_SHORT;
    if (view.getUint8(at + 1) !== 0) return Reason.NDP_INVALID;
    const wanted = view.getUint8(at) === Icmpv6Type.NEIGHBOUR_SOLICITATION ? SOURCE_LINK_ADDRESS : TARGET_LINK_ADDRESS;
    this.flags = view.getInt32(at + 4);
    this.target0 = view.getInt32(at + 8);
    this.target1 = view.getInt32(at + 12);
    this.target2 = view.getInt32(at + 16);
    this.target3 = view.getInt32(at + 20);
    this.hasMac = false;
    if (this.target0 >>> 24 === 0xff) return Reason.NDP_INVALID;
    const end = at + length;
    for (let option = at + 24; option < end; ) {
      if (option + 2 > end) return Reason.NDP_INVALID;
      const bytes = view.getUint8(option + 1) << 3;
      if (bytes === 0 || option + bytes > end) return Reason.NDP_INVALID;
      if (view.getUint8(option) === wanted && bytes === 8 && !this.hasMac) {
        this.hasMac = true;
        this.macHi = view.getUint16(option + 2);
        this.macLo = view.getInt32(option + 4);
      }
      option += bytes;
    }
    return Reason.OK;
  }
}

/** Writes the {@link NEIGHBOUR_BYTES} of a solicitation or advertisement, with no checksum. */
export function putNeighbour(
  view: DataView,
  at: number,
  type: number,
  flags: number,
  w0: number,
  w1: number,
  w2: number,
  w3: number,
  macHi: number,
  macLo: number,
): void {
  view.setUint8(at, type);
  view.setUint8(at + 1, 0);
  view.setUint16(at + 2, 0);
  view.setInt32(at + 4, flags);
  putAddress6(view, at + 8, w0, w1, w2, w3);
  view.setUint8(at + 24, type === Icmpv6Type.NEIGHBOUR_SOLICITATION ? SOURCE_LINK_ADDRESS : TARGET_LINK_ADDRESS);
  view.setUint8(at + 25, 1);
  view.setUint16(at + 26, macHi);
  view.setInt32(at + 28, macLo);
}
