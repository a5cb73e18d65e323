/**
 * `bench udp-echo`: echo servers over UDP on loopback, driven by our own load.
 * Data for server-bench.ts.
 */
import type { Bench, BenchContext } from './bench.ts';
import { bunSide, isthmusSide, nodeSide, type ServerWorkload, sampleOf, serverBench } from './server-bench.ts';

interface UdpWorkload extends ServerWorkload {
  readonly connections: number;
  readonly depth: number;
}

const METRICS = ['messagesPerSecond', 'p50Us', 'p99Us', 'cpuNsPerMessage'];

export function udpEcho({ datapaths }: Pick<BenchContext, 'datapaths'>): Bench {
  const ours = datapaths.map((datapath) => isthmusSide(datapath, 'echo', '--udp'));
  return serverBench<UdpWorkload>({
    name: 'udp-echo',
    summary: 'Echo over UDP: datagrams of 64 bytes on loopback.',
    sides: [...ours, nodeSide('node:dgram', 'dgram-echo'), bunSide('udp')],
    workloads: [
      { name: 'c1 d1', connections: 1, depth: 1 },
      { name: 'c50 d1', connections: 50, depth: 1 },
      // More in flight would overflow the receive buffer of a server's one socket (212,992 bytes by default).
      { name: 'c16 d8', connections: 16, depth: 8 },
    ],
    columns: ['messagesPerSecond', 'p50Us', 'p99Us', 'cpuNsPerMessage', 'loadCpu'],
    comparisons: [
      ...ours.flatMap(({ name }) => ['node:dgram', 'bun'].map((peer) => ({ ours: name, peer, metrics: METRICS }))),
      { ours: 'isthmus/uring', peer: 'isthmus/kernel', metrics: METRICS },
    ],
    async drive(server, { connections, depth }, { seconds, warmup }, { load }) {
      const report = await load([
        `udp://127.0.0.1:${server.port}`,
        ...['-c', `${connections}`, '-d', `${depth}`, '-s', '64'],
        ...['--seconds', `${seconds}`, '--warmup', `${warmup}`, '--server-pid', `${server.pid}`],
      ]);
      return sampleOf(report);
    },
  });
}
