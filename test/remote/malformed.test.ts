/**
 * A real server whose replies are spoiled on the way: every call of the library ends in time with an answer or a typed error,
 * and nothing else is harmed. It starts nfs-ganesha and listens on loopback.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';
import { describe, it, type TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { IsthmusError } from '../../src/errors.ts';
import { connectFiles } from '../../src/remote/connect.ts';
import type { RemoteFiles } from '../../src/remote/files/files.ts';
import { startGanesha } from '../servers/ganesha.ts';

const SEED = Number(process.env['ISTHMUS_SEED'] ?? 7);
const ROUNDS = Number(process.env['ISTHMUS_MALFORMED_ROUNDS'] ?? 3);
/** What a call may take: its own limit is 1 s, and some are made of several. */
const PATIENCE_MS = 30_000;

type Random = (below: number) => number;

function randomFrom(seed: number): Random {
  let state = seed >>> 0;
  return (below) => {
    state = (Math.imul(state ^ (state >>> 15), 0x2c1b3c6d) + 0x9e3779b9) >>> 0;
    return ((state ^ (state >>> 13)) >>> 0) % below;
  };
}

const WORDS = [0, 1, 2, 3, 5, 7, 13, 66, 70, 10_001, 10_003, 10_006, 65_536, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff];

/** Spoils a reply: other words, cut off, lengthened. Its xid stays, so that it meets its call. */
function spoil(message: Buffer, random: Random): Buffer {
  const from = 8;
  if (message.length <= from) return message;
  switch (random(6)) {
    case 0:
      return message.subarray(0, from + random(message.length - from));
    case 1:
      return Buffer.concat([message, Buffer.alloc(1 + random(64), random(256))]);
    case 2: {
      const spoiled = Buffer.from(message);
      for (let i = random(8); i >= 0; i--) spoiled[from + random(spoiled.length - from)] = random(256);
      return spoiled;
    }
    default: {
      const spoiled = Buffer.from(message);
      const words = (spoiled.length - from) >> 2;
      // Mostly near the beginning: there are the status and the lengths.
      for (let i = random(3); i >= 0 && words > 0; i--) {
        const at = from + 4 * random(random(2) === 0 ? Math.min(words, 40) : words);
        spoiled.writeUInt32BE(WORDS[random(WORDS.length)]!, at);
      }
      return spoiled;
    }
  }
}

interface Spoiler {
  readonly port: number;
  /** One reply in so many is spoiled; 0: none. */
  oneIn: number;
  spoiled: number;
}

/** A proxy before the server at `port`. */
async function startSpoiler(t: TestContext, port: number, random: Random): Promise<Spoiler> {
  const sockets = new Set<Socket>();
  const server = createServer((near) => {
    const far = connect(port, '127.0.0.1');
    for (const [a, b] of [
      [near, far],
      [far, near],
    ] as const) {
      sockets.add(a);
      a.on('error', () => {});
      a.on('close', () => {
        sockets.delete(a);
        b.destroy();
      });
    }
    near.pipe(far);
    let rest: Buffer = Buffer.alloc(0);
    far.on('data', (piece: Buffer) => {
      rest = Buffer.concat([rest, piece]);
      while (rest.length >= 4) {
        const length = rest.readUInt32BE() & 0x7fff_ffff;
        if (rest.length < 4 + length) break;
        let message = rest.subarray(4, 4 + length);
        rest = rest.subarray(4 + length);
        if (spoiler.oneIn > 0 && random(spoiler.oneIn) === 0) {
          spoiler.spoiled++;
          message = spoil(message, random);
        }
        const mark = Buffer.alloc(4);
        // Now and then the stream itself is none any more.
        const wrong = spoiler.oneIn > 0 && random(400) === 0;
        mark.writeUInt32BE((wrong ? random(2 ** 31) : 0x8000_0000 + message.length) >>> 0);
        near.write(mark);
        near.write(message);
      }
    });
  });
  await once(server.listen(0, '127.0.0.1'), 'listening');
  const spoiler: Spoiler = { port: (server.address() as { port: number }).port, oneIn: 0, spoiled: 0 };
  t.after(() => {
    server.close();
    for (const socket of sockets) socket.destroy();
  });
  return spoiler;
}

/** One call of each kind. */
function calls(files: RemoteFiles, n: number): Promise<unknown>[] {
  return [
    files.stat('/d/f'),
    files.lstat('/d/link'),
    files.readlink('/d/link'),
    files.access('/d/f', 6),
    files.readdir('/d', { withFileTypes: true }),
    files.readdir('/', { recursive: true }),
    files.readFile('/d/f'),
    files.writeFile(`/new${n}`, 'x'.repeat(5000)),
    files.mkdir(`/dir${n}/below`, { recursive: true }),
    files.symlink('target', `/symlink${n}`),
    files.link('/d/f', `/second${n}`),
    files.rename(`/second${n - 1}`, `/third${n}`),
    files.truncate('/d/f', 10_000),
    files.utimes('/d/f', 1, 2),
    files.chmod('/d/f', 0o644),
    files.statfs('/'),
    files.rm(`/dir${n - 1}`, { recursive: true, force: true }),
    files.unlink(`/symlink${n - 1}`),
  ];
}

// Each test has a server of its own.
describe('spoiled replies', { concurrency: 2 }, () => {
  for (const version of ['3', '4.1'] as const) {
    it(`spoiled replies are answers or typed errors, in time (NFSv${version}, seed ${SEED})`, async (t) => {
      const server = await startGanesha(t);
      if (server === null) return;
      const random = randomFrom(SEED);
      const spoiler = await startSpoiler(t, server.port, random);
      const url = `${server.url(version, spoiler.port)}&timeout=1`;
      const good = await connectFiles(url);
      t.after(() => good.close());
      await good.mkdir('/d');
      await good.writeFile('/d/f', 'contents '.repeat(3000));
      await good.symlink('f', '/d/link');
      const files = await connectFiles(url);
      const outcomes = { answers: 0, errors: 0 };
      for (let round = 0; round < ROUNDS; round++) {
        spoiler.oneIn = 2 + random(6);
        const over = Promise.allSettled(calls(files, round));
        const results = await Promise.race([over, sleep(PATIENCE_MS, null, { ref: false })]);
        assert.ok(results !== null, `round ${round}: a call did not end`);
        for (const result of results) {
          if (result.status === 'fulfilled') outcomes.answers++;
          else {
            outcomes.errors++;
            const { reason } = result;
            assert.ok(
              reason instanceof IsthmusError && reason.code !== '',
              `round ${round}: ${reason?.stack ?? reason}`,
            );
          }
        }
      }
      spoiler.oneIn = 0;
      t.diagnostic(`${spoiler.spoiled} replies spoiled, ${outcomes.answers} answers, ${outcomes.errors} errors`);
      assert.ok(outcomes.errors > 0 && outcomes.answers > 0);
      // Who was not lied to has noticed nothing, and who was goes on.
      await good.writeFile('/d/f', 'whole');
      assert.equal(await good.readFile('/d/f', 'utf8'), 'whole');
      assert.equal(await files.readFile('/d/f', 'utf8'), 'whole');
      await files.close();
    });
  }
});
