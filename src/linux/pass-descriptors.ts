/**
 * Descriptors over a Unix socket (SCM_RIGHTS, unix(7)), and who is at its other end (SO_PEERCRED).
 * For set-up: it sends and receives small messages through one place in scratch memory.
 */
import { close, orErrno } from './libc.ts';
import { reserveScratch, scratchAddress, scratchHigh, scratchI32, scratchU8 } from './scratch.ts';
import { getsockoptBytes, recvmsg, SOL_SOCKET, sendmsg } from './socket.ts';

/** Most bytes in a message, and most descriptors with it. */
export const PASSED_BYTES = 256;
export const PASSED_DESCRIPTORS = 4;

const SCM_RIGHTS = 1;
const SO_PEERCRED = 17;
const MSG_CMSG_CLOEXEC = 0x40000000;
const MSG_CTRUNC = 0x8;
const CONTROL_HEADER = 16; // struct cmsghdr: length, level, type
const CONTROL_BYTES = CONTROL_HEADER + PASSED_DESCRIPTORS * 4;

const header = reserveScratch(64); // struct msghdr: 56 bytes
const vector = reserveScratch(64);
const control = reserveScratch(64);
const data = reserveScratch(PASSED_BYTES);
const credentials = reserveScratch(64);

export interface PassedMessage {
  /** Bytes received: 0 at the end of the stream, or −errno (−EAGAIN: nothing there). */
  readonly result: number;
  /** A copy of the bytes. */
  readonly bytes: Uint8Array;
  /** Descriptors that came with them; they are the caller's to close. */
  readonly descriptors: readonly number[];
}

export interface PeerCredentials {
  readonly pid: number;
  readonly uid: number;
}

/** Sends one message with descriptors, of which the receiver gets duplicates. Bytes sent or −errno. */
export function sendDescriptors(fd: number, bytes: Uint8Array, descriptors: readonly number[] = []): number {
  if (bytes.length > PASSED_BYTES || descriptors.length > PASSED_DESCRIPTORS) throw new RangeError('too much to pass');
  scratchU8.set(bytes, data);
  const controlBytes = descriptors.length === 0 ? 0 : CONTROL_HEADER + descriptors.length * 4;
  prepare(bytes.length, controlBytes);
  const at = control >> 2;
  scratchI32[at] = controlBytes;
  scratchI32[at + 1] = 0;
  scratchI32[at + 2] = SOL_SOCKET;
  scratchI32[at + 3] = SCM_RIGHTS;
  for (const [i, each] of descriptors.entries()) scratchI32[at + 4 + i] = each;
  return sendmsg(fd, scratchAddress + header, 0);
}

/** Receives one message; descriptors are closed on exec. More of them than fit are closed, and the message refused. */
export function receiveDescriptors(fd: number): PassedMessage {
  prepare(PASSED_BYTES, (CONTROL_BYTES + 7) & ~7);
  scratchI32.fill(0, control >> 2, (control + 64) >> 2);
  const result = orErrno(recvmsg(fd, scratchAddress + header, MSG_CMSG_CLOEXEC));
  const descriptors: number[] = [];
  if (result < 0) return { result, bytes: new Uint8Array(0), descriptors };
  const at = control >> 2;
  const controlBytes = scratchI32[(header >> 2) + 10]!;
  if (controlBytes >= CONTROL_HEADER && scratchI32[at + 2] === SOL_SOCKET && scratchI32[at + 3] === SCM_RIGHTS) {
    const count = Math.min(PASSED_DESCRIPTORS + 1, (scratchI32[at]! - CONTROL_HEADER) >> 2);
    for (let i = 0; i < count; i++) descriptors.push(scratchI32[at + 4 + i]!);
  }
  if ((scratchI32[(header >> 2) + 12]! & MSG_CTRUNC) !== 0) for (const each of descriptors.splice(0)) close(each);
  return { result, bytes: scratchU8.slice(data, data + result), descriptors };
}

/** Who listened or connected at the other end, as the kernel knows it. @throws IsthmusError */
export function peerCredentials(fd: number): PeerCredentials {
  getsockoptBytes(fd, SOL_SOCKET, SO_PEERCRED, scratchAddress + credentials, 12);
  return { pid: scratchI32[credentials >> 2]!, uid: scratchI32[(credentials >> 2) + 1]! };
}

function prepare(bytes: number, controlBytes: number): void {
  const at = header >> 2;
  scratchI32.fill(0, at, at + 14);
  scratchI32[at + 4] = vector; // msg_iov; scratch memory begins where the low word is 0
  scratchI32[at + 5] = scratchHigh;
  scratchI32[at + 6] = 1;
  if (controlBytes > 0) {
    scratchI32[at + 8] = control;
    scratchI32[at + 9] = scratchHigh;
    scratchI32[at + 10] = controlBytes;
  }
  scratchI32[vector >> 2] = data;
  scratchI32[(vector >> 2) + 1] = scratchHigh;
  scratchI32[(vector >> 2) + 2] = bytes;
  scratchI32[(vector >> 2) + 3] = 0;
}
