/**
 * One bulk flow to a sink, on request: a program for fork that answers as load-worker.ts does.
 * It touches a kernel of its own and its channel to the parent.
 */
import { ownCpuNs } from '../cli/commands/load.ts';
import { spawned, startKernel } from '../cli/launch.ts';
import type { Coroutine, Kernel } from '../index.ts';
import type { LoadRequest } from './load-worker.ts';
import { PIECE_BYTES, streamReport } from './stream-report.ts';

let running: ReturnType<typeof startKernel> | null = null;

process.on('message', (request: LoadRequest) => {
  void flow(request)
    .then((report) => ({ report }))
    .catch((error: Error) => ({ error: error.message }))
    .then((answer) => process.send!(answer));
});
process.on('disconnect', () => process.exit());
process.on('SIGINT', () => {});

async function flow({ args }: LoadRequest): Promise<object> {
  const [host, port, seconds, warmup, , datapath] = args;
  running ??= startKernel(datapath!);
  const { kernel, failed } = await running;
  const address = { host: host!, port: Number(port) };
  return Promise.race([spawned(kernel, source(kernel, address, Number(seconds), Number(warmup))), failed]);
}

function* source(
  k: Kernel,
  address: { host: string; port: number },
  seconds: number,
  warmup: number,
): Coroutine<object> {
  const conn = yield* k.connect(address);
  const piece = k.alloc(PIECE_BYTES);
  let pushed = 0;
  // What has left: bytes that only wait here were not carried.
  const carried = () => pushed - conn.unsent;
  const push = function* (ms: number): Coroutine {
    const end = performance.now() + ms;
    while (performance.now() < end) {
      yield* conn.push(piece.retain());
      pushed += PIECE_BYTES;
    }
  };
  try {
    yield* push(warmup * 1000);
    const before = { bytes: carried(), time: performance.now(), cpu: ownCpuNs() };
    yield* push(seconds * 1000);
    const took = (performance.now() - before.time) / 1000;
    return streamReport(carried() - before.bytes, took, ownCpuNs() - before.cpu);
  } finally {
    piece.release();
    conn.abort();
  }
}
