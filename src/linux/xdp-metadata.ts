/**
 * What the kernel is told of a frame that an AF_XDP socket sends (struct xsk_tx_metadata in linux/if_xdp.h; kernel
 * Documentation/networking/xsk-tx-metadata.rst), in the bytes right before it. Pure: it writes the bytes it is given.
 */

/** Bytes before each frame, also of those that say nothing. */
export const METADATA_BYTES = 16;
/** Option of a descriptor (XDP_TX_METADATA): the bytes before the frame are to be read. */
export const TRANSMIT_METADATA = 2;

const FLAGS_CHECKSUM = 2;

/**
 * Asks for the frame's checksum: summed from its byte `start` on, stored `field` bytes behind that.
 * @param at where the frame begins; any byte
 * @param place start | field << 16
 */
export function requestChecksum(view: DataView, at: number, place: number): void {
  view.setUint32(at - 16, FLAGS_CHECKSUM, true);
  view.setUint32(at - 12, 0, true);
  view.setUint32(at - 8, place, true);
}
