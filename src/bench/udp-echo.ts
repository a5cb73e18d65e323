/**
 * `bench udp-echo`: echo servers over UDP on loopback, driven by our own load.
 * Data for server-bench.ts.
 */
import type { Bench, BenchContext } from './bench.ts';
import { KERNEL_CLIENT, LAB_HOST, labComparisons, labSides, loadDatapath, needsLab, onLab } from './lab-sides.ts';
import {
  bunSide,
  type Drive,
  isthmusSide,
  nodeSide,
  type ServerWorkload,
  sampleOf,
  serverBench,
} from './server-bench.ts';

interface UdpWorkload extends ServerWorkload {
  readonly connections: number;
  readonly depth: number;
  readonly kernelClient?: boolean;
}

const METRICS = ['messagesPerSecond', 'p50Us', 'p99Us', 'cpuNsPerMessage'];

const COLUMNS = ['messagesPerSecond', 'p50Us', 'p99Us', 'cpuNsPerMessage', 'loadCpu'];

export function udpEcho(context: Pick<BenchContext, 'datapaths'>): Bench {
  return needsLab(context) ? onVeth(context) : onLoopback(context);
}

function onVeth(context: Pick<BenchContext, 'datapaths'>): Bench {
  const ours = labSides(context, 'echo', '--udp');
  return serverBench<UdpWorkload>({
    name: 'udp-echo',
    summary: 'Echo over UDP: datagrams of 64 bytes over a veth pair, from our load past the kernel.',
    sides: [...ours, onLab(nodeSide('node:dgram', 'dgram-echo', LAB_HOST))],
    workloads: [
      { name: 'c1 d1', connections: 1, depth: 1 },
      { name: 'c50 d1', connections: 50, depth: 1 },
      { name: 'c16 d4', connections: 16, depth: 4 },
      { name: `c50 d1 ${KERNEL_CLIENT}`, connections: 50, depth: 1, kernelClient: true },
    ],
    columns: COLUMNS,
    comparisons: labComparisons(ours, ['node:dgram'], METRICS),
    drive,
  });
}

function onLoopback({ datapaths }: Pick<BenchContext, 'datapaths'>): Bench {
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
    columns: COLUMNS,
    comparisons: [
      ...ours.flatMap(({ name }) => ['node:dgram', 'bun'].map((peer) => ({ ours: name, peer, metrics: METRICS }))),
      { ours: 'isthmus/uring', peer: 'isthmus/kernel', metrics: METRICS },
    ],
    drive,
  });
}

const drive: Drive<UdpWorkload> = async (server, workload, { seconds, warmup }, { load, host }) => {
  const { connections, depth, kernelClient } = workload;
  const args = [
    `udp://${host}:${server.port}`,
    ...['-c', `${connections}`, '-d', `${depth}`, '-s', '64'],
    ...['--seconds', `${seconds}`, '--warmup', `${warmup}`, '--server-pid', `${server.pid}`],
  ];
  return sampleOf(await load(args, loadDatapath(kernelClient)));
};
