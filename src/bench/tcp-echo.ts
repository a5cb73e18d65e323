/**
 * `bench tcp-echo`: echo servers over TCP on loopback, driven by our own load; also with many idle connections beside.
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

interface EchoWorkload extends ServerWorkload {
  readonly connections: number;
  readonly depth: number;
  readonly size: number;
  readonly idle?: number;
  readonly kernelClient?: boolean;
}

const IDLE = 10_000;
/** Seconds more until caches and collectors have digested ten thousand new connections. */
const IDLE_WARMUP = 0.5;

const WORKLOADS: readonly EchoWorkload[] = [
  { name: 'c50 d1', connections: 50, depth: 1, size: 64 },
  { name: 'c50 d16', connections: 50, depth: 16, size: 64 },
  { name: 'c200 d1', connections: 200, depth: 1, size: 64 },
];

const METRICS = ['messagesPerSecond', 'p50Us', 'p99Us', 'cpuNsPerMessage'];

const LAB_WORKLOADS: readonly EchoWorkload[] = [
  { name: 'c1 d1', connections: 1, depth: 1, size: 64 },
  { name: 'c50 d1', connections: 50, depth: 1, size: 64 },
  { name: 'c50 d16', connections: 50, depth: 16, size: 64, slow: true },
  { name: `c50 d1 ${KERNEL_CLIENT}`, connections: 50, depth: 1, size: 64, kernelClient: true },
];

const COLUMNS = ['messagesPerSecond', 'p50Us', 'p99Us', 'cpuNsPerMessage', 'loadCpu'];

export function tcpEcho(context: Pick<BenchContext, 'datapaths' | 'quick'>): Bench {
  return needsLab(context) ? onVeth(context) : onLoopback(context);
}

function onVeth(context: Pick<BenchContext, 'datapaths'>): Bench {
  const ours = labSides(context, 'echo');
  const peers = [onLab(nodeSide('node:net', 'net-echo', LAB_HOST))];
  return serverBench<EchoWorkload>({
    name: 'tcp-echo',
    summary: 'Echo over TCP: messages of 64 bytes over a veth pair, from our load past the kernel.',
    sides: [...ours, ...peers],
    workloads: LAB_WORKLOADS,
    columns: COLUMNS,
    comparisons: labComparisons(ours, ['node:net'], METRICS),
    drive,
  });
}

function onLoopback({ datapaths, quick }: Pick<BenchContext, 'datapaths' | 'quick'>): Bench {
  const ours = datapaths.map((datapath) => isthmusSide(datapath, 'echo'));
  return serverBench<EchoWorkload>({
    name: 'tcp-echo',
    summary: 'Echo over TCP: messages of 64 bytes on loopback.',
    sides: [...ours, nodeSide('node:net', 'net-echo'), bunSide()],
    workloads: [
      ...WORKLOADS,
      // Ten thousand connections take their time: a quick run asks only what they cost the first of ours.
      {
        ...WORKLOADS[0]!,
        name: `c50 d1 idle${IDLE}`,
        idle: IDLE,
        extraSeconds: 2,
        ...(quick ? { sides: ours.slice(0, 1).map(({ name }) => name) } : {}),
      },
    ],
    columns: [...COLUMNS, 'rssBytesPerIdleConnection'],
    peaks: ['rssBytesPerIdleConnection'],
    comparisons: [
      ...ours.flatMap(({ name }) => ['node:net', 'bun'].map((peer) => ({ ours: name, peer, metrics: METRICS }))),
      { ours: 'isthmus/uring', peer: 'isthmus/kernel', metrics: METRICS },
      { ours: 'bun', peer: 'node:net', metrics: METRICS },
    ],
    workloadComparisons: [
      {
        label: `${IDLE} idle : 0 idle`,
        ours: `c50 d1 idle${IDLE}`,
        peer: 'c50 d1',
        workloadName: 'c50 d1',
        metrics: ['messagesPerSecond', 'p99Us'],
      },
    ],
    drive,
  });
}

const drive: Drive<EchoWorkload> = async (server, workload, { seconds, warmup }, { load, host }) => {
  const { connections, depth, size, idle = 0, kernelClient } = workload;
  const warm = warmup + (idle > 0 ? IDLE_WARMUP : 0);
  const args = [
    `tcp://${host}:${server.port}`,
    ...['-c', `${connections}`, '-d', `${depth}`, '-s', `${size}`],
    ...['--seconds', `${seconds}`, '--warmup', `${warm}`, '--server-pid', `${server.pid}`],
    ...(idle > 0 ? ['--idle', `${idle}`] : []),
  ];
  return sampleOf(await load(args, loadDatapath(kernelClient)));
};
