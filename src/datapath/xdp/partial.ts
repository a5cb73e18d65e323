/**
 * Looks at the first frames of a link for checksums that were left to a device which is none, and tells it once.
 * It touches the frames it is shown, and the process's warnings.
 *
 * A veth says that it computes checksums, so the kernel behind it writes the sum of the pseudo header only (Linux's
 * CHECKSUM_PARTIAL), and nobody ever completes it. To the stack such a frame is damaged, and it drops it. Whether the other
 * end does so cannot be asked from here; it can be seen in the frames.
 */
import type { FrameInput } from '../../net/device.ts';
import { fold } from '../../net/wire/checksum.ts';
import { pseudoSum4 } from '../../net/wire/ipv4.ts';
import { pseudoSum6 } from '../../net/wire/ipv6.ts';
import type { HeapBuffer } from '../../ring/heap.ts';

/** TCP and UDP frames that are looked at: of whole checksums one in 65,536 looks partial. */
const FRAMES = 64;
const ENOUGH = 3;
const TCP = 6;
const UDP = 17;

export class PartialChecksums implements FrameInput {
  readonly #onFound: () => void;
  #next: FrameInput | null = null;
  #left = FRAMES;
  #found = 0;

  constructor(onFound: () => void) {
    this.#onFound = onFound;
  }

  /** Nothing more is to be learnt. */
  get done(): boolean {
    return this.#left <= 0;
  }

  before(next: FrameInput): this {
    this.#next = next;
    return this;
  }

  input(frame: HeapBuffer): void {
    if (this.#left > 0 && isTransport(frame)) {
      this.#left--;
      if (isPartial(frame) && ++this.#found === ENOUGH) {
        this.#left = 0;
        this.#onFound();
      }
    }
    this.#next!.input(frame);
  }
}

/** Where the IP packet is. */
function packetAt({ offset }: HeapBuffer): number {
  return offset + 14;
}

function isTransport(frame: HeapBuffer): boolean {
  const { view, offset, length } = frame;
  if (length < 54) return false;
  const at = packetAt(frame);
  const type = view.getUint16(offset + 12);
  if (type === 0x0800) {
    const isWhole = ((view.getUint8(at + 6) & 0x3f) | view.getUint8(at + 7)) === 0;
    return view.getUint8(at) === 0x45 && isWhole && (view.getUint8(at + 9) === TCP || view.getUint8(at + 9) === UDP);
  }
  return type === 0x86dd && (view.getUint8(at + 6) === TCP || view.getUint8(at + 6) === UDP);
}

/** The checksum is the sum of the pseudo header, folded and not complemented. */
function isPartial(frame: HeapBuffer): boolean {
  const { view } = frame;
  const at = packetAt(frame);
  let upper: number;
  let protocol: number;
  let sum: number;
  if (view.getUint8(at) >> 4 === 4) {
    protocol = view.getUint8(at + 9);
    upper = at + 20;
    sum = pseudoSum4(view.getInt32(at + 12), view.getInt32(at + 16), protocol);
    sum += view.getUint16(at + 2) - 20;
  } else {
    protocol = view.getUint8(at + 6);
    upper = at + 40;
    const word = (i: number): number => view.getInt32(at + 8 + 4 * i);
    sum = pseudoSum6(word(0), word(1), word(2), word(3), word(4), word(5), word(6), word(7), protocol);
    sum += view.getUint16(at + 4);
  }
  const field = upper + (protocol === TCP ? 16 : 6);
  return fold(sum) === view.getUint16(field);
}
