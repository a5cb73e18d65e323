/**
 * The peer `node:dgram`: a UDP echo server as one would write it well with Node's own module.
 * A program of its own; it prints its port and runs until it is killed.
 */
import { createSocket } from 'node:dgram';

const socket = createSocket('udp4');
socket.on('error', () => {});
socket.on('message', (message, { port, address }) => socket.send(message, port, address));
const host = process.argv[2] ?? '127.0.0.1';
socket.bind(0, host, () => {
  process.stdout.write(`node:dgram: udp ${host}:${socket.address().port}\n`);
});
