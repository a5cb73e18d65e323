/**
 * `bench memory`: two processes over shared memory, beside two processes of node:net over loopback.
 * Data for server-bench.ts. Here both ends are of a kind: what a program gains that talks to a neighbour.
 */
import type { Bench, BenchContext } from './bench.ts';
import { isthmusCommand } from './find.ts';
import { nodeSide, type ServerWorkload, sampleOf, serverBench } from './server-bench.ts';

interface MemoryWorkload extends ServerWorkload {
  readonly connections: number;
  readonly depth: number;
  readonly size: number;
}

const METRICS = ['messagesPerSecond', 'p50Us', 'p99Us', 'cpuNsPerMessage'];
/** Longer than any gap between two messages here: both ends spin. */
const SPIN_US = 200;

export function memory(_: Pick<BenchContext, 'quick'>): Bench {
  const datapath = `memory:bench-${process.pid},spin=${SPIN_US}`;
  const command = isthmusCommand('echo', '--port', '0', '--datapath', datapath);
  return serverBench<MemoryWorkload>({
    name: 'memory',
    summary: 'Echo between two processes: shared memory beside node:net at both ends over loopback.',
    sides: [
      {
        name: 'isthmus/memory',
        server: { command, ready: /^isthmus \S+: tcp \S*:(\d+)/m },
        load: { datapath },
      },
      { ...nodeSide('node:net', 'net-echo'), load: { program: './peers/net-load' } },
    ],
    workloads: [
      { name: 'c1 d1', connections: 1, depth: 1, size: 64 },
      { name: 'c1 d16', connections: 1, depth: 16, size: 64 },
      { name: 'c50 d1', connections: 50, depth: 1, size: 64 },
      { name: 'c1 d1 16k', connections: 1, depth: 1, size: 16_384 },
    ],
    columns: ['messagesPerSecond', 'p50Us', 'p99Us', 'cpuNsPerMessage', 'loadCpu'],
    comparisons: [{ ours: 'isthmus/memory', peer: 'node:net', metrics: METRICS }],
    async drive(server, { connections, depth, size }, { seconds, warmup }, { load, host }) {
      const report = await load([
        `tcp://${host}:${server.port}`,
        ...['-c', `${connections}`, '-d', `${depth}`, '-s', `${size}`],
        ...['--seconds', `${seconds}`, '--warmup', `${warmup}`, '--server-pid', `${server.pid}`],
      ]);
      return sampleOf(report);
    },
  });
}
