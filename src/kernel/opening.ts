/**
 * Listeners, connections and datagram sockets in one call each, made of PDPIX's own calls: where one of these fails, the queue
 * is closed again. It touches nothing but the kernel it is given.
 */
import type { Connection } from './connection.ts';
import { type Address, Family, SocketOption, SocketType } from './datapath.ts';
import { Listener, UdpSocket } from './endpoints.ts';
import type { Kernel } from './kernel.ts';
import { limit, type OperationOptions } from './limit.ts';
import { Opcode, type Operation } from './operation.ts';
import type { QueueDescriptor } from './queue-table.ts';

export interface ListenOptions {
  readonly port?: number;
  /** IP literal. Default `0.0.0.0`. `::` takes IPv4 as well. */
  readonly host?: string;
  /** A Unix stream socket instead of a port. */
  readonly path?: string;
  readonly backlog?: number;
  readonly reusePort?: boolean;
}

export interface UdpOptions {
  readonly port?: number;
  readonly host?: string;
  readonly reusePort?: boolean;
}

/** Connections that may wait to be accepted, where nobody says how many. */
export const DEFAULT_BACKLOG = 511;

export function openListener(kernel: Kernel, options: ListenOptions): Listener {
  const { datapath } = kernel;
  const address = options.path === undefined ? portAddress(options) : { path: options.path };
  const qd = opened(kernel, address, SocketType.STREAM, (qd) => {
    if (!('path' in address)) datapath.setsockopt(qd, SocketOption.REUSE_ADDRESS, 1);
    if (options.reusePort) datapath.setsockopt(qd, SocketOption.REUSE_PORT, 1);
    kernel.bind(qd, address);
    kernel.listen(qd, options.backlog);
  });
  return new Listener(kernel, qd);
}

export function openUdp(kernel: Kernel, options: UdpOptions): UdpSocket {
  const address = portAddress(options);
  const qd = opened(kernel, address, SocketType.DGRAM, (qd) => {
    if (options.reusePort) kernel.datapath.setsockopt(qd, SocketOption.REUSE_PORT, 1);
    kernel.bind(qd, address);
  });
  return new UdpSocket(kernel, qd);
}

export function openConnection(kernel: Kernel, address: Address, options?: OperationOptions): Operation<Connection> {
  const qd = kernel.socket(familyOf(address), SocketType.STREAM);
  const op = kernel.operations.acquire<Connection>(Opcode.CONNECT, qd, deliverConnected);
  op.onFailure = closeQueueOfFailedConnect;
  op.rare = true;
  try {
    kernel.datapath.connect(qd, address, op as unknown as Operation<void>);
  } catch (error) {
    kernel.operations.release(op as Operation<unknown>);
    kernel.close(qd);
    throw error;
  }
  if (options !== undefined) limit(kernel, op as Operation<unknown>, options);
  return op;
}

/** A queue that was set up whole, or no queue. */
function opened(
  kernel: Kernel,
  address: Address,
  type: SocketType,
  setUp: (qd: QueueDescriptor) => void,
): QueueDescriptor {
  const qd = kernel.socket(familyOf(address), type);
  try {
    setUp(qd);
  } catch (error) {
    kernel.close(qd);
    throw error;
  }
  return qd;
}

function portAddress({ host = '0.0.0.0', port = 0 }: { readonly host?: string; readonly port?: number }): Address {
  return { host, port };
}

/** The family an address belongs to; text decides, the datapath checks it fully. */
function familyOf(address: Address): Family {
  if ('path' in address) return Family.UNIX;
  return address.host.includes(':') ? Family.INET6 : Family.INET;
}

function deliverConnected(op: Operation<unknown>): unknown {
  op.onFailure = null;
  return op.kernel.connectionOf(op.qd);
}

function closeQueueOfFailedConnect(op: Operation<unknown>): void {
  if (op.kernel.isOpen(op.qd)) op.kernel.abort(op.qd);
}
