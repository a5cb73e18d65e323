/**
 * The server of the soak test: the echo application on a datapath, which tells its parent how much memory it uses.
 * A program for fork, with --expose-gc; it touches a kernel of its own and the channel to its parent.
 */
import { loadApp } from '../../src/apps/registry.ts';
import { spawned, startKernel } from '../../src/cli/launch.ts';
import { UringDatapath } from '../../src/datapath/uring.ts';

export interface MemorySample {
  readonly rss: number;
  readonly heapUsed: number;
  readonly external: number;
  readonly arrayBuffers: number;
  /** Buffers of the kernel's own heap that are in use (those that lie ready to receive into are not), operations outstanding, coroutines alive, queues open. */
  readonly buffers: number;
  readonly operations: number;
  readonly coroutines: number;
  readonly queues: number;
}

const { gc } = globalThis as { gc?: () => void };
const { kernel } = await startKernel(process.argv[2] ?? 'auto');
const { datapath } = kernel;
const echo = await loadApp('echo');
const context = {
  core: 0,
  cores: 1,
  ready: ([first]: readonly { address: object }[]) => process.send!((first!.address as { port: number }).port),
  log() {},
};
void spawned(kernel, echo.main(kernel, { port: 0, host: '127.0.0.1', udp: false, path: undefined }, context));

process.on('message', () => {
  gc?.();
  gc?.();
  const { rss, heapUsed, external, arrayBuffers } = process.memoryUsage();
  const sample: MemorySample = {
    rss,
    heapUsed,
    external,
    arrayBuffers,
    buffers: kernel.heap.inUse - (datapath instanceof UringDatapath ? datapath.readyBuffers : 0),
    operations: kernel.operations.inUse,
    coroutines: kernel.scheduler.alive,
    queues: kernel.openQueues,
  };
  process.send!(sample);
});
process.on('disconnect', () => process.exit());
