/**
 * Our side of `bench speculate`: one command on a mount of its own, and how long it took, as a line of JSON on descriptor 3.
 * Usage: speculate-worker URL DIR (speculate|wait) SCRIPT. It mounts in a namespace of its own and runs processes.
 */
import { writeSync } from 'node:fs';
import { enterPrivateMountNamespace } from '../linux/fuse.ts';
import { connectServer } from '../remote/connect.ts';
import { SpeculativeMount } from '../speculation/files/run.ts';

/** What the worker says. */
export interface WorkerReport {
  readonly elapsedMs: number;
  readonly code: number;
  readonly signal: number;
  readonly predicted: number;
  readonly waited: number;
  readonly rollbacks: number;
}

const [url, directory, how, script] = process.argv.slice(2) as [string, string, string, string];
enterPrivateMountNamespace();
const server = await connectServer(url);
const mount = await SpeculativeMount.open({ server, directory });
try {
  const command = ['sh', '-c', `cd ${directory}/work && ${script}`];
  const { status, elapsedMs, statistics } = await mount.run({ command, speculate: how === 'speculate' });
  const { predictedReads, predictedMutations, waited, rollbacks } = statistics;
  const report: WorkerReport = {
    ...status,
    elapsedMs,
    predicted: predictedReads + predictedMutations,
    waited,
    rollbacks,
  };
  writeSync(3, `${JSON.stringify(report)}\n`);
} finally {
  await mount.close();
  await server.close();
}
process.exit(0);
