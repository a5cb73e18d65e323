/**
 * `bench connect`: connections opened, used for one message and closed, driven by our own load.
 * Data for server-bench.ts. A message is a whole connection, so that messages per second are connections per second.
 */
import type { Bench, BenchContext } from './bench.ts';
import { bunSide, isthmusSide, nodeSide, type ServerWorkload, sampleOf, serverBench } from './server-bench.ts';

interface ConnectWorkload extends ServerWorkload {
  readonly connections: number;
}

const METRICS = ['messagesPerSecond', 'p50Us', 'p99Us', 'cpuNsPerMessage'];

export function connect({ datapaths }: Pick<BenchContext, 'datapaths'>): Bench {
  const ours = datapaths.map((datapath) => isthmusSide(datapath, 'echo'));
  return serverBench<ConnectWorkload>({
    name: 'connect',
    summary: 'Connections over TCP: open, one message of 64 bytes, close.',
    sides: [...ours, nodeSide('node:net', 'net-echo'), bunSide()],
    workloads: [
      { name: 'c1', connections: 1 },
      { name: 'c50', connections: 50 },
    ],
    columns: ['messagesPerSecond', 'p50Us', 'p99Us', 'cpuNsPerMessage', 'loadCpu'],
    comparisons: [
      ...ours.flatMap(({ name }) => ['node:net', 'bun'].map((peer) => ({ ours: name, peer, metrics: METRICS }))),
      { ours: 'isthmus/uring', peer: 'isthmus/kernel', metrics: METRICS },
    ],
    async drive(server, { connections }, { seconds, warmup }, { load }) {
      const report = await load([
        `connect://127.0.0.1:${server.port}`,
        ...['-c', `${connections}`, '-s', '64'],
        ...['--seconds', `${seconds}`, '--warmup', `${warmup}`, '--server-pid', `${server.pid}`],
      ]);
      return sampleOf(report);
    },
  });
}
