/**
 * Sockets of the kernel: set-up calls that throw system errors, and hot calls that give −errno and allocate nothing.
 * Addresses of memory are plain numbers; a descriptor is a plain number that the caller owns and closes.
 */

import type { Address } from '../address/ip.ts';
import { systemError } from '../errors.ts';
import { libcFunction, orErrno, orThrow } from './libc.ts';
import { reserveScratch, scratchAddress, scratchI32, scratchU8 } from './scratch.ts';
import { addressText, readSockaddr, SOCKADDR_MAX_BYTES, writeSockaddr } from './sockaddr.ts';

export const SOCK_STREAM = 1;
export const SOCK_DGRAM = 2;
export const SOCK_RAW = 3;
export const SOCK_NONBLOCK = 0o4000;
export const SOCK_CLOEXEC = 0o2000000;

export const MSG_PEEK = 0x2;
export const MSG_TRUNC = 0x20;
export const MSG_DONTWAIT = 0x40;
export const MSG_WAITALL = 0x100;
export const MSG_NOSIGNAL = 0x4000;
export const MSG_ZEROCOPY = 0x4000000;

export const SHUT_RD = 0;
export const SHUT_WR = 1;
export const SHUT_RDWR = 2;

export const SOL_SOCKET = 1;
export const SO_REUSEADDR = 2;
export const SO_TYPE = 3;
export const SO_ERROR = 4;
export const SO_BROADCAST = 6;
export const SO_SNDBUF = 7;
export const SO_RCVBUF = 8;
export const SO_KEEPALIVE = 9;
export const SO_LINGER = 13;
export const SO_REUSEPORT = 15;
export const SO_ACCEPTCONN = 30;
export const SO_BUSY_POLL = 46;
export const SO_INCOMING_CPU = 49;
export const IPPROTO_IP = 0;
export const IPPROTO_TCP = 6;
export const IPPROTO_UDP = 17;
export const IPPROTO_IPV6 = 41;
export const TCP_NODELAY = 1;
export const TCP_KEEPIDLE = 4;
export const TCP_KEEPINTVL = 5;
export const TCP_KEEPCNT = 6;
export const TCP_DEFER_ACCEPT = 9;
export const TCP_QUICKACK = 12;
export const TCP_USER_TIMEOUT = 18;
export const IPV6_V6ONLY = 26;

const cSocket = libcFunction<[family: number, type: number, protocol: number]>('socket', ['int', 'int', 'int']);
const cSocketpair = libcFunction<[family: number, type: number, protocol: number, pair: number]>('socketpair', [
  'int',
  'int',
  'int',
  'long',
]);
const cBind = libcFunction<[fd: number, address: number, length: number]>('bind', ['int', 'long', 'int']);
const cListen = libcFunction<[fd: number, backlog: number]>('listen', ['int', 'int']);
const cConnect = libcFunction<[fd: number, address: number, length: number]>('connect', ['int', 'long', 'int']);
const cAccept4 = libcFunction<[fd: number, address: number, length: number, flags: number]>('accept4', [
  'int',
  'long',
  'long',
  'int',
]);
const cGetsockname = libcFunction<[fd: number, address: number, length: number]>('getsockname', [
  'int',
  'long',
  'long',
]);
const cGetpeername = libcFunction<[fd: number, address: number, length: number]>('getpeername', [
  'int',
  'long',
  'long',
]);
const cSetsockopt = libcFunction<[fd: number, level: number, option: number, value: number, length: number]>(
  'setsockopt',
  ['int', 'int', 'int', 'long', 'int'],
);
const cGetsockopt = libcFunction<[fd: number, level: number, option: number, value: number, length: number]>(
  'getsockopt',
  ['int', 'int', 'int', 'long', 'long'],
);
const cShutdown = libcFunction<[fd: number, how: number]>('shutdown', ['int', 'int']);
const cRecv = libcFunction<[fd: number, buffer: number, length: number, flags: number]>(
  'recv',
  ['int', 'long', 'long', 'int'],
  'long',
);
const cSend = libcFunction<[fd: number, buffer: number, length: number, flags: number]>(
  'send',
  ['int', 'long', 'long', 'int'],
  'long',
);
const cSendto = libcFunction<
  [fd: number, buffer: number, length: number, flags: number, address: number, addressLength: number]
>('sendto', ['int', 'long', 'long', 'int', 'long', 'int'], 'long');
const cRecvfrom = libcFunction<
  [fd: number, buffer: number, length: number, flags: number, address: number, addressLength: number]
>('recvfrom', ['int', 'long', 'long', 'int', 'long', 'long'], 'long');
const cSendmsg = libcFunction<[fd: number, header: number, flags: number]>('sendmsg', ['int', 'long', 'int'], 'long');
const cRecvmsg = libcFunction<[fd: number, header: number, flags: number]>('recvmsg', ['int', 'long', 'int'], 'long');

const nameOffset = reserveScratch(SOCKADDR_MAX_BYTES);
const nameAddress = scratchAddress + nameOffset;
const lengthOffset = reserveScratch(64);
const lengthAddress = scratchAddress + lengthOffset;
const lengthIndex = lengthOffset >> 2;
const valueOffset = reserveScratch(64);
const valueAddress = scratchAddress + valueOffset;
const valueIndex = valueOffset >> 2;

/** `socket(2)`, closed on exec. `flags`: SOCK_NONBLOCK or 0. */
export function socket(family: number, type: number, flags = SOCK_NONBLOCK): number {
  return orThrow(cSocket(family, type | flags | SOCK_CLOEXEC, 0), 'socket');
}

/** `socketpair(2)` of Unix sockets, closed on exec. */
export function socketpair(type: number = SOCK_STREAM, flags = SOCK_NONBLOCK): [number, number] {
  orThrow(cSocketpair(1, type | flags | SOCK_CLOEXEC, 0, valueAddress), 'socketpair');
  return [scratchI32[valueIndex]!, scratchI32[valueIndex + 1]!];
}

export function bind(fd: number, address: Address): void {
  const length = writeSockaddr(address, scratchU8, nameOffset, 'bind');
  orThrow(cBind(fd, nameAddress, length), 'bind', addressText(address));
}

/** `about`: what the message calls the socket, e.g. `127.0.0.1:80`. */
export function listen(fd: number, backlog: number, about?: string): void {
  orThrow(cListen(fd, backlog), 'listen', about);
}

/** `connect(2)`: 0, or −errno (−EINPROGRESS on a non-blocking socket). Throws only for an address that is none. */
export function connect(fd: number, address: Address): number {
  const length = writeSockaddr(address, scratchU8, nameOffset, 'connect');
  return orErrno(cConnect(fd, nameAddress, length));
}

/** `connect(2)` to a packed address. */
export function connectTo(fd: number, sockaddr: number, length: number): number {
  return orErrno(cConnect(fd, sockaddr, length));
}

/**
 * `accept4(2)`, closed on exec: the new descriptor, or −errno (−EAGAIN: nobody waits). Hot.
 * The peer's address is then in {@link lastAccepted}.
 */
export function accept(fd: number, flags = SOCK_NONBLOCK): number {
  scratchI32[lengthIndex] = SOCKADDR_MAX_BYTES;
  return orErrno(cAccept4(fd, nameAddress, lengthAddress, flags | SOCK_CLOEXEC));
}

/** The peer of the last successful {@link accept}, if nothing else of this file was called since. */
export function lastAccepted(): Address {
  return readSockaddr(scratchU8, nameOffset, scratchI32[lengthIndex]!);
}

export function getsockname(fd: number): Address {
  scratchI32[lengthIndex] = SOCKADDR_MAX_BYTES;
  orThrow(cGetsockname(fd, nameAddress, lengthAddress), 'getsockname');
  return readSockaddr(scratchU8, nameOffset, scratchI32[lengthIndex]!);
}

export function getpeername(fd: number): Address {
  scratchI32[lengthIndex] = SOCKADDR_MAX_BYTES;
  orThrow(cGetpeername(fd, nameAddress, lengthAddress), 'getpeername');
  return readSockaddr(scratchU8, nameOffset, scratchI32[lengthIndex]!);
}

/** Sets an integer option. */
export function setsockopt(fd: number, level: number, option: number, value: number): void {
  scratchI32[valueIndex] = value;
  orThrow(cSetsockopt(fd, level, option, valueAddress, 4), 'setsockopt', `option ${level}/${option}`);
}

/** Reads an integer option. */
export function getsockopt(fd: number, level: number, option: number): number {
  scratchI32[lengthIndex] = 4;
  scratchI32[valueIndex] = 0;
  orThrow(cGetsockopt(fd, level, option, valueAddress, lengthAddress), 'getsockopt', `option ${level}/${option}`);
  return scratchI32[valueIndex]!;
}

/** Sets an option whose value is a structure or text at `address`. */
export function setsockoptBytes(fd: number, level: number, option: number, address: number, length: number): void {
  orThrow(cSetsockopt(fd, level, option, address, length), 'setsockopt', `option ${level}/${option}`);
}

/** Reads an option into `length` bytes at `address`; gives the bytes written. */
export function getsockoptBytes(fd: number, level: number, option: number, address: number, length: number): number {
  scratchI32[lengthIndex] = length;
  orThrow(cGetsockopt(fd, level, option, address, lengthAddress), 'getsockopt', `option ${level}/${option}`);
  return scratchI32[lengthIndex]!;
}

/** SO_LINGER: seconds to wait in close; 0 resets the connection; negative turns it off. */
export function setLinger(fd: number, seconds: number): void {
  scratchI32[valueIndex] = seconds < 0 ? 0 : 1;
  scratchI32[valueIndex + 1] = Math.max(0, seconds);
  orThrow(cSetsockopt(fd, SOL_SOCKET, SO_LINGER, valueAddress, 8), 'setsockopt', 'SO_LINGER');
}

/** SO_LINGER as {@link setLinger} takes it. */
export function getLinger(fd: number): number {
  scratchI32[lengthIndex] = 8;
  orThrow(cGetsockopt(fd, SOL_SOCKET, SO_LINGER, valueAddress, lengthAddress), 'getsockopt', 'SO_LINGER');
  return scratchI32[valueIndex] === 0 ? -1 : scratchI32[valueIndex + 1]!;
}

/** The pending error of a socket as −errno, 0 if none; reading it clears it. Tells how a connect ended. */
export function takeSocketError(fd: number): number {
  return -getsockopt(fd, SOL_SOCKET, SO_ERROR);
}

/** `shutdown(2)`: 0 or −errno. */
export function shutdown(fd: number, how: number): number {
  return orErrno(cShutdown(fd, how));
}

/** `recv(2)` into memory at `address`: bytes, 0 at the end of a stream, or −errno. Hot. */
export function recv(fd: number, address: number, length: number, flags: number): number {
  return orErrno(cRecv(fd, address, length, flags));
}

/** `send(2)` from memory at `address`; never raises SIGPIPE. Bytes or −errno. Hot. */
export function send(fd: number, address: number, length: number, flags: number): number {
  return orErrno(cSend(fd, address, length, flags | MSG_NOSIGNAL));
}

/** `sendto(2)` to the packed address at `sockaddr`. Bytes or −errno. Hot. */
export function sendto(
  fd: number,
  address: number,
  length: number,
  flags: number,
  sockaddr: number,
  sockaddrLength: number,
): number {
  return orErrno(cSendto(fd, address, length, flags | MSG_NOSIGNAL, sockaddr, sockaddrLength));
}

/**
 * `recvfrom(2)`: bytes or −errno. The sender's packed address goes to `sockaddr`; the word at `sockaddrLength`
 * (an address) holds the room there before and the length after. Hot.
 */
export function recvfrom(
  fd: number,
  address: number,
  length: number,
  flags: number,
  sockaddr: number,
  sockaddrLength: number,
): number {
  return orErrno(cRecvfrom(fd, address, length, flags, sockaddr, sockaddrLength));
}

/** `sendmsg(2)` with the msghdr at `header` (see message.ts). Bytes or −errno. Hot. */
export function sendmsg(fd: number, header: number, flags: number): number {
  return orErrno(cSendmsg(fd, header, flags | MSG_NOSIGNAL));
}

/** `recvmsg(2)` with the msghdr at `header`. Bytes or −errno. Hot. */
export function recvmsg(fd: number, header: number, flags: number): number {
  return orErrno(cRecvmsg(fd, header, flags));
}

/** Throws where `result` is −errno, naming the call; else gives it back. For set-up uses of the hot calls. */
export function expectSuccess(result: number, syscall: string, about?: string): number {
  if (result < 0) throw systemError(result, syscall, about);
  return result;
}
