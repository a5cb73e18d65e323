/**
 * Which datapath a program gets: `auto` takes the best that the machine allows, a name insists on one.
 * It opens datapaths, and asks linux/probe what this process may use; it keeps nothing.
 */
import { ERRNO, IsthmusError, systemError } from '../errors.ts';
import type { Datapath } from '../kernel/datapath.ts';
import { probeUring } from '../linux/probe.ts';
import type { HeapOptions } from '../ring/heap.ts';
import { type DatapathSpec, parseSpec } from './spec.ts';
import type { XdpShare } from './xdp/group.ts';

/** What `--datapath` takes. */
export const DATAPATHS = [
  'auto',
  'kernel',
  'uring',
  'simulated',
  'xdp:INTERFACE…',
  'tap:NAME,ADDRESS/PREFIX…',
  'memory:NAME',
] as const;

export interface OpenOptions {
  /** The heap whose buffers are received into and sent from. */
  readonly heap?: HeapOptions;
  /** Unsent bytes of one queue above which a push completes only when half of them have gone. */
  readonly sendLimit?: number;
  /** This kernel's part of what several kernels have in common (group.ts). */
  readonly share?: XdpShare;
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
  const parsed = parseSpec(spec);
  if (parsed.text !== null) return openNamed(parsed, spec, options);
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

/** Those whose specification says more than their name. */
async function openNamed(spec: DatapathSpec, whole: string, given: OpenOptions): Promise<OpenedDatapath> {
  const { heap, sendLimit, share } = given;
  const { kind, middleware } = spec;
  const text = spec.text!;
  const options = { ...(heap && { heap }), ...(sendLimit !== undefined && { sendLimit }) };
  if (kind === 'memory' && middleware === null) {
    const { openMemory } = await import('./memory.ts');
    return opened(openMemory(text, options), 'as asked; memory shared with other processes of this host');
  }
  if (kind !== 'xdp' && kind !== 'tap') {
    const hint = kind === 'memory' ? 'nothing can stand in its way' : `there are ${DATAPATHS.join(', ')}`;
    throw systemError(ERRNO.EINVAL, 'datapath', `'${whole}'`, hint);
  }
  const between = middleware === null ? null : (await import('./middleware.ts')).openMiddleware(middleware);
  const stackOptions = { ...options, ...(between !== null && { middleware: between }) };
  try {
    if (kind === 'tap') {
      const { openTap } = await import('./tap.ts');
      const datapath = openTap(text, stackOptions);
      return opened(datapath, `as asked; our own TCP/IP on the tap device ${datapath.link.interfaceName}`);
    }
    const { openXdp } = await import('./xdp.ts');
    const datapath = openXdp(text, { ...stackOptions, ...(share && { share }) });
    return opened(datapath, `as asked; AF_XDP on ${datapath.about}`);
  } catch (error) {
    between?.close?.();
    throw error;
  }
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
