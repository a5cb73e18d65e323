/**
 * `bench connect`: connections opened, used for one message and closed, driven by our own load.
 * Data for server-bench.ts. A message is a whole connection, so that messages per second are connections per second.
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

interface ConnectWorkload extends ServerWorkload {
  readonly connections: number;
  readonly kernelClient?: boolean;
  /** The client ends with a reset: nothing waits in TIME_WAIT. */
  readonly reset?: boolean;
}

const METRICS = ['messagesPerSecond', 'p50Us', 'p99Us', 'cpuNsPerMessage'];

const COLUMNS = ['messagesPerSecond', 'p50Us', 'p99Us', 'cpuNsPerMessage', 'loadCpu'];

export function connect(context: Pick<BenchContext, 'datapaths'>): Bench {
  return needsLab(context) ? onVeth(context) : onLoopback(context);
}

function onVeth(context: Pick<BenchContext, 'datapaths'>): Bench {
  const ours = labSides(context, 'echo');
  return serverBench<ConnectWorkload>({
    name: 'connect',
    summary:
      'Connections over TCP over a veth pair: open, one message of 64 bytes, close (where so named by a reset); from our load past the kernel.',
    sides: [...ours, onLab(nodeSide('node:net', 'net-echo', LAB_HOST))],
    workloads: [
      { name: 'c1', connections: 1 },
      { name: 'c50', connections: 50 },
      { name: 'c50 reset', connections: 50, reset: true },
      // The kernel's client would run out of ports in TIME_WAIT within a second, and then search for one for milliseconds.
      { name: `c50 reset ${KERNEL_CLIENT}`, connections: 50, reset: true, kernelClient: true },
    ],
    columns: COLUMNS,
    comparisons: labComparisons(ours, ['node:net'], METRICS),
    drive,
  });
}

function onLoopback({ datapaths }: Pick<BenchContext, 'datapaths'>): Bench {
  const ours = datapaths.map((datapath) => isthmusSide(datapath, 'echo'));
  return serverBench<ConnectWorkload>({
    name: 'connect',
    summary: 'Connections over TCP: open, one message of 64 bytes, close.',
    sides: [...ours, nodeSide('node:net', 'net-echo'), bunSide()],
    workloads: [
      { name: 'c1', connections: 1 },
      { name: 'c50', connections: 50 },
    ],
    columns: COLUMNS,
    comparisons: [
      ...ours.flatMap(({ name }) => ['node:net', 'bun'].map((peer) => ({ ours: name, peer, metrics: METRICS }))),
      { ours: 'isthmus/uring', peer: 'isthmus/kernel', metrics: METRICS },
    ],
    drive,
  });
}

const drive: Drive<ConnectWorkload> = async (server, workload, { seconds, warmup }, { load, host }) => {
  const args = [
    `connect://${host}:${server.port}`,
    ...['-c', `${workload.connections}`, '-s', '64'],
    ...(workload.reset ? ['--reset'] : []),
    ...['--seconds', `${seconds}`, '--warmup', `${warmup}`, '--server-pid', `${server.pid}`],
  ];
  return sampleOf(await load(args, loadDatapath(workload.kernelClient)));
};
