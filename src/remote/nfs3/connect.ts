/**
 * From an address and a path to a mounted NFSv3 export: ports, MOUNT, FSINFO and PATHCONF.
 * It may touch the network through the RPC client.
 */
import { RemoteError } from '../remote-error.ts';
import type { RpcClient } from '../rpc/client.ts';
import type { RpcOptions } from '../rpc/options.ts';
import { RpcPool } from '../rpc/pool.ts';
import type { Credential, Handle, ServerInfo } from '../server.ts';
import { FSINFO, PATHCONF } from './file-system.ts';
import {
  EXPORT,
  type ExportEntry,
  lookupPort,
  MNT,
  MOUNT_PROGRAM,
  MOUNT_VERSION,
  PORTMAP_PORT,
  UMNT,
  withClient,
} from './mount.ts';
import { NFS_PROGRAM, NFS_VERSION } from './procedure.ts';
import { Nfs3Server } from './server.ts';

/** More than a megabyte in one record gains nothing and delays what is behind it. */
const MOST_IO = 1024 * 1024;
const LEAST_IO = 512;
const READDIR_BYTES = 128 * 1024;
const UNMOUNT_MS = 1000;

export interface Nfs3Options
  extends Pick<RpcOptions, 'timeoutMs' | 'stallMs' | 'connectTimeoutMs' | 'maxOutstanding' | 'busyPollUs'> {
  readonly host: string;
  /** Where NFS listens; without it the port mapper of the host (port 111) is asked. */
  readonly port?: number | undefined;
  /** Where MOUNT listens; without it: the port of NFS if that was given and serves MOUNT, else what the port mapper says. */
  readonly mountPort?: number | undefined;
  /** The path as the server exports it. */
  readonly path: string;
  readonly credential: Credential;
  readonly signal?: AbortSignal | undefined;
}

/** Mounts the export. Rejects with the server's reason (`ENOENT`, `EACCES`, …) or why there is no connection. */
export async function connectNfs3(options: Nfs3Options): Promise<Nfs3Server> {
  const { signal, path } = options;
  const port = options.port ?? (await lookupPort(rpcOptions(options, PORTMAP_PORT), NFS_PROGRAM, NFS_VERSION, signal));
  const { value: root, port: mountPort } = await atMount(options, (client) => client.call(MNT, path, { signal }));
  const rpc = await RpcPool.connect(rpcOptions(options, port), signal);
  try {
    const info = await askInfo(rpc, root, signal);
    const unmount = async () => {
      // Only bookkeeping on the server (RFC 1813 appendix I, section 5.2.3): whether it works is of no consequence.
      const quick = { ...rpcOptions(options, mountPort), timeoutMs: UNMOUNT_MS, connectTimeoutMs: UNMOUNT_MS };
      await withClient(quick, undefined, (client) => client.call(UMNT, path)).catch(() => {});
    };
    const description = `nfs://${options.host}:${port}${path}?version=3`;
    return new Nfs3Server({ rpc, root, info, description, unmount });
  } catch (error) {
    await rpc.close();
    throw error;
  }
}

function rpcOptions(options: Omit<Nfs3Options, 'path'>, port: number): RpcOptions {
  const { host, credential, timeoutMs, stallMs, connectTimeoutMs, maxOutstanding, busyPollUs } = options;
  return { host, port, credential, timeoutMs, stallMs, connectTimeoutMs, maxOutstanding, busyPollUs };
}

/** What the server exports, and to whom. Rejects as {@link connectNfs3}; a server of v4 alone has no such list. */
export async function listExports(options: Omit<Nfs3Options, 'path'>): Promise<ExportEntry[]> {
  const { value } = await atMount(options, (client) => client.call(EXPORT, null, { signal: options.signal }));
  return value;
}

/** Calls the MOUNT program wherever it is: on the port given for it, on that of NFS, or on the one the port mapper names. */
async function atMount<T>(
  options: Omit<Nfs3Options, 'path'>,
  work: (client: RpcClient) => Promise<T>,
): Promise<{ value: T; port: number }> {
  const { signal } = options;
  const on = async (port: number) => ({ value: await withClient(rpcOptions(options, port), signal, work), port });
  if (options.mountPort !== undefined) return on(options.mountPort);
  if (options.port !== undefined) {
    try {
      return await on(options.port);
    } catch (error) {
      if (!(error instanceof RemoteError && error.code === 'EOPNOTSUPP' && error.status === 0)) throw error;
    }
  }
  return on(await lookupPort(rpcOptions(options, PORTMAP_PORT), MOUNT_PROGRAM, MOUNT_VERSION, signal));
}

async function askInfo(rpc: RpcPool, root: Handle, signal: AbortSignal | undefined): Promise<ServerInfo> {
  const [fsinfo, pathconf] = await Promise.all([
    rpc.call(FSINFO, root, { signal }),
    rpc.call(PATHCONF, root, { signal }),
  ]);
  return {
    version: '3',
    maxRead: ioSize(fsinfo.readMax),
    maxWrite: ioSize(fsinfo.writeMax),
    preferredReaddir: Math.max(fsinfo.readdirPreferred || 0, READDIR_BYTES),
    maxFileSize: fsinfo.maxFileSize,
    maxName: pathconf.nameMax,
    maxLinks: pathconf.linkMax,
    caseInsensitive: pathconf.caseInsensitive,
    maxBatch: 1,
  };
}

function ioSize(most: number): number {
  return Math.max(LEAST_IO, Math.min(MOST_IO, most));
}
