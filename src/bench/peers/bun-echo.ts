/**
 * The peer `bun`: echo servers on Bun's own socket API, TCP and UDP.
 * A program of its own, run by bun; it prints its port and runs until it is killed.
 */

interface BunSocket {
  write(data: Uint8Array): number;
  data: Uint8Array | null;
  end(): void;
}
interface BunUdpSocket {
  send(data: Uint8Array, port: number, address: string): boolean;
}
interface BunListener {
  readonly port: number;
}
interface BunRuntime {
  listen(options: {
    hostname: string;
    port: number;
    socket: {
      open(socket: BunSocket): void;
      data(socket: BunSocket, data: Uint8Array): void;
      drain(socket: BunSocket): void;
      error(socket: BunSocket, error: Error): void;
    };
  }): BunListener;
  udpSocket(options: {
    hostname: string;
    port: number;
    socket: {
      data(socket: BunUdpSocket, data: Uint8Array, port: number, address: string): void;
      error(socket: BunUdpSocket, error: Error): void;
    };
  }): Promise<BunListener>;
}
declare const Bun: BunRuntime;

const hostname = process.argv[3] ?? '127.0.0.1';
if (process.argv[2] === 'udp') {
  const { port } = await Bun.udpSocket({
    hostname,
    port: 0,
    socket: {
      data(socket, data, from, address) {
        try {
          socket.send(data, from, address);
        } catch {
          // ECONNREFUSED: an earlier answer found its client gone
        }
      },
      error() {},
    },
  });
  process.stdout.write(`bun: udp 127.0.0.1:${port}\n`);
} else {
  const { port } = Bun.listen({
    hostname,
    port: 0,
    socket: {
      open(socket) {
        socket.data = null;
      },
      data(socket, data) {
        if (socket.data !== null) socket.data = Buffer.concat([socket.data, data]);
        else {
          const sent = socket.write(data);
          if (sent < data.length) socket.data = data.slice(Math.max(0, sent));
        }
      },
      drain(socket) {
        if (socket.data === null) return;
        const sent = socket.write(socket.data);
        socket.data = sent < socket.data.length ? socket.data.slice(Math.max(0, sent)) : null;
      },
      error(socket) {
        socket.end();
      },
    },
  });
  process.stdout.write(`bun: tcp 127.0.0.1:${port}\n`);
}
