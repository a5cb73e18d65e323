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
    name: 'queue',
    summary: 'Queue tokens and coroutines beside Promises, in one thread.',
    load: async () => (await import('./queue.ts')).queue(),
  },
];
