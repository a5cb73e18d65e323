/** For tests: kernels on the xdp datapath and on the host's sockets in the two namespaces of a lab, and what they say. */
import assert from 'node:assert/strict';
import type { TestContext } from 'node:test';
import { SocketsDatapath } from '../../src/datapath/sockets.ts';
import type { StackDatapathOptions } from '../../src/datapath/stack/core.ts';
import { openXdp, type XdpDatapath } from '../../src/datapath/xdp.ts';
import type { Connection } from '../../src/kernel/connection.ts';
import type { Address, Datapath } from '../../src/kernel/datapath.ts';
import type { Listener, UdpSocket } from '../../src/kernel/endpoints.ts';
import { Host } from '../../src/kernel/host.ts';
import { Kernel } from '../../src/kernel/kernel.ts';
import type { LabSide } from '../../src/linux/lab.ts';
import { close, libcFunction } from '../../src/linux/libc.ts';
import { mapArena } from '../../src/linux/memory.ts';
import { AF_INET, AF_INET6 } from '../../src/linux/sockaddr.ts';
import { connect, recv, SOCK_NONBLOCK, SOCK_RAW, send } from '../../src/linux/socket.ts';
import { checksum } from '../linux/frames.ts';
import { until } from '../linux/lab-support.ts';

const TIMEOUT = { timeout: 30_000 };

/** A kernel in a namespace, in the event loop of the test. */
export class Party {
  readonly kernel: Kernel;
  readonly side: LabSide;
  readonly #host: Host;

  constructor(t: TestContext, side: LabSide, datapath: Datapath) {
    this.side = side;
    this.kernel = new Kernel(datapath, {
      onUncaught: (error) => {
        throw error;
      },
    });
    this.#host = new Host(this.kernel).start();
    t.after(() => this.close());
  }

  /** Ends the kernel. Idempotent. */
  close(): Promise<void> {
    return this.#host.close(1000);
  }

  /** Sockets of the host are made in the namespace of the call. */
  listen(host: string, port = 0): Listener {
    return this.side.namespace.run(() => this.kernel.listen({ host, port }));
  }

  udp(host: string, port = 0): UdpSocket {
    return this.side.namespace.run(() => this.kernel.udp({ host, port }));
  }

  connect(host: string, port: number): Promise<Connection> {
    return Promise.resolve(this.side.namespace.run(() => [this.kernel.connect({ host, port }, TIMEOUT)])[0]!);
  }
}

/** A kernel over our own stack. `options`: what follows the interface in `xdp:`. */
export function past(
  t: TestContext,
  side: LabSide,
  options = '',
  more: StackDatapathOptions = {},
): Party & { datapath: XdpDatapath } {
  const { interfaceName, namespace } = side;
  const datapath = openXdp(`${interfaceName}${options}`, { namespace, heap: { checked: true }, ...more });
  return Object.assign(new Party(t, side, datapath), { datapath });
}

/** A kernel over the host's sockets. */
export function through(t: TestContext, side: LabSide): Party {
  return new Party(
    t,
    side,
    side.namespace.run(() => new SocketsDatapath()),
  );
}

export function portOf(endpoint: Listener | UdpSocket): number {
  return (endpoint.address as Extract<Address, { port: number }>).port;
}

/** Accepts for ever and sends back what comes. */
export function echoing(listener: Listener): Listener {
  listener.kernel.spawn(
    listener.serve(function* (connection) {
      for (;;) {
        const buffer = yield* connection.pop();
        if (buffer === null) return;
        yield* connection.push(buffer);
      }
    }),
  );
  return listener;
}

export function echoingDatagrams(socket: UdpSocket): UdpSocket {
  socket.kernel.spawn(
    (function* () {
      for (;;) yield* socket.push(yield* socket.pop());
    })(),
  );
  return socket;
}

/** Bytes that differ from place to place. */
export function pattern(length: number, salt = 0): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => (i * 7 + (i >> 8) + salt) & 255);
}

/** Sends all of `bytes` and gives as many that came back; the connection stays open. */
export async function exchange(connection: Connection, bytes: Uint8Array): Promise<Uint8Array> {
  const sending = Promise.resolve(connection.write(bytes));
  const got = new Uint8Array(bytes.length);
  for (let at = 0; at < got.length; ) {
    const buffer = await connection.pop(TIMEOUT);
    if (buffer === null) throw new Error(`the stream ended after ${at} bytes`);
    got.set(buffer.bytes, at);
    at += buffer.length;
    buffer.release();
  }
  await sending;
  return got;
}

/** Sends a datagram, again and again until it is answered, and gives the answer. */
export async function ask(socket: UdpSocket, host: string, port: number, bytes: Uint8Array): Promise<Uint8Array> {
  for (let tries = 0; tries < 60; tries++) {
    await socket.push(socket.kernel.alloc(bytes.length).fill(bytes), { host, port });
    try {
      const buffer = await socket.pop({ timeout: 500 });
      const answer = buffer.bytes.slice();
      buffer.release();
      return answer;
    } catch (error) {
      if ((error as { code?: string }).code !== 'ETIMEDOUT') throw error;
    }
  }
  throw new Error('no answer');
}

const rawSocket = libcFunction<[family: number, type: number, protocol: number]>('socket', ['int', 'int', 'int']);

/** Sends an echo request from the host of a side, and resolves when the answer has come. */
export async function ping(t: TestContext, side: LabSide, host: string): Promise<void> {
  const v6 = host.includes(':');
  const fd = side.namespace.run(() => rawSocket(v6 ? AF_INET6 : AF_INET, SOCK_RAW | SOCK_NONBLOCK, v6 ? 58 : 1));
  assert.ok(fd >= 0);
  const memory = mapArena(4096);
  t.after(() => {
    close(fd);
    memory.close();
  });
  // Type, code, checksum (the kernel's affair over IPv6), identification, number, data.
  const request = Uint8Array.from([v6 ? 128 : 8, 0, 0, 0, 0x12, 0x34, 0, 1, ...pattern(56)]);
  if (!v6) request.set([checksum(request) >> 8, checksum(request) & 255], 2);
  assert.equal(connect(fd, { host, port: 0 }), 0);
  memory.u8.set(request);
  let tries = 0;
  await until(
    () => {
      // The first ones may wait for ARP; again every so often.
      if (tries++ % 1000 === 0) send(fd, memory.address, request.length, 0);
      const length = recv(fd, memory.address + 2048, 2048, 0);
      if (length < 0) return false;
      const at = 2048 + (v6 ? 0 : 20);
      return memory.u8[at] === (v6 ? 129 : 0) && memory.u8[at + 4] === 0x12 && memory.u8[at + 5] === 0x34;
    },
    `an answer of ${host}`,
    30_000,
  );
}
