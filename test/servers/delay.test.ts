/** The delay line: bytes arrive whole, in order and not early, both ways; it can be cut. It touches loopback. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import { test } from 'node:test';
import { startDelay } from './delay.ts';

test('bytes arrive whole and in order, and not before their time', async (t) => {
  const echo = createServer({ allowHalfOpen: true }, (socket) => socket.pipe(socket));
  await once(echo.listen(0, '127.0.0.1'), 'listening');
  t.after(() => echo.close());
  const oneWayMs = 5;
  const line = await startDelay(t, { port: (echo.address() as { port: number }).port, oneWayMs });
  const socket = connect({ port: line.port, host: '127.0.0.1' });
  await once(socket, 'connect');
  const sent = Buffer.alloc(1_000_003, 'in order ');
  const start = performance.now();
  socket.end(sent);
  const pieces: Buffer[] = [];
  for await (const piece of socket) {
    if (pieces.length === 0) assert.ok(performance.now() - start >= 2 * oneWayMs - 0.5);
    pieces.push(piece as Buffer);
  }
  assert.ok(Buffer.concat(pieces).equals(sent));
});

test('a cut ends every connection on both sides', async (t) => {
  const server = createServer();
  await once(server.listen(0, '127.0.0.1'), 'listening');
  t.after(() => server.close());
  const line = await startDelay(t, { port: (server.address() as { port: number }).port, oneWayMs: 0 });
  const near = connect({ port: line.port, host: '127.0.0.1' });
  near.on('error', () => {});
  const [far] = await once(server, 'connection');
  far.on('error', () => {});
  far.resume();
  line.cut();
  await Promise.all([once(near.resume(), 'close'), once(far, 'close')]);
});
