/** What the tests of the file library share: a server with its directory from behind, and a connection to it. */
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import type { Ganesha, GaneshaOptions } from '../../../src/bench/peers/ganesha.ts';
import { connectFiles } from '../../../src/remote/connect.ts';
import type { RemoteFiles, RemoteFilesOptions } from '../../../src/remote/files/files.ts';
import { startGanesha } from '../../servers/ganesha.ts';

export interface Mounted {
  readonly ganesha: Ganesha;
  readonly files: RemoteFiles;
  /** A path in the exported directory, past the server. */
  behind(path: string): string;
}

export interface MountedOptions extends GaneshaOptions {
  readonly version?: '3' | '4.1';
  /** Added to the URL. */
  readonly parameters?: string;
  readonly files?: RemoteFilesOptions;
}

/** A server of the test's own with its export mounted; null where there can be none. */
export async function mounted(t: TestContext, options: MountedOptions = {}): Promise<Mounted | null> {
  const ganesha = await startGanesha(t, options);
  if (ganesha === null) return null;
  const files = await connectFiles(ganesha.url(options.version ?? '3') + (options.parameters ?? ''), options.files);
  t.after(() => files.close().catch(() => {}));
  return { ganesha, files, behind: (path) => join(ganesha.exportDir, path) };
}
