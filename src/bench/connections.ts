/**
 * `bench connections`: what many connections cost, between two of our stacks in memory (IX figure 4's question).
 * It touches the processes it starts; what is measured is in connections-worker.ts.
 */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import type { Bench, BenchContext, OpenBench, Sample, SampleTimes } from './bench.ts';
import type { ConnectionsRequest } from './connections-worker.ts';
import { ownProgram } from './find.ts';
import { spawnPinned } from './pinned.ts';

const COUNTS = [1, 10, 100, 1000, 10_000, 100_000];
const STACK = 'isthmus/stack';
const QUEUES = 'isthmus/queues';

export function connections(): Bench {
  return {
    name: 'connections',
    summary:
      'Echo of 64 bytes on connections drawn by chance, 64 messages under way, two stacks in one thread, both ends of each message measured: TCP/IP alone, and with kernels, queues and coroutines above.',
    sides: [{ name: STACK }, { name: QUEUES }],
    workloads: COUNTS.map((count) => ({ name: `c${count}`, extraSeconds: count / 50_000 })),
    comparisons: [],
    workloadComparisons: COUNTS.slice(1).map((count) => ({
      label: `c${count} : c1`,
      ours: `c${count}`,
      peer: 'c1',
      workloadName: 'echo',
      metrics: ['messagesPerSecond'],
    })),
    curve: 'messagesPerSecond',
    columns: ['messagesPerSecond', 'nsPerMessage', 'bytesPerConnection'],
    open: openConnections,
  };
}

async function openConnections(context: BenchContext): Promise<OpenBench> {
  return {
    async sample(side: string, workload: string, { seconds, warmup }: SampleTimes): Promise<Sample> {
      // A process for each sample: what an earlier one left in V8's heap would count as this one's.
      const program = ownProgram('./connections-worker');
      const worker = spawnPinned(context.loadCpu, () =>
        fork(program, { execArgv: ['--expose-gc'], stdio: ['ignore', 'inherit', 'inherit', 'ipc'] }),
      );
      const ended = once(worker, 'exit');
      try {
        const queues = side === QUEUES;
        const request: ConnectionsRequest = { connections: Number(workload.slice(1)), queues, seconds, warmup };
        worker.send(request);
        const answer = await Promise.race([once(worker, 'message'), ended.then(([code]) => Number(code))]);
        if (typeof answer === 'number') throw new Error(`the process ended with ${answer}`);
        return answer[0] as Sample;
      } finally {
        worker.kill('SIGKILL');
        await ended;
      }
    },
    ownCpuNs: () => 0,
    async close() {},
  };
}
