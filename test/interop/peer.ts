/**
 * The other side of the interoperability tests: a process in a network namespace that uses the kernel's own sockets through
 * node:net and node:dgram. It does what its parent asks for by message, one answer each; it ends with its parent.
 */
import { createSocket } from 'node:dgram';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { Bulk, messageOf, type PeerCall, type PeerReply } from './exchange.ts';

const servers: Server[] = [];

function listen(host: string, handler: (socket: Socket) => void): Promise<number> {
  const server = createServer({ allowHalfOpen: true, noDelay: true }, handler);
  servers.push(server);
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen({ host, port: 0, backlog: 4096 }, () => resolve((server.address() as AddressInfo).port));
  });
}

function dial(host: string, port: number): Promise<Socket> {
  const socket = connect({ host, port, allowHalfOpen: true, noDelay: true });
  return new Promise((resolve, reject) => {
    socket.once('connect', () => {
      socket.off('error', reject);
      resolve(socket);
    });
    socket.once('error', reject);
  });
}

/** Sends and receives at once; resolves when both ends have ended. Gives the bytes received. */
async function exchange(socket: Socket, bytes: number, seed: number): Promise<number> {
  const outgoing = new Bulk(seed, bytes);
  const incoming = new Bulk(3 - seed, bytes);
  const sending = (async () => {
    for (let piece = outgoing.next(); piece !== null; piece = outgoing.next()) {
      if (!socket.write(piece)) await new Promise((resolve) => socket.once('drain', resolve));
    }
    socket.end();
  })();
  await new Promise<void>((resolve, reject) => {
    socket.on('data', (data) => {
      const wrong = incoming.check(data, 0, data.length);
      if (wrong >= 0) reject(new Error(`wrong byte at ${wrong}`));
    });
    socket.once('end', resolve);
    socket.once('error', reject);
  });
  await sending;
  return incoming.at;
}

/** Sends a message and waits for as many bytes of reply, which must be the same. */
function ask(socket: Socket, message: string): Promise<void> {
  return new Promise((resolve, reject) => {
    let reply = '';
    const onData = (data: Buffer): void => {
      reply += data.toString('latin1');
      if (reply.length < message.length) return;
      socket.off('data', onData);
      if (reply === message) resolve();
      else reject(new Error(`asked ${message}, heard ${reply}`));
    };
    socket.on('data', onData);
    socket.once('error', reject);
    socket.once('close', () => reject(new Error('closed before the reply')));
    socket.write(message, 'latin1');
  });
}

function ended(socket: Socket): Promise<void> {
  if (socket.closed) return Promise.resolve();
  return new Promise((resolve) => socket.once('close', () => resolve()));
}

async function many(host: string, port: number, count: number): Promise<number> {
  const sockets = await Promise.all(Array.from({ length: count }, () => dial(host, port)));
  for (let round = 0; round < 3; round++) {
    await Promise.all(sockets.map((socket, i) => ask(socket, messageOf(i, round))));
  }
  const ends = sockets.map(ended);
  for (const socket of sockets) socket.resume().end();
  await Promise.all(ends);
  return count;
}

async function short(host: string, port: number, count: number, parallel: number): Promise<number> {
  let begun = 0;
  const worker = async (): Promise<void> => {
    while (begun < count) {
      const i = begun++;
      const socket = await dial(host, port);
      await ask(socket, messageOf(i, 0));
      const end = ended(socket);
      socket.resume().end();
      await end;
    }
  };
  await Promise.all(Array.from({ length: parallel }, worker));
  return begun;
}

async function datagrams(host: string, port: number, sizes: readonly number[]): Promise<number> {
  const socket = createSocket(host.includes(':') ? 'udp6' : 'udp4');
  try {
    for (const size of sizes) {
      const data = Buffer.alloc(size, size & 255);
      for (let tries = 0; ; tries++) {
        const reply = new Promise<Buffer | null>((resolve) => {
          const onMessage = (message: Buffer): void => {
            clearTimeout(timer);
            resolve(message);
          };
          const timer = setTimeout(() => {
            socket.off('message', onMessage);
            resolve(null);
          }, 1000);
          socket.once('message', onMessage);
        });
        socket.send(data, port, host);
        const got = await reply;
        if (got?.equals(data)) break;
        if (tries === 30) throw new Error(`no reply of ${size} bytes`);
      }
    }
    return sizes.length;
  } finally {
    socket.close();
  }
}

function echoDatagrams(host: string): Promise<number> {
  const socket = createSocket(host.includes(':') ? 'udp6' : 'udp4');
  socket.on('message', (message, { port, address }) => socket.send(message, port, address));
  return new Promise((resolve) => socket.bind(0, host, () => resolve(socket.address().port)));
}

/** The code with which a connection attempt ends; '' where it succeeds. */
async function attempt(host: string, port: number): Promise<string> {
  try {
    (await dial(host, port)).destroy();
    return '';
  } catch (error) {
    return (error as NodeJS.ErrnoException).code ?? String(error);
  }
}

/** Connects, hears one message, then resets. */
async function resetAfterMessage(host: string, port: number): Promise<string> {
  const socket = await dial(host, port);
  await new Promise((resolve) => socket.once('data', resolve));
  socket.resetAndDestroy();
  return '';
}

/** What ends a connection on which the other side resets: the code of the error, '' for none. */
async function awaitReset(host: string, port: number): Promise<string> {
  const socket = await dial(host, port);
  return new Promise((resolve) => {
    socket.once('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? ''));
    socket.once('end', () => resolve('ended'));
    socket.resume().write('x');
  });
}

/** Sends, ends its half, and reads all that is answered. */
async function halfClose(host: string, port: number, text: string): Promise<string> {
  const socket = await dial(host, port);
  socket.end(text);
  let heard = '';
  socket.on('data', (data) => {
    heard += data.toString('latin1');
  });
  await new Promise((resolve, reject) => {
    socket.once('end', resolve);
    socket.once('error', reject);
  });
  return heard;
}

async function serve(call: PeerCall): Promise<number | string> {
  switch (call.do) {
    case 'listen bulk':
      return listen(call.host, (socket) => {
        socket.on('error', () => {});
        exchange(socket, call.bytes!, 2).catch((error) => process.send!({ id: -1, error: String(error) }));
      });
    case 'listen echo':
      return listen(call.host, (socket) => {
        socket.on('error', () => {});
        socket.pipe(socket);
      });
    case 'listen reset':
      return listen(call.host, (socket) => {
        socket.on('error', () => {});
        socket.once('data', () => socket.resetAndDestroy());
      });
    case 'bulk':
      return exchange(await dial(call.host, call.port!), call.bytes!, 2);
    case 'many':
      return many(call.host, call.port!, call.count!);
    case 'short':
      return short(call.host, call.port!, call.count!, call.parallel!);
    case 'datagrams':
      return datagrams(call.host, call.port!, call.sizes!);
    case 'echo datagrams':
      return echoDatagrams(call.host);
    case 'attempt':
      return attempt(call.host, call.port!);
    case 'reset':
      return resetAfterMessage(call.host, call.port!);
    case 'await reset':
      return awaitReset(call.host, call.port!);
    case 'half close':
      return halfClose(call.host, call.port!, call.text!);
  }
}

process.on('message', (message: PeerCall & { id: number }) => {
  const { id } = message;
  serve(message).then(
    (value) => process.send!({ id, value } satisfies PeerReply),
    (error) => process.send!({ id, error: String(error?.message ?? error) } satisfies PeerReply),
  );
});
process.on('disconnect', () => process.exit());
