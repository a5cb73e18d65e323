/**
 * Applications as child processes over each datapath of real sockets: of one test's own, or the key-value server and a real
 * redis-server that several tests of a file share. It touches child processes, which it stops after the test or the last test.
 */
import { after, describe, type TestContext } from 'node:test';
import { type ChildServer, type StartOptions, startIsthmus, startRedis } from './child-server.ts';
import { hasCommand, need } from './need.ts';

/** Datapaths that clients of other programs can reach. */
const DATAPATHS = ['kernel', 'uring'] as const;

export interface Pair {
  readonly isthmus: ChildServer;
  readonly redis: ChildServer;
}

type Start = Promise<ChildServer | Error>;

/**
 * Tests over each datapath: one after the other of each, beside those of the other one, which has servers of its own.
 * Most of their time is waiting for these.
 */
export function overDatapaths(what: string, tests: (datapath: string) => void): void {
  describe(what, { concurrency: DATAPATHS.length }, () => {
    for (const datapath of DATAPATHS) describe(`over ${datapath}`, { concurrency: 1 }, () => tests(datapath));
  });
}

/** Skips the test where the machine does not allow io_uring; any other reason is a failure. */
function unavailable(t: TestContext, datapath: string, error: Error): null {
  if (datapath !== 'uring' || !/io_uring/.test(error.message)) throw error;
  need(t, false, error.message);
  return null;
}

/** An application of this test's own, stopped after it; null (the test is then skipped) where the machine lacks the datapath. */
export async function startApp(
  t: TestContext,
  datapath: string,
  [name, ...args]: readonly [string, ...string[]],
  options: StartOptions = {},
): Promise<ChildServer | null> {
  try {
    const server = await startIsthmus([name, '--datapath', datapath, ...args], options);
    t.after(() => server.stop());
    return server;
  } catch (error) {
    return unavailable(t, datapath, error as Error);
  }
}

/** As {@link startApp}, for a key-value server on a free port. */
export function startKv(
  t: TestContext,
  datapath: string,
  args: readonly string[] = [],
  options: StartOptions = {},
): Promise<ChildServer | null> {
  return startApp(t, datapath, ['kv', '--port', '0', ...args], options);
}

/** Servers that are started when first asked for. To be called at the top of a test file. */
export function sharedServers(args: readonly string[] = []) {
  const started = new Map<string, Start>();
  const once = (name: string, start: () => Promise<ChildServer>): Start => {
    let server = started.get(name);
    if (server === undefined) {
      server = start().catch((error: Error) => error);
      started.set(name, server);
    }
    return server;
  };
  after(async () => {
    for (const starting of started.values()) {
      const server = await starting;
      if (!(server instanceof Error)) await server.stop();
    }
  });

  /** The server over a datapath, or null (the test is then skipped) where this machine does not have it. */
  const isthmus = async (t: TestContext, datapath: string): Promise<ChildServer | null> => {
    const start = () => startIsthmus(['kv', '--port', '0', '--datapath', datapath, ...args]);
    const server = await once(datapath, start);
    return server instanceof Error ? unavailable(t, datapath, server) : server;
  };

  return {
    isthmus,
    async pair(t: TestContext, datapath: string): Promise<Pair | null> {
      if (!need(t, hasCommand('redis-server'), 'redis-server is not installed')) return null;
      const ours = await isthmus(t, datapath);
      if (ours === null) return null;
      const redis = await once(`redis beside ${datapath}`, startRedis);
      if (redis instanceof Error) throw redis;
      return { isthmus: ours, redis };
    },
  };
}
