/**
 * Accepts connections, a few ahead of the program so that a burst does not cost a turn each.
 * It makes accept4 calls, registers what it accepted, and completes accepts.
 */
import { ERRNO } from '../../errors.ts';
import type { DatapathHost } from '../../kernel/datapath.ts';
import { accept } from '../../linux/socket.ts';
import { Phase, type Sock } from './sock.ts';
import { interestOf, type SocketTable } from './table.ts';

/** Most connections accepted ahead, per listener. */
const AHEAD = 16;

/** accept4 gives these for a connection that died in the backlog; the next one may be well (accept(2)). */
export const STILLBORN: ReadonlySet<number> = new Set([
  ERRNO.EINTR,
  ERRNO.ECONNABORTED,
  ERRNO.EPROTO,
  ERRNO.ENETDOWN,
  ERRNO.ENOPROTOOPT,
  ERRNO.EHOSTDOWN,
  ERRNO.EHOSTUNREACH,
  ERRNO.EOPNOTSUPP,
  ERRNO.ENETUNREACH,
  ERRNO.EPERM,
]);

/** Takes connections from the backlog and gives them to the accepts that wait. @returns accepts completed or failed */
export function acceptConnections(table: SocketTable, host: DatapathHost, listener: Sock): number {
  let errno = 0;
  for (let tries = 0; listener.readable && listener.accepted.length < AHEAD && tries < 2 * AHEAD; tries++) {
    const fd = accept(listener.fd);
    if (fd >= 0) errno = adopt(table, listener, fd);
    else if (fd === -ERRNO.EAGAIN) listener.readable = false;
    else if (!STILLBORN.has(-fd)) errno = -fd;
    if (errno !== 0) break;
  }
  const did = handOut(table, host, listener);
  const op = listener.waiting.head;
  // No descriptors are left. The backlog keeps the connections, `readable` stays, and the next accept tries again.
  if (errno === 0 || op === null || listener.accepted.length > 0) return did;
  listener.waiting.shift();
  op.failErrno(errno, 'accept', listener.about);
  return did + 1;
}

function adopt(table: SocketTable, listener: Sock, fd: number): number {
  const sock = table.add(fd, listener.family, listener.type, Phase.OPEN);
  const result = table.watch(sock, interestOf(sock));
  if (result < 0) table.remove(sock);
  else listener.accepted.push(sock);
  return -result;
}

/** Gives connections accepted ahead to accepts that wait. */
export function handOut(table: SocketTable, host: DatapathHost, listener: Sock): number {
  let did = 0;
  while (listener.waiting.head !== null && listener.accepted.length > 0) {
    const op = listener.waiting.shift()!;
    did++;
    let qd: number;
    try {
      qd = host.openQueue(listener.family, listener.type);
    } catch (error) {
      op.fail(error as Error); // the kernel's own bound: the connection waits here for the next accept
      continue;
    }
    table.give(listener.accepted.shift()!, qd);
    op.complete(qd);
  }
  return did;
}
