/**
 * One nfs-ganesha and one NFSv4.1 client for the tests of a file, and a directory on the server for each test.
 * It touches what Ganesha touches.
 */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import test, { after, before } from 'node:test';
import { Ganesha, type GaneshaOptions, ganeshaMissing } from '../../../src/bench/peers/ganesha.ts';
import { Nfs41Server } from '../../../src/remote/nfs41/server.ts';
import type { BatchResult, Handle, Operation, RemoteServer, ResultByName } from '../../../src/remote/server.ts';
import { need } from '../../support/need.ts';

export const bytes = (text: string) => new TextEncoder().encode(text);
export const text = (data: Uint8Array) => Buffer.from(data).toString();

/** What a test gets: its own directory by handle and by path. */
export interface Place {
  readonly ganesha: Ganesha;
  readonly server: Nfs41Server;
  readonly dir: Handle;
  readonly path: string;
}

/** To be called at the top of a test file: gives the function that makes a test. */
export function remoteTests(options: GaneshaOptions = {}) {
  const missing = ganeshaMissing();
  let ganesha: Ganesha;
  let server: Nfs41Server;
  let directories = 0;
  before(async () => {
    if (missing !== null) return;
    ganesha = await Ganesha.start(options);
    server = await Nfs41Server.connect({ host: '127.0.0.1', port: ganesha.port, path: '/export' });
  });
  after(async () => {
    if (missing !== null) return;
    await server.close();
    await ganesha.stop();
  });
  return (name: string, run: (place: Place) => Promise<void>): void => {
    test(name, async (t) => {
      if (!need(t, missing === null, missing ?? '')) return;
      const own = `t${directories++}`;
      const { handle } = await server.mkdir(server.root, bytes(own), { mode: 0o777 });
      await run({ ganesha, server, dir: handle, path: join(ganesha.exportDir, own) });
    });
  };
}

/** The values of a batch that has to succeed. */
export async function all<const O extends readonly Operation[]>(
  server: RemoteServer,
  operations: O,
): Promise<{ [K in keyof O]: ResultByName[O[K]['op']] }> {
  const results = await server.batch(operations);
  const failed = results.find((result): result is Extract<BatchResult, { ok: false }> => !result.ok);
  if (failed !== undefined) throw failed.error;
  assert.equal(results.length, operations.length);
  return results.map((result) => (result as { value: unknown }).value) as never;
}

/** How many requests `run` needs. */
export async function roundTrips<T>(server: RemoteServer, run: () => Promise<T>): Promise<[T, number]> {
  const before = server.counters.calls;
  const value = await run();
  return [value, server.counters.calls - before];
}
