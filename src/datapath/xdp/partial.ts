/**
 * Looks at the first frames of a link for checksums that were left to a device which is none, and tells it once.
 * It touches the frames it is shown, and the process's warnings.
 *
 * A veth says that it computes checksums, so the kernel behind it writes the sum of the pseudo header only (Linux's
 * CHECKSUM_PARTIAL), and nobody ever completes it. To the stack such a frame is damaged, and it drops it. Whether the other
 * end does so cannot be asked from here; it can be seen in the frames.
 */
import type { FrameInput } from '../../net/device.ts';
import { int32 } from '../../net/wire/bytes.ts';
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
  const { memory, offset, length } = frame;
  if (length < 54) return false;
  const at = packetAt(frame);
  const type = (memory[offset + 12]! << 8) | memory[offset + 13]!;
  if (type === 0x0800) {
    const isWhole = ((memory[at + 6]! & 0x3f) | memory[at + 7]!) === 0;
    return memory[at] === 0x45 && isWhole && (memory[at + 9] === TCP || memory[at + 9] === UDP);
  }
  return type === 0x86dd && (memory[at + 6] === TCP || memory[at + 6] === UDP);
}

/** The checksum is the sum of the pseudo header, folded and not complemented. */
function isPartial(frame: HeapBuffer): boolean {
  const { memory } = frame;
  const at = packetAt(frame);
  let upper: number;
  let protocol: number;
  let sum: number;
  if (memory[at]! >> 4 === 4) {
    protocol = memory[at + 9]!;
    upper = at + 20;
    sum = pseudoSum4(int32(memory, at + 12), int32(memory, at + 16), protocol);
    sum += ((memory[at + 2]! << 8) | memory[at + 3]!) - 20;
  } else {
    protocol = memory[at + 6]!;
    upper = at + 40;
    const word = (i: number): number => int32(memory, at + 8 + 4 * i);
    sum = pseudoSum6(word(0), word(1), word(2), word(3), word(4), word(5), word(6), word(7), protocol);
    sum += (memory[at + 4]! << 8) | memory[at + 5]!;
  }
  const field = upper + (protocol === TCP ? 16 : 6);
  return fold(sum) === ((memory[field]! << 8) | memory[field + 1]!);
}
