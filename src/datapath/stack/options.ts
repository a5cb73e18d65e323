/**
 * Socket options of the stack's queues: small integers by option number, and how a TCP connection is set by them.
 * It touches the connection that it is given.
 */
import { ERRNO, systemError } from '../../errors.ts';
import { SocketOption } from '../../kernel/datapath.ts';
import type { TcpConfig } from '../../net/tcp/config.ts';
import type { Connection } from '../../net/tcp/connection.ts';

const COUNT = 12;
/** The window must be able to move by a segment. */
const LEAST_BUFFER = 2048;
const MOST_BUFFER = 1 << 28;

/** The options of a queue of which none was set. */
export function defaultOptions(sendLimit: number, config: TcpConfig): Int32Array {
  const values = new Int32Array(COUNT);
  values[SocketOption.NO_DELAY] = config.noDelay ? 1 : 0;
  values[SocketOption.KEEP_ALIVE] = config.keepAlive ? 1 : 0;
  values[SocketOption.RECEIVE_BUFFER] = config.receiveBuffer;
  values[SocketOption.SEND_BUFFER] = sendLimit;
  values[SocketOption.LINGER] = -1;
  values[SocketOption.KEEP_ALIVE_IDLE] = config.keepAliveIdleMs / 1000;
  values[SocketOption.KEEP_ALIVE_INTERVAL] = config.keepAliveIntervalMs / 1000;
  return values;
}

/** @throws IsthmusError ENOPROTOOPT, EINVAL */
export function setOption(values: Int32Array, option: SocketOption, value: number): void {
  check(option, 'setsockopt');
  if (!Number.isInteger(value) || Math.abs(value) > 0x7fffffff) {
    throw systemError(ERRNO.EINVAL, 'setsockopt', `value ${value}`, 'not an integer');
  }
  const isBuffer = option === SocketOption.RECEIVE_BUFFER || option === SocketOption.SEND_BUFFER;
  if (isBuffer) value = Math.min(Math.max(value, LEAST_BUFFER), MOST_BUFFER);
  const isTime = option === SocketOption.KEEP_ALIVE_IDLE || option === SocketOption.KEEP_ALIVE_INTERVAL;
  if (isTime && !(value >= 1 && value <= 32767)) throw systemError(ERRNO.EINVAL, 'setsockopt', `${value} s`);
  values[option] = value;
}

/** @throws IsthmusError ENOPROTOOPT */
export function getOption(values: Int32Array, option: SocketOption): number {
  check(option, 'getsockopt');
  return values[option]!;
}

function check(option: SocketOption, call: string): void {
  if (!(Number.isInteger(option) && option >= SocketOption.NO_DELAY && option <= SocketOption.KEEP_ALIVE_INTERVAL)) {
    throw systemError(ERRNO.ENOPROTOOPT, call, `option ${option}`);
  }
}

/** Sets a connection as its queue's options say. Of an accepted one the window has been offered already. */
export function applyOptions(values: Int32Array, c: Connection): void {
  c.noDelay = values[SocketOption.NO_DELAY] !== 0;
  c.sendBuffer = values[SocketOption.SEND_BUFFER]!;
  c.receiveBuffer = values[SocketOption.RECEIVE_BUFFER]!;
  c.keepAliveIdleMs = values[SocketOption.KEEP_ALIVE_IDLE]! * 1000;
  c.keepAliveIntervalMs = values[SocketOption.KEEP_ALIVE_INTERVAL]! * 1000;
  const keepAlive = values[SocketOption.KEEP_ALIVE] !== 0;
  if (keepAlive !== c.keepAlive) c.setKeepAlive(keepAlive);
}
