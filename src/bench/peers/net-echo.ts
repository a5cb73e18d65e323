/**
 * The peer `node:net`: an echo server as one would write it well with Node's own module.
 * A program of its own; it prints its port and runs until it is killed.
 */
import { type AddressInfo, createServer } from 'node:net';

const server = createServer({ noDelay: true }, (socket) => {
  socket.on('data', (chunk) => socket.write(chunk));
  socket.on('error', () => socket.destroy());
});
server.listen({ port: 0, host: process.argv[2] ?? '127.0.0.1', backlog: 511 }, () => {
  process.stdout.write(`node:net: tcp 127.0.0.1:${(server.address() as AddressInfo).port}\n`);
});
