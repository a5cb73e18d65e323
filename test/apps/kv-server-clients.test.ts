/** A session of every command through redis-cli, ioredis and redis (npm), compared reply by reply with a real redis-server. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { it } from 'node:test';
import { Redis } from 'ioredis';
import { createClient, RESP_TYPES } from 'redis';
import { overDatapaths, sharedServers } from '../support/app-servers.ts';
import { hasCommand, need } from '../support/need.ts';
import { RUN_ELSEWHERE, type Step } from './kv-session.ts';
import { differences, namesOf, sessionFor } from './kv-session-run.ts';

const servers = sharedServers();
const PROTOCOLS = [2, 3] as const;
type Protocol = (typeof PROTOCOLS)[number];

/** Runs steps in order on one connection of its own, after FLUSHALL; a reply is whatever the client gives, errors included. */
type Runner = (port: number, protocol: Protocol, steps: readonly Step[]) => Promise<unknown[]>;

async function runIoredis(port: number, protocol: Protocol, steps: readonly Step[]): Promise<unknown[]> {
  const redis = new Redis({ port, host: '127.0.0.1', protocol, replyMapping: protocol === 3 ? 'resp3' : 'legacy' });
  try {
    await redis.flushall();
    const replies: unknown[] = [];
    for (const { args } of steps) {
      const [name, ...rest] = args;
      replies.push(await redis.callBuffer(name!.toString(), rest).catch((error: Error) => error));
    }
    return replies;
  } finally {
    redis.disconnect();
  }
}

async function runNodeRedis(port: number, protocol: Protocol, steps: readonly Step[]): Promise<unknown[]> {
  const plainClient = createClient({ socket: { port, host: '127.0.0.1' }, RESP: protocol });
  plainClient.on('error', () => {});
  await plainClient.connect();
  const client = plainClient.withTypeMapping({ [RESP_TYPES.BLOB_STRING]: Buffer, [RESP_TYPES.MAP]: Map });
  try {
    await client.sendCommand(['FLUSHALL']);
    const replies: unknown[] = [];
    for (const { args } of steps) replies.push(await client.sendCommand([...args]).catch((error: Error) => error));
    return replies;
  } finally {
    plainClient.destroy();
  }
}

const MARK = 'end-of-this-reply';

/** Lines into redis-cli, its printed replies out; for a group with transactions all replies are one text. */
async function runRedisCli(port: number, protocol: Protocol, steps: readonly Step[]): Promise<unknown[]> {
  const whole = steps.some(({ line }) => line === 'MULTI');
  const lines = steps.flatMap(({ line }) => (whole ? [line] : [line, `ECHO ${MARK}`]));
  const cli = spawn('redis-cli', ['-p', String(port), '--no-raw', ...(protocol === 3 ? ['-3'] : [])], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  let text = '';
  cli.stdout.setEncoding('latin1').on('data', (part: string) => {
    text += part;
  });
  const done = new Promise<void>((resolve, reject) => {
    cli.once('error', reject);
    cli.once('close', () => resolve());
  });
  cli.stdin.end(['FLUSHALL', `ECHO ${MARK}`, ...lines, ''].join('\n'));
  await done;
  const parts = text.split(`"${MARK}"\n`).slice(1);
  if (whole) return steps.map((_, i) => (i === 0 ? parts.join('') : ''));
  return parts.slice(0, steps.length).map((part, i) => readPrinted(steps[i]!, part));
}

/** What redis-cli printed, as far as the comparison wants it: lines, or numbers. */
function readPrinted({ compare }: Step, text: string): unknown {
  const lines = text.split('\n').map((line) => line.replace(/^ *(?:\d+[)#~] *)+/, ''));
  if (compare === 'near') return lines.map((line) => line.replace(/^\(integer\) |"/g, ''));
  if (compare === 'shape')
    return text.startsWith('(error)') ? new Error('error') : text.trim() === '(nil)' ? null : 'reply';
  return compare === 'sorted' ? lines : text;
}

const RUNNERS: Readonly<Record<string, Runner>> = {
  'redis-cli': runRedisCli,
  ioredis: runIoredis,
  'redis (npm)': runNodeRedis,
};

async function commandsOf(port: number): Promise<Set<string>> {
  const redis = new Redis({ port, host: '127.0.0.1' });
  const names = (await redis.call('COMMAND', 'LIST')) as string[];
  redis.disconnect();
  return new Set(names);
}

overDatapaths('every command', (datapath) => {
  it('has its place in the session', async (t) => {
    const pair = await servers.pair(t, datapath);
    if (pair === null) return;
    const implemented = await commandsOf(pair.isthmus.port);
    const known = await commandsOf(pair.redis.port);
    const session = sessionFor(implemented, known);
    const run = new Set([...session.values()].flat().flatMap(namesOf));
    // what later versions of redis have as well cannot be compared with this one
    const missing = [...implemented].filter((name) => !run.has(name) && !RUN_ELSEWHERE.has(name) && known.has(name));
    assert.deepEqual(missing, []);
    assert.ok(run.size > 150, `${run.size} commands`);
  });

  for (const [client, runner] of Object.entries(RUNNERS)) {
    for (const protocol of PROTOCOLS) {
      it(`replies as redis does to ${client}, RESP${protocol}`, async (t) => {
        if (client === 'redis-cli' && !need(t, hasCommand('redis-cli'), 'redis-cli is not installed')) return;
        const pair = await servers.pair(t, datapath);
        if (pair === null) return;
        const session = sessionFor(await commandsOf(pair.isthmus.port), await commandsOf(pair.redis.port));
        const found: string[] = [];
        for (const steps of session.values()) {
          const runnable = client === 'redis-cli' ? steps.filter((step) => step.cli) : steps;
          const [ours, theirs]: [unknown[], unknown[]] = await Promise.all([
            runner(pair.isthmus.port, protocol, runnable),
            runner(pair.redis.port, protocol, runnable),
          ]);
          assert.equal(ours.length, runnable.length);
          found.push(...differences(runnable, ours, theirs));
        }
        assert.equal(found.length, 0, `${found.length} replies differ:\n${found.join('\n')}`);
      });
    }
  }
});
