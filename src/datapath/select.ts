/**
 * Which datapath a program gets: `auto` takes the best that the machine allows, a name insists on one.
 * It opens datapaths, and asks linux/probe what this process may use; it keeps nothing.
 */
import { ERRNO, IsthmusError, systemError } from '../errors.ts';
import type { Datapath } from '../kernel/datapath.ts';
import { probeUring } from '../linux/probe.ts';
import type { HeapOptions } from '../ring/heap.ts';

/** What `--datapath` takes. */
export const DATAPATHS = ['auto', 'kernel', 'uring', 'simulated'] as const;
export type DatapathSpec = (typeof DATAPATHS)[number];

export interface OpenOptions {
  /** The heap whose buffers are received into and sent from. */
  readonly heap?: HeapOptions;
  /** Unsent bytes of one queue above which a push completes only when half of them have gone. */
  readonly sendLimit?: number;
}

export interface OpenedDatapath {
  readonly datapath: Datapath;
  /** Why this one, and what a better one would need: half a sentence. */
  readonly why: string;
  /** Name and reason in one line, as programs print it: `datapath kernel: …`. */
  readonly line: string;
}

/**
 * Opens a datapath. Modules of datapaths that are not taken are not loaded.
 * @throws IsthmusError EINVAL for a name that is none of {@link DATAPATHS}; EPERM, ENOSYS, ENOMEM and others where the
 * machine does not allow the one asked for, with what it would take
 */
export async function openDatapath(spec: string = 'auto', options: OpenOptions = {}): Promise<OpenedDatapath> {
  switch (spec) {
    case 'auto':
      return openBest(options);
    case 'kernel':
      return opened(await openKernel(options), 'as asked; sockets of the kernel and epoll');
    case 'uring':
      return opened(await openUring(options), 'as asked; io_uring');
    case 'simulated': {
      const { SimulatedDatapath } = await import('./simulated.ts');
      const datapath = new SimulatedDatapath(undefined, options.heap ?? {});
      return opened(datapath, 'as asked; queues in memory, reachable from this process only');
    }
    default:
      throw systemError(ERRNO.EINVAL, 'datapath', `'${spec}'`, `there are ${DATAPATHS.join(', ')}`);
  }
}

async function openBest(options: OpenOptions): Promise<OpenedDatapath> {
  let obstacle: string;
  try {
    return opened(await openUring(options), 'io_uring is allowed here, and is the fastest there is without root');
  } catch (error) {
    if (!(error instanceof IsthmusError)) throw error;
    obstacle = error.message;
  }
  return opened(await openKernel(options), `epoll; io_uring would be faster, but ${obstacle}`);
}

async function openKernel({ heap, sendLimit }: OpenOptions): Promise<Datapath> {
  const { SocketsDatapath } = await import('./sockets.ts');
  return new SocketsDatapath({ ...(heap && { heap }), ...(sendLimit !== undefined && { sendLimit }) });
}

async function openUring({ heap, sendLimit }: OpenOptions): Promise<Datapath> {
  const { UringDatapath } = await import('./uring.ts');
  try {
    return new UringDatapath({ ...(heap && { heap }), ...(sendLimit !== undefined && { sendLimit }) });
  } catch (error) {
    if (!(error instanceof IsthmusError)) throw error;
    const { code, errno, syscall } = error;
    const { needs } = probeUring();
    const message = needs === '' ? error.message : `${error.message}; it needs ${needs}`;
    throw new IsthmusError(message, { code, errno, syscall, cause: error });
  }
}

function opened(datapath: Datapath, why: string): OpenedDatapath {
  return { datapath, why, line: `datapath ${datapath.name}: ${why}` };
}
