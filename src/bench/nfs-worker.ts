/**
 * Our side of `bench nfs`, a program with the same commands on its input as the peer's (peers/libnfs-load.ts).
 * It touches the server whose URL it is given.
 */
import { createInterface } from 'node:readline';
import { connectFiles } from '../remote/connect.ts';
import type { RemoteFiles } from '../remote/files/files.ts';
import type { RemoteServer } from '../remote/server.ts';

const BLOCK = 1024 * 1024;
const WINDOW = 8;

const pattern = new Uint8Array(BLOCK);
for (let i = 0; i < BLOCK; i++) pattern[i] = Math.imul(i, 2654435761) >>> 24;

async function drive(server: RemoteServer, handle: Uint8Array, depth: number, seconds: number): Promise<number> {
  const end = performance.now() + seconds * 1000;
  let done = 0;
  const loop = async () => {
    while (performance.now() < end) {
      await server.getattr(handle);
      done++;
    }
  };
  await Promise.all(Array.from({ length: depth }, loop));
  return done;
}

async function getattr(files: RemoteFiles, [hex, depth, warmup, seconds]: string[]): Promise<string> {
  const handle = Uint8Array.from(Buffer.from(hex as string, 'hex'));
  await drive(files.server, handle, Number(depth), Number(warmup));
  const start = performance.now();
  const done = await drive(files.server, handle, Number(depth), Number(seconds));
  return `${done} ${(performance.now() - start) / 1000}`;
}

function stamp(block: Uint8Array, index: number): void {
  new DataView(block.buffer).setBigUint64(0, BigInt(index), true);
}

async function bulk(files: RemoteFiles, writing: boolean, path: string, blocks: number): Promise<string> {
  const start = performance.now();
  const file = await files.open(path, writing ? 'w+' : 'r', 0o644);
  let next = 0;
  const mover = async () => {
    const block = Uint8Array.from(pattern);
    const expected = Uint8Array.from(pattern);
    while (next < blocks) {
      const index = next++;
      if (writing) {
        stamp(block, index);
        await file.write(block, 0, BLOCK, index * BLOCK);
        continue;
      }
      const { bytesRead } = await file.read(block, 0, BLOCK, index * BLOCK);
      stamp(expected, index);
      if (bytesRead !== BLOCK || Buffer.compare(block, expected) !== 0) throw new Error(`block ${index} is another`);
    }
  };
  await Promise.all(Array.from({ length: WINDOW }, mover));
  await file.close();
  return `${blocks * BLOCK} ${(performance.now() - start) / 1000}`;
}

const [, , url] = process.argv;
try {
  const files = await connectFiles(url as string);
  process.stdout.write('ready\n');
  for await (const line of createInterface({ input: process.stdin })) {
    const [command, ...rest] = line.split(' ');
    const [path, blocks] = rest;
    const answer =
      command === 'getattr' ? getattr(files, rest) : bulk(files, command === 'write', path as string, Number(blocks));
    process.stdout.write(`${await answer}\n`);
  }
  await files.close();
} catch (error) {
  process.stdout.write(`error ${(error as Error).message}\n`);
  process.exitCode = 1;
}
