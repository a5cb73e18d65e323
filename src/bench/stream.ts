/**
 * `bench stream`: one bulk flow over a veth pair beside iperf3, and the stack alone, two of them in one thread.
 * Data for server-bench.ts, and the reading of iperf3's output.
 */
import type { Bench, BenchContext, Comparison, OpenBench, Sample } from './bench.ts';
import { findProgram, ownProgram } from './find.ts';
import { LAB_HOST, onLab } from './lab-sides.ts';
import { LoadAgent } from './load-agent.ts';
import { runPinned, type ServerSide, type ServerWorkload, serverBench } from './server-bench.ts';
import { PIECE_BYTES } from './stream-report.ts';

const IPERF_PORT = 5201;
const IPERF = 'iperf3';
const STACK = 'isthmus/stack';
const SOURCE = './stream-source';

export function stream({ datapaths }: Pick<BenchContext, 'datapaths'>): Bench {
  const wanted = datapaths.includes('xdp') ? datapaths : ['xdp', ...datapaths];
  const ours = [...new Set(wanted)].map(sink);
  const comparisons: Comparison[] = ours.map(({ name }) => ({ ours: name, peer: IPERF, metrics: ['bytesPerSecond'] }));
  const overVeth = serverBench<ServerWorkload>({
    name: 'stream',
    summary:
      'One bulk flow: over a veth pair without segmentation offloads beside iperf3; and our stack alone, two of them in one thread.',
    sides: [...ours, iperf()],
    workloads: [{ name: 'bulk' }],
    columns: ['bytesPerSecond', 'loadCpu'],
    comparisons,
    async drive(server, _, { seconds, warmup }, driver) {
      if (driver.side.name === IPERF) {
        // iperf3 takes whole seconds.
        const args = ['-c', driver.host, '-p', `${IPERF_PORT}`, '-t', `${Math.max(1, Math.round(seconds))}`, '-J'];
        return parseIperf(await runPinned([findProgram(IPERF)!, ...args], driver));
      }
      const report = await driver.load([driver.host, `${server.port}`, `${seconds}`, `${warmup}`]);
      return { bytesPerSecond: report.messagesPerSecond * PIECE_BYTES, loadCpu: report.load.cpu };
    },
  });
  return {
    ...overVeth,
    sides: [...overVeth.sides, { name: STACK }],
    workloads: [
      { name: 'bulk', sides: overVeth.sides.map(({ name }) => name) },
      { name: 'in memory', sides: [STACK] },
    ],
    open: async (context) => withStack(await overVeth.open(context), context),
  };
}

/** The stack alone needs neither server nor lab. */
function withStack(open: OpenBench, context: BenchContext): OpenBench {
  const agent = new LoadAgent(context, { program: './stream-stack' });
  return {
    async sample(side, workload, times) {
      if (side !== STACK) return open.sample(side, workload, times);
      const report = await agent.load([`${times.seconds}`, `${times.warmup}`]);
      return { bytesPerSecond: report.messagesPerSecond * PIECE_BYTES, loadCpu: 1 };
    },
    ownCpuNs: () => open.ownCpuNs() + agent.cpuNs(),
    async close() {
      await Promise.all([open.close(), agent.close()]);
    },
  };
}

function sink(datapath: string): ServerSide {
  const past = datapath === 'xdp';
  const command = [process.execPath, ownProgram('./stream-sink'), past ? 'xdp:lab-server' : datapath, LAB_HOST];
  const side = onLab({ name: `isthmus/${datapath}`, server: { command, ready: /^stream-sink: tcp \S*:(\d+)/m } });
  return { ...side, load: { program: SOURCE, datapath: past ? side.load!.datapath! : datapath } };
}

function iperf(): ServerSide {
  const program = findProgram(IPERF);
  const command = [program ?? IPERF, '-s', '-B', LAB_HOST, '-p', `${IPERF_PORT}`, '--forceflush'];
  return onLab({
    name: IPERF,
    missing: program === null ? 'it is not installed (apt install iperf3)' : undefined,
    server: { command, ready: /Server listening on/, port: IPERF_PORT },
  });
}

/** Reads `iperf3 --json`: what arrived at the server. @throws Error where it is something else */
export function parseIperf(text: string): Sample {
  let end: { sum_received?: { bits_per_second?: number } } | undefined;
  try {
    ({ end } = JSON.parse(text) as { end?: typeof end });
  } catch {
    // said below
  }
  const bits = end?.sum_received?.bits_per_second;
  if (bits === undefined || !(bits > 0)) throw new Error(`iperf3 said: ${text.trim().slice(0, 200)}`);
  return { bytesPerSecond: bits / 8 };
}
