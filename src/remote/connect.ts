/**
 * From a URL to a mounted remote tree: `connectFiles` for programs, `connectServer` for what builds on the low-level interface.
 * It may touch the network. What speaks a protocol is loaded with the first tree that needs it: most programs have none.
 */
import { IsthmusError } from '../errors.ts';
import type { RemoteFiles, RemoteFilesOptions } from './files/files.ts';
import { RemoteError } from './remote-error.ts';
import type { RpcOptions } from './rpc/options.ts';
import type { RemoteServer } from './server.ts';
import { parseNfsUrl } from './url.ts';

export interface ConnectFilesOptions extends RemoteFilesOptions {
  /** Ends the attempt to connect. */
  readonly signal?: AbortSignal | undefined;
  /**
   * While one request alone is outstanding to a server that lately answered within this many microseconds, the event loop polls
   * instead of sleeping: faster, at the price of processor time. Default 100; 0: never.
   */
  readonly busyPollUs?: number | undefined;
}

const DEFAULT_BUSY_POLL_US = 100;
/** How a server without v4.1, or one whose v4 tree is another, answers. */
const TRY_VERSION_3 = new Set(['EOPNOTSUPP', 'EPROTONOSUPPORT', 'ENOENT', 'ECONNREFUSED']);

/**
 * Mounts `nfs://host[:port]/path?version=3|4.1&uid=&gid=&groups=&mountport=&timeout=` and gives its tree, with an API like
 * node:fs/promises. Rejects with the server's reason (`ENOENT`, `EACCES`) or why there is no connection; a TypeError for a bad URL.
 */
export async function connectFiles(url: string, options: ConnectFilesOptions = {}): Promise<RemoteFiles> {
  const { signal, busyPollUs = DEFAULT_BUSY_POLL_US } = options;
  const { RemoteFiles } = await import('./files/files.ts');
  return new RemoteFiles(await connectServer(url, signal, { busyPollUs }), options);
}

/** The same, as the low-level interface. Without a version in the URL: 4.1, and 3 where the server does not speak that or does not know the path there. */
export async function connectServer(
  url: string,
  signal?: AbortSignal,
  rpc: Pick<RpcOptions, 'busyPollUs'> = {},
): Promise<RemoteServer> {
  const { version, mountPort, ...parsed } = parseNfsUrl(url);
  const address = { ...parsed, ...rpc };
  const connect3 = async (): Promise<RemoteServer> => {
    const { connectNfs3 } = await import('./nfs3/connect.ts');
    return connectNfs3({ ...address, mountPort, signal });
  };
  if (version === '3' || (version === null && mountPort !== undefined)) return connect3();
  const { Nfs41Server } = await import('./nfs41/server.ts');
  if (version === '4.1') return Nfs41Server.connect(address, signal);
  try {
    return await Nfs41Server.connect(address, signal);
  } catch (error) {
    if (!(error instanceof IsthmusError) || !TRY_VERSION_3.has(error.code)) throw error;
    try {
      return await connect3();
    } catch (later) {
      throw isAnswer(error) && !isAnswer(later) ? error : later;
    }
  }
}

/** What a server says of the path tells more than that another port of it cannot be reached. */
function isAnswer(error: unknown): boolean {
  return error instanceof RemoteError && error.status !== 0;
}
