/** redis-benchmark's default run against the key-value server: every one of its tests completes, without an error. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { it } from 'node:test';
import { overDatapaths, sharedServers } from '../support/app-servers.ts';
import { gather, type Ran } from '../support/gather.ts';
import { hasCommand, need } from '../support/need.ts';

const servers = sharedServers();

/** What redis-benchmark 6 and 7 run by default; names as its CSV output has them, without their arguments. */
const DEFAULT_RUN = [
  'PING_INLINE',
  'PING_MBULK',
  'SET',
  'GET',
  'INCR',
  'LPUSH',
  'RPUSH',
  'LPOP',
  'RPOP',
  'SADD',
  'HSET',
  'SPOP',
  'ZADD',
  'ZPOPMIN',
  'LPUSH',
  'LRANGE_100',
  'LRANGE_300',
  'LRANGE_500',
  'LRANGE_600',
  'MSET',
];

function benchmark(port: number, args: readonly string[]): Promise<Ran> {
  return gather(
    spawn('redis-benchmark', ['-p', String(port), '--csv', ...args], { stdio: ['ignore', 'pipe', 'pipe'] }),
  );
}

overDatapaths('redis-benchmark', (datapath) => {
  for (const [what, args] of [
    ['by default', ['-n', '500']],
    ['with pipelines', ['-n', '2000', '-P', '16']],
    ['with random keys and larger values', ['-n', '500', '-r', '1000', '-d', '300', '-P', '4']],
  ] as const) {
    it(`completes ${what}`, async (t) => {
      if (!need(t, hasCommand('redis-benchmark'), 'redis-benchmark is not installed')) return;
      const server = await servers.isthmus(t, datapath);
      if (server === null) return;
      const { status, stdout, stderr } = await benchmark(server.port, args);
      assert.equal(status, 0, stderr);
      assert.doesNotMatch(stdout + stderr, /error|warning/i);
      const rows = stdout.trim().split('\n').slice(1);
      const names = rows.map((row) => /^"(\w+)/.exec(row)?.[1]);
      assert.deepEqual(names, DEFAULT_RUN);
      for (const row of rows) assert.ok(Number(row.split(',')[1]!.replaceAll('"', '')) > 0, row);
    });
  }
});
