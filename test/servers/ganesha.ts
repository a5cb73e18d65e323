/**
 * nfs-ganesha for tests: a server of one's own on random ports of loopback, stopped when the test ends.
 * It touches what src/bench/peers/ganesha.ts touches.
 *
 *     const server = await startGanesha(t)            // skips the test (fails in CI) where there is none; stops it afterwards
 *     if (server === null) return
 *     connectFiles(server.url('3')); server.exportDir      // the exported directory as this process sees it
 *     await server.kill(); await server.restart()     // SIGKILL, and up again on the same ports and files
 *     server.pause(); server.resume()                 // frozen: neither answers nor closes
 */
import type { TestContext } from 'node:test';
import { Ganesha, type GaneshaOptions, ganeshaMissing } from '../../src/bench/peers/ganesha.ts';
import { need } from '../support/need.ts';

/** Starts a server for a test and stops it after; null (the test skipped, in CI failed) where there can be none. */
export async function startGanesha(t: TestContext, options: GaneshaOptions = {}): Promise<Ganesha | null> {
  const missing = ganeshaMissing();
  if (!need(t, missing === null, missing ?? '')) return null;
  const server = await Ganesha.start(options);
  t.after(() => server.stop());
  return server;
}
