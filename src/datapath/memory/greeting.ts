/**
 * How two datapaths get to know each other over a Unix socket, and from then on share memory.
 * It speaks on that one socket, makes or takes the memory, and hands a link over; nothing else goes over the socket.
 *
 *     asker  → HELLO identity              answerer → HELLO identity, its doorbell
 *     asker  → MEMORY and its doorbell, unless the two have a link already; then the asker hangs up
 *
 * The socket stays open for the life of the link: its end is how each learns that the other has gone.
 */
import { close } from '../../linux/libc.ts';
import { type MappedMemory, mapShared } from '../../linux/memory.ts';
import {
  type PassedMessage,
  peerCredentials,
  receiveDescriptors,
  sendDescriptors,
} from '../../linux/pass-descriptors.ts';
import { createSealedMemory, requireSealedMemory } from '../../linux/sealed-memory.ts';
import { End, LINK_BYTES } from './layout.ts';
import { Link } from './link.ts';

const HELLO = 'isthmus memory 1 hello ';
const MEMORY = `isthmus memory 1 memory ${LINK_BYTES}`;
const IDENTITY = /^[0-9a-f]{32}$/;
const EAGAIN = 11;

/** What comes of an event on the socket. */
export type Progress =
  | { readonly kind: 'waiting' }
  /** The socket is the link's from now on. */
  | { readonly kind: 'link'; readonly link: Link }
  /** There is a link to this datapath already. The socket is still the greeting's. */
  | { readonly kind: 'known'; readonly link: Link }
  | { readonly kind: 'over' };

const WAITING: Progress = { kind: 'waiting' };
const OVER: Progress = { kind: 'over' };

export interface Own {
  /** 32 hexadecimal digits. */
  readonly identity: string;
  readonly doorbell: number;
  linkTo(peer: string): Link | undefined;
}

export class Greeting {
  readonly fd: number;
  readonly #own: Own;
  readonly #asker: boolean;
  readonly #pid: number;
  /** Known once the other has said hello. */
  #peer: string | null = null;

  /**
   * Takes over a connected socket.
   * @param asker whether we looked for the other
   */
  constructor(fd: number, own: Own, asker: boolean, pid: number) {
    this.fd = fd;
    this.#own = own;
    this.#asker = asker;
    this.#pid = pid;
  }

  /** The first word. 0 or −errno. */
  begin(): number {
    return this.#asker ? Math.min(0, sendText(this.fd, HELLO + this.#own.identity)) : 0;
  }

  /** Something has come. What does not belong here ends the greeting; it never throws for what the peer has done. */
  progress(): Progress {
    const message = receiveDescriptors(this.fd);
    if (message.result === -EAGAIN) return WAITING;
    let progress = OVER;
    try {
      if (message.result > 0) progress = this.#read(message);
      return progress;
    } catch {
      return OVER;
    } finally {
      // What a link was made of is the link's; of the memory it keeps the mapping only.
      const kept = progress.kind === 'link' ? message.descriptors.at(-1) : -1;
      for (const fd of message.descriptors) if (fd !== kept) close(fd);
    }
  }

  #read({ bytes, descriptors }: PassedMessage): Progress {
    const text = Buffer.from(bytes).toString('latin1');
    if (this.#peer === null) {
      if (!text.startsWith(HELLO) || !IDENTITY.test(text.slice(HELLO.length))) return OVER;
      this.#peer = `${this.#pid}:${text.slice(HELLO.length)}`;
      if (!this.#asker) {
        const sent = sendDescriptors(this.fd, encode(HELLO + this.#own.identity), [this.#own.doorbell]);
        return sent < 0 || descriptors.length > 0 ? OVER : WAITING;
      }
      const known = this.#own.linkTo(this.#peer);
      if (known !== undefined) return { kind: 'known', link: known };
      return descriptors.length === 1 ? this.#make(this.#peer, descriptors[0]!) : OVER;
    }
    if (this.#asker || text !== MEMORY || descriptors.length !== 2) return OVER;
    return this.#take(this.#peer, descriptors[0]!, descriptors[1]!);
  }

  #make(peer: string, doorbell: number): Progress {
    const memoryFd = createSealedMemory(LINK_BYTES);
    try {
      const sent = sendDescriptors(this.fd, encode(MEMORY), [memoryFd, this.#own.doorbell]);
      if (sent < 0) return OVER;
      return this.#link(peer, End.MAKER, memoryFd, doorbell);
    } finally {
      close(memoryFd);
    }
  }

  #take(peer: string, memoryFd: number, doorbell: number): Progress {
    requireSealedMemory(memoryFd, LINK_BYTES);
    return this.#link(peer, End.TAKER, memoryFd, doorbell);
  }

  #link(peer: string, end: End, memoryFd: number, doorbell: number): Progress {
    const memory: MappedMemory = mapShared(memoryFd, LINK_BYTES, { populate: false });
    try {
      return { kind: 'link', link: new Link(peer, memory, end, this.fd, doorbell) };
    } catch (error) {
      memory.close();
      throw error;
    }
  }

  close(): void {
    close(this.fd);
  }
}

/** The process at the other end, if it is of our user (or of root): memory is shared with nobody else. −1 otherwise. */
export function trustedPid(fd: number): number {
  const { pid, uid } = peerCredentials(fd);
  return uid === 0 || uid === process.geteuid!() ? pid : -1;
}

function encode(text: string): Uint8Array {
  return Buffer.from(text, 'latin1');
}

function sendText(fd: number, text: string): number {
  return sendDescriptors(fd, encode(text));
}
