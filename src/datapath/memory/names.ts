/**
 * Who may be reached under which name: each port and path is an abstract Unix socket (unix(7)) of whoever holds it, so that
 * the kernel decides between two that want the same one, and a name is free again when its process ends, however it ends.
 * It binds and connects such sockets; it says nothing on them.
 */
import { createHash } from 'node:crypto';
import { ERRNO, IsthmusError, systemError } from '../../errors.ts';
import { close } from '../../linux/libc.ts';
import * as linux from '../../linux/socket.ts';

const AF_UNIX = 1;
/** Messages with borders, an order and an end. */
const SOCK_SEQPACKET = 5;
/** Listeners that share a port hold `NAME#0` to `NAME#15`. */
const SHARES = 16;
const EPHEMERAL = { first: 32768, count: 28232 };
const EPHEMERAL_TRIES = 512;
/** Greetings that wait to be answered; no more than net.core.somaxconn. */
const GREETINGS = 4096;

/** Of names: stream or datagram, IPv4 or IPv6. */
export type NameSpace = 's4' | 's6' | 'd4' | 'd6';

/** A name that is held. */
export interface Claim {
  readonly name: string;
  /** The bound socket. */
  readonly fd: number;
  /** Which of those that share the port, -1 where it is not shared. */
  readonly share: number;
}

export function portName(space: NameSpace, port: number, share = -1): string {
  return share < 0 ? `${space}/${port}` : `${space}/${port}#${share}`;
}

/** A path stands for itself; there is no file. Hashed, because an abstract name has 107 bytes in all. */
export function pathName(path: string): string {
  return `u/${createHash('sha256').update(path).digest('hex').slice(0, 32)}`;
}

function socketPath(network: string, name: string): string {
  return `\0isthmus-memory/${network}/${name}`;
}

/** A bound socket, or null where somebody has the name. */
function tryBind(network: string, name: string): number | null {
  const fd = linux.socket(AF_UNIX, SOCK_SEQPACKET);
  try {
    linux.bind(fd, { path: socketPath(network, name) });
    return fd;
  } catch (error) {
    close(fd);
    if (error instanceof IsthmusError && error.code === 'EADDRINUSE') return null;
    throw error;
  }
}

/** @throws IsthmusError EADDRINUSE */
export function claimPath(network: string, path: string): Claim {
  const name = pathName(path);
  const fd = tryBind(network, name);
  if (fd === null) throw systemError(ERRNO.EADDRINUSE, 'bind', path.replace(/^\0/, '@'));
  return { name, fd, share: -1 };
}

/**
 * The same port in each of the name spaces.
 * @param port 0 picks one
 * @throws IsthmusError EADDRINUSE
 */
export function claimPort(
  network: string,
  spaces: readonly NameSpace[],
  port: number,
  shared: boolean,
  about: string,
): { port: number; claims: Claim[] } {
  if (port !== 0) {
    const claims = claimAll(network, spaces, port, shared);
    if (claims === null) throw systemError(ERRNO.EADDRINUSE, 'bind', about);
    return { port, claims };
  }
  const start = Math.floor(Math.random() * EPHEMERAL.count);
  for (let i = 0; i < EPHEMERAL_TRIES; i++) {
    const candidate = EPHEMERAL.first + ((start + i) % EPHEMERAL.count);
    // A port that others share is in use for whoever asks for any.
    if (shared && claimAll(network, spaces, candidate, false, true) === null) continue;
    const claims = claimAll(network, spaces, candidate, shared);
    if (claims !== null) return { port: candidate, claims };
  }
  throw systemError(ERRNO.EADDRINUSE, 'bind', about, 'no port was free');
}

function claimAll(
  network: string,
  spaces: readonly NameSpace[],
  port: number,
  shared: boolean,
  probe = false,
): Claim[] | null {
  const claims: Claim[] = [];
  let complete = false;
  try {
    for (const space of spaces) {
      const claim = shared ? claimShare(network, space, port) : claimWhole(network, space, port);
      if (claim === null) return null;
      claims.push(claim);
    }
    complete = !probe;
    return claims;
  } finally {
    if (!complete) for (const { fd } of claims) close(fd);
  }
}

function claimWhole(network: string, space: NameSpace, port: number): Claim | null {
  const name = portName(space, port);
  const fd = tryBind(network, name);
  if (fd === null) return null;
  const first = tryBind(network, portName(space, port, 0));
  if (first === null) {
    close(fd);
    return null;
  }
  close(first);
  return { name, fd, share: -1 };
}

function claimShare(network: string, space: NameSpace, port: number): Claim | null {
  // Somebody else may be looking at the same moment: a name that is held stays held.
  let whole: number | null = null;
  for (let i = 0; i < 4 && whole === null; i++) whole = tryBind(network, portName(space, port));
  if (whole === null) return null;
  close(whole);
  for (let share = 0; share < SHARES; share++) {
    const name = portName(space, port, share);
    const fd = tryBind(network, name);
    if (fd !== null) return { name, fd, share };
  }
  return null;
}

/** Those who look for the name reach this socket from now on. */
export function announce({ fd, name }: Claim): void {
  linux.listen(fd, GREETINGS, name);
}

/**
 * A socket connected to whoever holds the name, or one of its shares, each as likely as the others.
 * @returns the descriptor and the name in full, or null where nobody is there
 */
export function reach(network: string, name: string): { fd: number; name: string; shared: boolean } | null {
  const whole = tryConnect(network, name);
  if (whole !== null) return { fd: whole, name, shared: false };
  if (name.startsWith('u/')) return null;
  // Shares are taken from 0 on. Drawn below what was found empty, each of those that are there is as likely.
  let below = SHARES;
  while (below > 0) {
    const share = Math.floor(Math.random() * below);
    const fd = tryConnect(network, `${name}#${share}`);
    if (fd !== null) return { fd, name: `${name}#${share}`, shared: true };
    below = share;
  }
  for (let share = 1; share < SHARES; share++) {
    const fd = tryConnect(network, `${name}#${share}`);
    if (fd !== null) return { fd, name: `${name}#${share}`, shared: true };
  }
  return null;
}

function tryConnect(network: string, name: string): number | null {
  const fd = linux.socket(AF_UNIX, SOCK_SEQPACKET);
  const result = linux.connect(fd, { path: socketPath(network, name) });
  if (result === 0) return fd;
  close(fd);
  return null;
}

/** Somebody who has found a name of ours, or −errno. */
export function acceptGreeting({ fd }: Claim): number {
  return linux.accept(fd);
}
