/**
 * One function per io_uring operation: writes a submission entry into the ring and nothing else.
 * No allocation, no call (but a hand-over when the queue is full).
 *
 * Common arguments. `fd`: a descriptor, or a slot of the registered table when `flags` (SqeFlag) has FIXED_FILE.
 * `high`, `low`: the two words of an address; in an arena `low` is the offset. `dataLow`, `dataHigh`: user data, the
 * first two words of the completion.
 */
import type { Ring } from './uring.ts';
import {
  ACCEPT_MULTISHOT,
  ASYNC_CANCEL_ALL,
  ASYNC_CANCEL_ANY,
  ASYNC_CANCEL_FD,
  ASYNC_CANCEL_FD_FIXED,
  FILE_INDEX_ALLOC,
  Op,
  POLL_ADD_MULTI,
  RECV_MULTISHOT,
  RECVSEND_BUNDLE,
  SqeFlag,
  TIMEOUT_MULTISHOT,
} from './uring-abi.ts';

/** Words of an entry: 0 op/flags/ioprio, 1 fd, 2–3 off, 4–5 addr, 6 len, 7 op flags, 8–9 user data, 10 buffer, 11 file index. */
function put(
  ring: Ring,
  head: number,
  fd: number,
  offLow: number,
  offHigh: number,
  low: number,
  high: number,
  length: number,
  opFlags: number,
  dataLow: number,
  dataHigh: number,
  buffer: number,
  file: number,
): void {
  const k = ring.sqe();
  const m = ring.sqes;
  m[k] = head;
  m[k + 1] = fd;
  m[k + 2] = offLow;
  m[k + 3] = offHigh;
  m[k + 4] = low;
  m[k + 5] = high;
  m[k + 6] = length;
  m[k + 7] = opFlags;
  m[k + 8] = dataLow;
  m[k + 9] = dataHigh;
  m[k + 10] = buffer;
  m[k + 11] = file;
}

export function prepNop(ring: Ring, dataLow: number, dataHigh: number): void {
  put(ring, Op.NOP, -1, 0, 0, 0, 0, 0, 0, dataLow, dataHigh, 0, 0);
}

/** Accepts for as long as it lives; each completion is a new descriptor (`acceptFlags`: SOCK_NONBLOCK, SOCK_CLOEXEC). Kernel 5.19. */
export function prepAcceptMultishot(
  ring: Ring,
  fd: number,
  flags: number,
  acceptFlags: number,
  dataLow: number,
  dataHigh: number,
): void {
  const head = Op.ACCEPT | (flags << 8) | (ACCEPT_MULTISHOT << 16);
  put(ring, head, fd, 0, 0, 0, 0, 0, acceptFlags, dataLow, dataHigh, 0, 0);
}

/** As {@link prepAcceptMultishot}, each completion being a slot of the registered table; ENFILE when it is full. */
export function prepAcceptMultishotDirect(
  ring: Ring,
  fd: number,
  flags: number,
  dataLow: number,
  dataHigh: number,
): void {
  const head = Op.ACCEPT | (flags << 8) | (ACCEPT_MULTISHOT << 16);
  put(ring, head, fd, 0, 0, 0, 0, 0, 0, dataLow, dataHigh, 0, FILE_INDEX_ALLOC);
}

/** Receives for as long as it lives, each time into a provided buffer of `group`. Ends with ENOBUFS when there is none. Kernel 6.0. */
export function prepRecvMultishot(
  ring: Ring,
  fd: number,
  flags: number,
  group: number,
  dataLow: number,
  dataHigh: number,
): void {
  const head = Op.RECV | ((flags | SqeFlag.BUFFER_SELECT) << 8) | (RECV_MULTISHOT << 16);
  put(ring, head, fd, 0, 0, 0, 0, 0, 0, dataLow, dataHigh, group, 0);
}

/** As {@link prepRecvMultishot}, a completion covering several buffers in ring order, from its buffer id on. Kernel 6.10. */
export function prepRecvBundle(
  ring: Ring,
  fd: number,
  flags: number,
  group: number,
  dataLow: number,
  dataHigh: number,
): void {
  const head = Op.RECV | ((flags | SqeFlag.BUFFER_SELECT) << 8) | ((RECV_MULTISHOT | RECVSEND_BUNDLE) << 16);
  put(ring, head, fd, 0, 0, 0, 0, 0, 0, dataLow, dataHigh, group, 0);
}

/** One receive into given memory. */
export function prepRecv(
  ring: Ring,
  fd: number,
  flags: number,
  high: number,
  low: number,
  length: number,
  msgFlags: number,
  dataLow: number,
  dataHigh: number,
): void {
  put(ring, Op.RECV | (flags << 8), fd, 0, 0, low, high, length, msgFlags, dataLow, dataHigh, 0, 0);
}

/**
 * Receives datagrams for as long as it lives into buffers of `group`. The msghdr at `high:low` gives the room for name
 * and control data and must stay. Each buffer holds a header of four words (name length, control length, payload
 * length, flags), the name, the control data, the payload. Kernel 6.0.
 */
export function prepRecvmsgMultishot(
  ring: Ring,
  fd: number,
  flags: number,
  high: number,
  low: number,
  group: number,
  msgFlags: number,
  dataLow: number,
  dataHigh: number,
): void {
  const head = Op.RECVMSG | ((flags | SqeFlag.BUFFER_SELECT) << 8) | (RECV_MULTISHOT << 16);
  put(ring, head, fd, 0, 0, low, high, 1, msgFlags, dataLow, dataHigh, group, 0);
}

export function prepSend(
  ring: Ring,
  fd: number,
  flags: number,
  high: number,
  low: number,
  length: number,
  msgFlags: number,
  dataLow: number,
  dataHigh: number,
): void {
  put(ring, Op.SEND | (flags << 8), fd, 0, 0, low, high, length, msgFlags, dataLow, dataHigh, 0, 0);
}

/**
 * Zero-copy send: one completion with the result and, if that has CqeFlag.MORE, a second with NOTIF once the memory
 * may be used again. `options`: RECVSEND_FIXED_BUF (then `buffer` is the index), SEND_ZC_REPORT_USAGE. Kernel 6.0.
 */
export function prepSendZc(
  ring: Ring,
  fd: number,
  flags: number,
  high: number,
  low: number,
  length: number,
  msgFlags: number,
  options: number,
  buffer: number,
  dataLow: number,
  dataHigh: number,
): void {
  const head = Op.SEND_ZC | (flags << 8) | (options << 16);
  put(ring, head, fd, 0, 0, low, high, length, msgFlags, dataLow, dataHigh, buffer, 0);
}

/** Sends what the msghdr at `high:low` says (message.ts); header and pieces stay until completion. */
export function prepSendmsg(
  ring: Ring,
  fd: number,
  flags: number,
  high: number,
  low: number,
  msgFlags: number,
  dataLow: number,
  dataHigh: number,
): void {
  put(ring, Op.SENDMSG | (flags << 8), fd, 0, 0, low, high, 1, msgFlags, dataLow, dataHigh, 0, 0);
}

/** {@link prepSendmsg} with the completions of {@link prepSendZc}. Kernel 6.1. */
export function prepSendmsgZc(
  ring: Ring,
  fd: number,
  flags: number,
  high: number,
  low: number,
  msgFlags: number,
  dataLow: number,
  dataHigh: number,
): void {
  put(ring, Op.SENDMSG_ZC | (flags << 8), fd, 0, 0, low, high, 1, msgFlags, dataLow, dataHigh, 0, 0);
}

/** Connects to the packed address of `length` bytes at `high:low`, which stays until completion. */
export function prepConnect(
  ring: Ring,
  fd: number,
  flags: number,
  high: number,
  low: number,
  length: number,
  dataLow: number,
  dataHigh: number,
): void {
  put(ring, Op.CONNECT | (flags << 8), fd, length, 0, low, high, 0, 0, dataLow, dataHigh, 0, 0);
}

/** Makes a socket in a free slot of the registered table; the result is the slot. Kernel 5.19. */
export function prepSocketDirect(ring: Ring, family: number, type: number, dataLow: number, dataHigh: number): void {
  put(ring, Op.SOCKET, family, type, 0, 0, 0, 0, 0, dataLow, dataHigh, 0, FILE_INDEX_ALLOC);
}

/** Makes an ordinary descriptor (closed on exec) of a slot; the slot stays. The result is the descriptor. Kernel 6.8. */
export function prepFixedFdInstall(ring: Ring, slot: number, dataLow: number, dataHigh: number): void {
  put(ring, Op.FIXED_FD_INSTALL | (SqeFlag.FIXED_FILE << 8), slot, 0, 0, 0, 0, 0, 0, dataLow, dataHigh, 0, 0);
}

export function prepClose(ring: Ring, fd: number, flags: number, dataLow: number, dataHigh: number): void {
  put(ring, Op.CLOSE | (flags << 8), fd, 0, 0, 0, 0, 0, 0, dataLow, dataHigh, 0, 0);
}

/** Empties a slot of the registered table, closing what was there. `flags` without FIXED_FILE. */
export function prepCloseSlot(ring: Ring, slot: number, flags: number, dataLow: number, dataHigh: number): void {
  put(ring, Op.CLOSE | (flags << 8), 0, 0, 0, 0, 0, 0, 0, dataLow, dataHigh, 0, slot + 1);
}

/** `how`: SHUT_RD, SHUT_WR, SHUT_RDWR. */
export function prepShutdown(
  ring: Ring,
  fd: number,
  flags: number,
  how: number,
  dataLow: number,
  dataHigh: number,
): void {
  put(ring, Op.SHUTDOWN | (flags << 8), fd, 0, 0, 0, 0, how, 0, dataLow, dataHigh, 0, 0);
}

/** Reports readiness (poll(2)'s bits, as EPOLLIN …) once. */
export function prepPollAdd(
  ring: Ring,
  fd: number,
  flags: number,
  events: number,
  dataLow: number,
  dataHigh: number,
): void {
  put(ring, Op.POLL_ADD | (flags << 8), fd, 0, 0, 0, 0, 0, events, dataLow, dataHigh, 0, 0);
}

/** Reports readiness for as long as it lives. */
export function prepPollAddMultishot(
  ring: Ring,
  fd: number,
  flags: number,
  events: number,
  dataLow: number,
  dataHigh: number,
): void {
  put(ring, Op.POLL_ADD | (flags << 8), fd, 0, 0, 0, 0, POLL_ADD_MULTI, events, dataLow, dataHigh, 0, 0);
}

/** Cancels the operation with this user data. Result: 0, −ENOENT (there is none), −EALREADY (too late). */
export function prepCancelUserData(
  ring: Ring,
  targetLow: number,
  targetHigh: number,
  flags: number,
  dataLow: number,
  dataHigh: number,
): void {
  put(ring, Op.ASYNC_CANCEL | (flags << 8), -1, 0, 0, targetLow, targetHigh, 0, 0, dataLow, dataHigh, 0, 0);
}

/** Cancels all operations on a descriptor (`fixed` 0) or slot (`fixed` 1). Result: how many, or −ENOENT. Kernel 5.19. */
export function prepCancelFd(
  ring: Ring,
  fd: number,
  fixed: 0 | 1,
  flags: number,
  dataLow: number,
  dataHigh: number,
): void {
  const how = ASYNC_CANCEL_ALL | ASYNC_CANCEL_FD | (fixed ? ASYNC_CANCEL_FD_FIXED : 0);
  put(ring, Op.ASYNC_CANCEL | (flags << 8), fd, 0, 0, 0, 0, 0, how, dataLow, dataHigh, 0, 0);
}

/** Cancels everything in flight. Result: how many. Kernel 5.19. */
export function prepCancelAll(ring: Ring, flags: number, dataLow: number, dataHigh: number): void {
  const how = ASYNC_CANCEL_ALL | ASYNC_CANCEL_ANY;
  put(ring, Op.ASYNC_CANCEL | (flags << 8), -1, 0, 0, 0, 0, 0, how, dataLow, dataHigh, 0, 0);
}

/** Completes with −ETIME after the time in the timespec (two 64-bit words: s, ns) at `high:low`. */
export function prepTimeout(ring: Ring, high: number, low: number, dataLow: number, dataHigh: number): void {
  put(ring, Op.TIMEOUT, -1, 0, 0, low, high, 1, 0, dataLow, dataHigh, 0, 0);
}

/** Completes with −ETIME each time the period has passed, `count` times (0: for ever). Kernel 6.4. */
export function prepTimeoutMultishot(
  ring: Ring,
  high: number,
  low: number,
  count: number,
  dataLow: number,
  dataHigh: number,
): void {
  put(ring, Op.TIMEOUT, -1, count, 0, low, high, 1, TIMEOUT_MULTISHOT, dataLow, dataHigh, 0, 0);
}

/** Ends the timeout with this user data. */
export function prepTimeoutRemove(
  ring: Ring,
  targetLow: number,
  targetHigh: number,
  dataLow: number,
  dataHigh: number,
): void {
  put(ring, Op.TIMEOUT_REMOVE, -1, 0, 0, targetLow, targetHigh, 0, 0, dataLow, dataHigh, 0, 0);
}

/** Limits the operation linked before it (SqeFlag.LINK) to the time in the timespec at `high:low`. */
export function prepLinkTimeout(ring: Ring, high: number, low: number, dataLow: number, dataHigh: number): void {
  put(ring, Op.LINK_TIMEOUT, -1, 0, 0, low, high, 1, 0, dataLow, dataHigh, 0, 0);
}

/** Reads at the file position (`offsetLow`, `offsetHigh` −1) or at an offset. */
export function prepRead(
  ring: Ring,
  fd: number,
  flags: number,
  high: number,
  low: number,
  length: number,
  offsetLow: number,
  offsetHigh: number,
  dataLow: number,
  dataHigh: number,
): void {
  put(ring, Op.READ | (flags << 8), fd, offsetLow, offsetHigh, low, high, length, 0, dataLow, dataHigh, 0, 0);
}

/** Writes at the file position (`offsetLow`, `offsetHigh` −1) or at an offset. */
export function prepWrite(
  ring: Ring,
  fd: number,
  flags: number,
  high: number,
  low: number,
  length: number,
  offsetLow: number,
  offsetHigh: number,
  dataLow: number,
  dataHigh: number,
): void {
  put(ring, Op.WRITE | (flags << 8), fd, offsetLow, offsetHigh, low, high, length, 0, dataLow, dataHigh, 0, 0);
}
