/**
 * Sends what lies in the outbox: send for one buffer, sendmsg for several, sendmmsg for datagrams.
 * It makes those system calls and nothing else; what an error means for the queue is decided by its caller.
 */
import { ERRNO } from '../../errors.ts';
import { MessageBatch } from '../../linux/message.ts';
import { send, sendmsg } from '../../linux/socket.ts';
import type { Heap } from '../../ring/heap.ts';
import { NAME_WORDS, type Outbox } from './outbox.ts';
import type { Sock } from './sock.ts';

/** Most pieces in one sendmsg, and most datagrams in one sendmmsg. */
const PIECES = 64;

export class Transmitter {
  /** Datagrams that the kernel refused (no route, no permission); the next push on their queue tells why. */
  refused = 0;
  readonly #outbox: Outbox;
  readonly #base: number;
  readonly #high: number;
  readonly #gather = new MessageBatch(1, PIECES);
  #datagrams: MessageBatch | null = null;

  constructor(outbox: Outbox, heap: Heap) {
    this.#outbox = outbox;
    this.#high = heap.region.addressHigh;
    this.#base = this.#high * 2 ** 32;
  }

  /** Sends as much of a stream as the kernel takes. 0, or −errno when the connection is broken. */
  stream(sock: Sock): number {
    const { next, at, length } = this.#outbox;
    while (sock.outHead >= 0) {
      const first = sock.outHead;
      let wanted = length[first]!;
      let sent: number;
      if (next[first]! >= 0) {
        wanted = this.#collect(first);
        sent = sendmsg(sock.fd, this.#gather.headerAddress(0), 0);
      } else sent = send(sock.fd, this.#base + at[first]!, wanted, 0);
      if (sent < 0) {
        if (sent === -ERRNO.EINTR) continue;
        if (sent !== -ERRNO.EAGAIN) return sent;
        sock.blocked = true;
        return 0;
      }
      this.#outbox.consume(sock, sent);
      if (sent < wanted) {
        // The buffer is full, and the kernel has noted that we want to know when it no longer is (epoll(7)).
        sock.blocked = true;
        return 0;
      }
    }
    return 0;
  }

  /** Fills the vectors of the gather header. @returns bytes */
  #collect(first: number): number {
    const { next, at, length } = this.#outbox;
    let bytes = 0;
    let pieces = 0;
    for (let node = first; node >= 0 && pieces < PIECES; node = next[node]!) {
      this.#gather.setVector(0, pieces++, this.#high, at[node]!, length[node]!);
      bytes += length[node]!;
    }
    this.#gather.setVectorCount(0, pieces);
    return bytes;
  }

  /** Sends datagrams until the kernel's buffer is full. One that is refused is dropped, counted and noted in `failed`. */
  datagrams(sock: Sock): void {
    this.#datagrams ??= new MessageBatch(PIECES);
    const batch = this.#datagrams;
    let refused = -1;
    while (sock.outHead >= 0) {
      const count = this.#address(batch, sock.outHead);
      const sent = batch.send(sock.fd, 0, count, 0);
      if (sent >= 0) for (let i = 0; i < sent; i++) this.#outbox.dropFirst(sock);
      else if (sent === -ERRNO.EAGAIN) {
        sock.blocked = true;
        return;
      } else if (sent !== -ERRNO.EINTR) {
        // What is told may be of an earlier datagram (udp(7)): only the one that is refused again is to blame.
        sock.failed = -sent;
        if (sock.outHead === refused) {
          this.refused++;
          this.#outbox.dropFirst(sock);
        } else refused = sock.outHead;
      }
    }
  }

  #address(batch: MessageBatch, first: number): number {
    const { next, at, length } = this.#outbox;
    const names = this.#outbox.names!;
    const nameLength = this.#outbox.nameLength!;
    let count = 0;
    for (let node = first; node >= 0 && count < PIECES; node = next[node]!) {
      batch.setVector(count, 0, this.#high, at[node]!, length[node]!);
      const bytes = nameLength[node]!;
      batch.setNameLength(count, bytes);
      if (bytes > 0) {
        const to = batch.nameOffset(count) >> 2;
        for (let w = 0; w < NAME_WORDS; w++) batch.i32[to + w] = names[node * NAME_WORDS + w]!;
      }
      count++;
    }
    return count;
  }

  close(): void {
    this.#gather.close();
    this.#datagrams?.close();
  }
}
