/**
 * The UDP header (RFC 768, checksum rules of RFC 8200 8.1): a checked view and an emitter. Pure: it reads and writes
 * the bytes it is given.
 */
import { checksum, fold } from './checksum.ts';
import { Reason } from './reason.ts';

export const UDP_HEADER_BYTES = 8;
/** Where the checksum stands in the header. */
export const UDP_CHECKSUM_AT = 6;

export class UdpDatagram {
  sourcePort = 0;
  destinationPort = 0;
  payloadAt = 0;
  payloadLength = 0;

  /**
   * Reads `length` bytes at `at`, of which those beyond the header's own length are not UDP's.
   * @param pseudo sum of the pseudo header without the length
   * @param optional a checksum of 0 means that there is none (IPv4 only)
   * @param acceptsPartial it may be partial (wire/partial.ts)
   */
  parse(
    view: DataView,
    at: number,
    length: number,
    pseudo: number,
    optional: boolean,
    acceptsPartial: boolean,
  ): Reason {
    if (length < UDP_HEADER_BYTES) return Reason.UDP_SHORT;
    const own = view.getUint16(at + 4);
    if (own < UDP_HEADER_BYTES || own > length) return Reason.UDP_LENGTH;
    const stored = view.getUint16(at + UDP_CHECKSUM_AT);
    if (stored === 0 && !optional) return Reason.UDP_CHECKSUM;
    const partial = fold(pseudo + own);
    const accepted = stored === 0 || (acceptsPartial && stored === partial);
    if (!accepted && fold(partial + checksum(view, at, own)) !== 0xffff) return Reason.UDP_CHECKSUM;
    this.sourcePort = view.getUint16(at);
    this.destinationPort = view.getUint16(at + 2);
    this.payloadAt = at + UDP_HEADER_BYTES;
    this.payloadLength = own - UDP_HEADER_BYTES;
    return Reason.OK;
  }
}

/**
 * Writes the header; `sum` is that of pseudo header (without the length) and payload.
 * @param partial the checksum is (wire/partial.ts): `sum` is that of the pseudo header alone
 */
export function putUdp(
  view: DataView,
  at: number,
  sourcePort: number,
  destinationPort: number,
  payloadLength: number,
  sum: number,
  partial = false,
): void {
  const length = UDP_HEADER_BYTES + payloadLength;
  let stored = fold(length + sum);
  // 0 means that there is no checksum, and all ones is the same number.
  if (!partial) stored = ~fold(stored + sourcePort + destinationPort + length) & 0xffff || 0xffff;
  view.setUint16(at, sourcePort);
  view.setUint16(at + 2, destinationPort);
  view.setUint16(at + 4, length);
  view.setUint16(at + UDP_CHECKSUM_AT, stored);
}

/** Sum of a payload and the pseudo header before it, for {@link putUdp}. */
export function payloadSum(view: DataView, at: number, length: number, pseudo: number): number {
  return fold(pseudo + checksum(view, at, length));
}
