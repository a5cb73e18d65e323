/**
 * Borrows a file descriptor for a connection that lives in the ring's file table only, for the calls that need one
 * (getpeername, setsockopt, shutdown). It makes one entry and two calls each time, so it is not for the hot path.
 */
import { ERRNO, IsthmusError, systemError } from '../../errors.ts';
import { close } from '../../linux/libc.ts';
import { SHUT_WR, shutdown } from '../../linux/socket.ts';
import type { Ring } from '../../linux/uring.ts';
import { SqeFlag } from '../../linux/uring-abi.ts';
import { prepFixedFdInstall, prepShutdown } from '../../linux/uring-prep.ts';
import { Kind, type UringSocket } from './socket.ts';

export class Descriptors {
  readonly #ring: Ring;
  #serial = 0;

  constructor(ring: Ring) {
    this.#ring = ring;
  }

  /**
   * Calls `what` with a descriptor of the socket, which is not to be kept.
   * @throws IsthmusError EMFILE when the process has no descriptor left, EBUSY when completions crowd the ring
   */
  use<T>(socket: UringSocket, what: (fd: number) => T): T {
    if (!socket.fixed) return what(socket.file);
    const fd = this.#install(socket.slot);
    if (fd < 0) throw systemError(fd, 'fixed_fd_install', `slot ${socket.slot}`);
    try {
      return what(fd);
    } finally {
      close(fd);
    }
  }

  /** No more bytes will be sent (shutdown(2), SHUT_WR). */
  shut(socket: UringSocket): void {
    try {
      this.use(socket, (fd) => shutdown(fd, SHUT_WR));
    } catch (error) {
      if (!(error instanceof IsthmusError)) throw error;
      // No descriptor is free. The ring can do without, but it takes a worker thread of the kernel.
      const flags = socket.fileFlag | SqeFlag.CQE_SKIP;
      prepShutdown(this.#ring, socket.file, flags, SHUT_WR, Kind.NONE, 0);
    }
  }

  // The kernel completes it while it takes the entry, so the completion is there after the call.
  #install(slot: number): number {
    const ring = this.#ring;
    const { words, cqMask } = ring;
    this.#serial = (this.#serial + 1) & 0x3fffffff;
    const serial = this.#serial;
    prepFixedFdInstall(ring, slot, Kind.INSTALL, serial);
    let c = words[ring.cqTail]!;
    words[ring.cqHead] = ring.head; // what was read makes room
    ring.flush();
    for (const tail = words[ring.cqTail]!; c !== tail; c = (c + 1) | 0) {
      const k = ring.cqes + ((c & cqMask) << 2);
      if (words[k] !== Kind.INSTALL || words[k + 1] !== serial) continue;
      words[k] = Kind.NONE;
      if (ring.head === c) ring.head = (c + 1) | 0;
      return words[k + 2]!;
    }
    return -ERRNO.EBUSY;
  }

  /** A completion of {@link use} that came too late: nobody will close its descriptor but we. */
  late(result: number): void {
    if (result >= 0) close(result);
  }
}
