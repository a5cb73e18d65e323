/**
 * Runs cases of `bench queue` on request, in a process of its own; a program for fork.
 * It touches only its channel to the parent.
 */
import type { Sample } from './bench.ts';
import { queueCases } from './queue-cases.ts';

export interface QueueRequest {
  readonly name: string;
  readonly workload: string;
  readonly seconds: number;
  readonly warmup: number;
}

/** Long enough that reading the clock does not count, short enough to end in time. A multiple of the cases' parties. */
const OPERATIONS = 64 * 1024;

const cases = queueCases();

process.on('message', (request: QueueRequest) => {
  void measure(request).then((sample) => process.send!(sample));
});

async function measure({ name, workload, seconds, warmup }: QueueRequest): Promise<Sample> {
  const found = cases.find((each) => each.name === name && each.workload === workload);
  if (found === undefined) throw new RangeError(`no case ${name} ${workload}`);
  await runFor(found.run, warmup);
  const nsPerOp = await runFor(found.run, seconds);
  return { opsPerSecond: 1e9 / nsPerOp, nsPerOp };
}

async function runFor(run: (operations: number) => number | Promise<number>, seconds: number): Promise<number> {
  const start = performance.now();
  let operations = 0;
  let elapsed: number;
  do {
    const checksum = await run(OPERATIONS);
    if (!Number.isFinite(checksum)) throw new RangeError('a case gave no result');
    operations += OPERATIONS;
    elapsed = performance.now() - start;
  } while (elapsed < seconds * 1000);
  return (elapsed * 1e6) / operations;
}
