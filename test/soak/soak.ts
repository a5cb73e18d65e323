/**
 * The soak: millions of messages through the echo server, in slices with fresh connections, and its memory after each.
 * It touches the processes it starts. As a program (`npm run soak`) it sends 10 million and ends with 1 where memory grew.
 */
import { type ChildProcess, execFile, fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import type { LoadReport } from '../../src/apps/load/report.ts';
import type { MemorySample } from './server.ts';

const MAIN = fileURLToPath(new URL('../../src/cli/main.js', import.meta.url));
const SERVER = fileURLToPath(new URL('./server.js', import.meta.url));
const WARM_UP_SLICES = 2;
const MIB = 2 ** 20;

export interface SoakResult {
  readonly messages: number;
  readonly warm: MemorySample;
  readonly last: MemorySample;
  /** Growth since the warm-up, in bytes: the least of the last three samples against the warm one. */
  readonly rssGrowth: number;
  readonly heapGrowth: number;
}

export interface SoakOptions {
  /** In all, after the warm-up (of two more slices). */
  readonly messages: number;
  readonly slices: number;
  readonly datapath: string;
  say(line: string): void;
}

export async function soak({ messages, slices, datapath, say }: SoakOptions): Promise<SoakResult> {
  const server = fork(SERVER, [datapath], {
    execArgv: ['--expose-gc'],
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
  });
  const ended = once(server, 'exit').then(([code]) => {
    throw new Error(`the server ended with ${code}`);
  });
  ended.catch(() => {});
  const receive = async <T>(): Promise<T> => ((await Promise.race([once(server, 'message'), ended])) as [T])[0];
  try {
    const port = await receive<number>();
    const slice = Math.ceil(messages / slices);
    let warm: MemorySample | null = null;
    const samples: MemorySample[] = [];
    let sent = 0;
    for (let i = -WARM_UP_SLICES + 1; i <= slices; i++) {
      const report = await load(port, slice, datapath);
      const errors = Object.entries(report.errors).filter(([, count]) => count > 0);
      if (errors.length > 0) throw new Error(`the load counted errors: ${JSON.stringify(report.errors)}`);
      const sample = await settled(server, receive);
      say(
        `${i <= 0 ? 'warm-up' : `slice ${i}`}: ${report.messages} messages at ${Math.round(report.messagesPerSecond)}/s, ` +
          `rss ${(sample.rss / MIB).toFixed(1)} MiB, V8 heap ${(sample.heapUsed / MIB).toFixed(2)} MiB`,
      );
      if (i <= 0) warm = sample;
      else {
        samples.push(sample);
        sent += report.messages;
      }
    }
    const recent = samples.slice(-3);
    return {
      messages: sent,
      warm: warm!,
      last: samples.at(-1)!,
      rssGrowth: Math.min(...recent.map(({ rss }) => rss)) - warm!.rss,
      heapGrowth: Math.min(...recent.map(({ heapUsed }) => heapUsed)) - warm!.heapUsed,
    };
  } finally {
    server.kill('SIGKILL');
    await ended.catch(() => {});
  }
}

async function load(port: number, messages: number, datapath: string): Promise<LoadReport> {
  const options = ['-c', '50', '-d', '16', '-n', `${messages}`, '-w', '0', '--json', '-q', '--datapath', datapath];
  const { stdout } = await promisify(execFile)(process.execPath, [MAIN, 'load', `127.0.0.1:${port}`, ...options]);
  return JSON.parse(stdout);
}

/** The server's memory once the slice's connections are closed. */
async function settled(server: ChildProcess, receive: <T>() => Promise<T>): Promise<MemorySample> {
  for (let i = 0; ; i++) {
    const answer = receive<MemorySample>();
    server.send('sample');
    const sample = await answer;
    // The listener and the datagram socket stay.
    if (sample.queues <= 2 || i === 1500) return sample;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { rssGrowth, heapGrowth, ...result } = await soak({
    messages: Number(process.argv[2] ?? 10_000_000),
    slices: 10,
    datapath: process.argv[3] ?? 'auto',
    say: console.log,
  });
  console.log(
    `${result.messages} messages: rss grew by ${(rssGrowth / MIB).toFixed(2)} MiB, the V8 heap by ${(heapGrowth / MIB).toFixed(2)} MiB`,
  );
  process.exitCode = rssGrowth > 4 * MIB || heapGrowth > MIB / 2 ? 1 : 0;
}
