/**
 * The echo server: whatever arrives leaves again, over TCP and UDP at once on one port, or over a Unix stream socket.
 * It touches only the kernel it is given; the buffer that arrives is the buffer that leaves.
 */
import type { Connection, Coroutine, Kernel, Listener, UdpSocket } from '../index.ts';
import { defineApp } from './app.ts';
import { concernsOneDatagram } from './datagram.ts';

export const echo = defineApp({
  name: 'echo',
  summary: 'Sends back what it receives, over TCP and UDP.',
  options: {
    port: { type: 'integer', value: 'PORT', default: 7000, min: 0, max: 65535, help: 'Port for both; 0 picks one.' },
    host: { type: 'string', value: 'ADDRESS', default: '127.0.0.1', help: 'Address to listen on.' },
    path: { type: 'string', value: 'PATH', help: 'A Unix stream socket instead of a port.' },
    udp: { type: 'boolean', help: 'Datagrams only.' },
  },
  *main(k, options, context) {
    const { listener, socket } = open(k, options, context.cores > 1);
    const datagrams = socket === null ? null : k.spawn(echoDatagrams(socket));
    try {
      const listening = [];
      if (listener !== null) {
        const protocol = options.path === undefined ? 'tcp' : 'unix';
        listening.push({ protocol, address: listener.address });
      }
      if (socket !== null) listening.push({ protocol: 'udp', address: socket.address });
      context.ready(listening);
      if (listener !== null) yield* listener.serve(echoStream);
      else yield* datagrams!.join();
    } finally {
      datagrams?.cancel();
      socket?.close();
      listener?.close();
    }
  },
});

interface Where {
  readonly port: number;
  readonly host: string;
  readonly path: string | undefined;
  readonly udp: boolean;
}

interface Open {
  readonly listener: Listener | null;
  readonly socket: UdpSocket | null;
}

/** How often a free port is sought that UDP has free as well. */
const PORT_ATTEMPTS = 16;

function open(k: Kernel, { port, host, path, udp }: Where, reusePort: boolean): Open {
  if (path !== undefined) return { listener: k.listen({ path }), socket: null };
  if (udp) return { listener: null, socket: k.udp({ host, port, reusePort }) };
  for (let attempt = 1; ; attempt++) {
    const listener = k.listen({ host, port, reusePort });
    try {
      return { listener, socket: k.udp({ host, port: portOf(listener), reusePort }) };
    } catch (error) {
      listener.close();
      const taken = (error as { code?: string }).code === 'EADDRINUSE';
      if (port !== 0 || !taken || attempt === PORT_ATTEMPTS) throw error;
    }
  }
}

function portOf({ address }: Listener): number {
  return 'port' in address ? address.port : 0;
}

function* echoStream(conn: Connection): Coroutine {
  for (;;) {
    const buffer = yield* conn.pop();
    if (buffer === null) return;
    yield* conn.push(buffer);
  }
}

function* echoDatagrams(socket: UdpSocket): Coroutine {
  for (;;) {
    const buffer = yield* socket.pop();
    try {
      yield* socket.push(buffer);
    } catch (error) {
      if (!concernsOneDatagram(error)) throw error;
    }
  }
}
