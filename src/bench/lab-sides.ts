/**
 * Sides of a benchmark past the kernel: each server and its load on a veth pair of their own, so that none has another's
 * XDP program in its way. Data; the labs are made by server-bench.ts.
 */
import type { BenchContext, Comparison } from './bench.ts';
import { isthmusSide, type ServerSide } from './server-bench.ts';

/** Address of a server in its lab. */
export const LAB_HOST = '10.88.0.1';
/**
 * Our own load past the kernel, the same for every server: the kernel's client would be the limit. It has an address of its
 * own, since on a shared one each connection that begins must keep its port from the kernel.
 */
const LOAD = 'xdp:lab-client,own=10.88.0.10/24';

/** Whether the datapaths asked for need the lab. */
export function needsLab({ datapaths }: Pick<BenchContext, 'datapaths'>): boolean {
  return datapaths.includes('xdp');
}

/** A side as it stands on loopback, moved into a lab. Its server must listen on {@link LAB_HOST}. */
export function onLab(side: ServerSide): ServerSide {
  return { ...side, lab: true, load: { datapath: LOAD } };
}

/** One of our servers on each datapath; `kernel` always, since it stands for a C program on epoll (docs/results). */
export function labSides({ datapaths }: Pick<BenchContext, 'datapaths'>, ...args: string[]): ServerSide[] {
  const all = [...new Set([...datapaths, 'kernel'])];
  return all.map((name) => onLab(isthmusSide(name === 'xdp' ? 'xdp:lab-server' : name, ...args, '--host', LAB_HOST)));
}

/** What each workload is called when the load is a program on the kernel's own sockets. */
export const KERNEL_CLIENT = 'kernel-client';

/** The datapath that a workload's load is on; undefined for the side's own. */
export function loadDatapath(kernelClient: boolean | undefined): string | undefined {
  return kernelClient ? 'kernel' : undefined;
}

export function labComparisons(
  sides: readonly ServerSide[],
  peers: readonly string[],
  metrics: readonly string[],
): Comparison[] {
  const ours = sides.map(({ name }) => name).filter((name) => name !== 'isthmus/kernel');
  return ours.flatMap((name) => [...peers, 'isthmus/kernel'].map((peer) => ({ ours: name, peer, metrics })));
}
