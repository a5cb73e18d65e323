/**
 * The benchmarks by name, imported only when one is asked for.
 * It touches nothing else.
 */
import type { Bench, BenchContext } from './bench.ts';

export interface BenchEntry {
  readonly name: string;
  readonly summary: string;
  load(context: Pick<BenchContext, 'datapaths' | 'quick'>): Promise<Bench>;
}

export const benches: readonly BenchEntry[] = [
  {
    name: 'tcp-echo',
    summary: 'Echo over TCP beside node:net and Bun; also with 10,000 idle connections.',
    load: async (context) => (await import('./tcp-echo.ts')).tcpEcho(context),
  },
  {
    name: 'udp-echo',
    summary: 'Echo over UDP beside node:dgram and Bun.',
    load: async (context) => (await import('./udp-echo.ts')).udpEcho(context),
  },
  {
    name: 'connect',
    summary: 'Short connections beside node:net and Bun.',
    load: async (context) => (await import('./connect.ts')).connect(context),
  },
  {
    name: 'kv',
    summary: 'SET and GET under redis-benchmark beside redis-server.',
    load: async (context) => (await import('./kv.ts')).kv(context),
  },
  {
    name: 'memory',
    summary: 'Echo between two processes over shared memory, beside node:net over loopback.',
    load: async (context) => (await import('./memory.ts')).memory(context),
  },
  {
    name: 'connections',
    summary: 'Echo on 1 to 100,000 connections between two of our stacks in memory, and what a connection occupies.',
    load: async () => (await import('./connections.ts')).connections(),
  },
  {
    name: 'stream',
    summary: 'One bulk flow past the kernel beside iperf3, and the stack alone in memory.',
    load: async (context) => (await import('./stream.ts')).stream(context),
  },
  {
    name: 'queue',
    summary: 'Queue tokens and coroutines beside Promises, in one thread.',
    load: async () => (await import('./queue.ts')).queue(),
  },
  {
    name: 'nfs',
    summary: 'The NFSv3 client library beside libnfs, against nfs-ganesha.',
    load: async () => (await import('./nfs.ts')).nfs(),
  },
  {
    name: 'speculate',
    summary: 'Commands on a far file server with and without speculation, beside the Linux NFS client.',
    load: async (context) => (await import('./speculate.ts')).speculate(context),
  },
];
