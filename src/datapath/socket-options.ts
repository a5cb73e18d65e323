/**
 * Isthmus's socket options as the kernel's own levels and numbers, for every datapath over kernel sockets.
 * It reads and sets options of descriptors, nothing else.
 */
import { ERRNO, systemError } from '../errors.ts';
import { SocketOption } from '../kernel/datapath.ts';
import {
  getLinger,
  getsockopt,
  IPPROTO_IPV6,
  IPPROTO_TCP,
  IPV6_V6ONLY,
  SO_BROADCAST,
  SO_KEEPALIVE,
  SO_RCVBUF,
  SO_REUSEADDR,
  SO_REUSEPORT,
  SO_SNDBUF,
  SOL_SOCKET,
  setLinger,
  setsockopt,
  TCP_KEEPIDLE,
  TCP_KEEPINTVL,
  TCP_NODELAY,
} from '../linux/socket.ts';

const numbers: { readonly [option: number]: readonly [level: number, option: number] } = {
  [SocketOption.NO_DELAY]: [IPPROTO_TCP, TCP_NODELAY],
  [SocketOption.REUSE_ADDRESS]: [SOL_SOCKET, SO_REUSEADDR],
  [SocketOption.REUSE_PORT]: [SOL_SOCKET, SO_REUSEPORT],
  [SocketOption.KEEP_ALIVE]: [SOL_SOCKET, SO_KEEPALIVE],
  [SocketOption.RECEIVE_BUFFER]: [SOL_SOCKET, SO_RCVBUF],
  [SocketOption.SEND_BUFFER]: [SOL_SOCKET, SO_SNDBUF],
  [SocketOption.V6_ONLY]: [IPPROTO_IPV6, IPV6_V6ONLY],
  [SocketOption.BROADCAST]: [SOL_SOCKET, SO_BROADCAST],
  [SocketOption.KEEP_ALIVE_IDLE]: [IPPROTO_TCP, TCP_KEEPIDLE],
  [SocketOption.KEEP_ALIVE_INTERVAL]: [IPPROTO_TCP, TCP_KEEPINTVL],
};

/** @throws IsthmusError ENOPROTOOPT for an option that does not exist, EINVAL for a bad value, and as in setsockopt(2) */
export function setSocketOption(fd: number, option: SocketOption, value: number): void {
  if (!Number.isInteger(value)) throw systemError(ERRNO.EINVAL, 'setsockopt', `value ${value}`, 'not an integer');
  if (option === SocketOption.LINGER) {
    setLinger(fd, value);
    return;
  }
  const [level, number] = known(option, 'setsockopt');
  setsockopt(fd, level, number, value);
}

/** The value; buffer sizes as the kernel tells them (twice what was set, socket(7)). */
export function getSocketOption(fd: number, option: SocketOption): number {
  if (option === SocketOption.LINGER) return getLinger(fd);
  const [level, number] = known(option, 'getsockopt');
  return getsockopt(fd, level, number);
}

function known(option: SocketOption, syscall: string): readonly [number, number] {
  const found = numbers[option];
  if (found === undefined) throw systemError(ERRNO.ENOPROTOOPT, syscall, `option ${option}`);
  return found;
}
