/**
 * `bench queue`: tokens and coroutines beside a bare loop and beside Promises, each in a process of its own on one CPU.
 * It touches the processes it starts; what is measured is in queue-cases.ts.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { processCpuNs } from '../linux/affinity.ts';
import type { Bench, BenchContext, OpenBench, Sample, SampleTimes } from './bench.ts';
import { ownProgram } from './find.ts';
import { spawnPinned } from './pinned.ts';
import type { QueueRequest } from './queue-worker.ts';

const WORKLOADS: Readonly<Record<string, readonly string[]>> = {
  // Beside the message stands what a program would otherwise wait for: a Promise that has its value.
  complete: ['loop', 'promise', 'token'],
  switch: ['promise', 'coroutine', 'coroutine, woken by a token'],
  message: ['promise', 'token'],
};

export function queue(): Bench {
  const sides = [...new Set(Object.values(WORKLOADS).flat())];
  return {
    name: 'queue',
    summary:
      'One thread, in memory. complete: a result handed over. switch: a coroutine (or async function) resumed. message: 64 bytes from push to pop through a token on the simulated datapath, beside an await.',
    sides: sides.map((name) => ({ name })),
    workloads: Object.entries(WORKLOADS).map(([name, some]) => ({ name, sides: some })),
    columns: ['opsPerSecond', 'nsPerOp'],
    comparisons: [
      { ours: 'token', peer: 'promise', metrics: ['opsPerSecond'] },
      { ours: 'coroutine', peer: 'promise', metrics: ['opsPerSecond'] },
      { ours: 'coroutine, woken by a token', peer: 'promise', metrics: ['opsPerSecond'] },
      { ours: 'token', peer: 'loop', metrics: ['opsPerSecond'] },
    ],
    open: openQueueBench,
  };
}

async function openQueueBench(context: BenchContext): Promise<OpenBench> {
  // A process for each case: no other case's types and garbage weigh on it.
  const workers = new Map<string, ChildProcess>();
  const workerOf = (side: string, workload: string) => {
    const key = `${side}\n${workload}`;
    let worker = workers.get(key);
    if (worker === undefined) {
      const program = ownProgram('./queue-worker');
      worker = spawnPinned(context.loadCpu, () => fork(program, { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] }));
      workers.set(key, worker);
    }
    return worker;
  };
  return {
    sample(side: string, workload: string, { seconds, warmup }: SampleTimes): Promise<Sample> {
      const worker = workerOf(side, workload);
      // The Promise has no queue to go through: what it can be asked is to hand a result over.
      const measured = side === 'promise' && workload === 'message' ? 'complete' : workload;
      const request: QueueRequest = { name: side, workload: measured, seconds, warmup };
      return new Promise((resolve, reject) => {
        worker.once('message', (sample) => {
          worker.removeAllListeners('exit');
          resolve(sample as Sample);
        });
        worker.once('exit', (code) => reject(new Error(`the process ended with ${code}`)));
        worker.send(request);
      });
    },
    ownCpuNs() {
      let sum = 0;
      for (const { pid, exitCode, signalCode } of workers.values()) {
        if (pid !== undefined && exitCode === null && signalCode === null) sum += processCpuNs(pid);
      }
      return sum;
    },
    async close() {
      await Promise.all(
        [...workers.values()].map(async (worker) => {
          if (worker.exitCode !== null || worker.signalCode !== null) return;
          worker.removeAllListeners('exit');
          const ended = once(worker, 'exit');
          worker.kill('SIGKILL');
          await ended;
        }),
      );
    },
  };
}
