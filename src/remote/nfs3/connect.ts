/**
 * From an address and a path to a mounted NFSv3 export: ports, MOUNT, FSINFO and PATHCONF.
 * It may touch the network through the RPC client.
 */
import { RemoteError } from '../remote-error.ts';
import type { RpcOptions } from '../rpc/options.ts';
import { RpcPool } from '../rpc/pool.ts';
import type { Credential, Handle, ServerInfo } from '../server.ts';
import { lookupPort, MNT, MOUNT_PROGRAM, PORTMAP_PORT, UMNT, withClient } from './mount.ts';
import { FSINFO, NFS_PROGRAM, PATHCONF } from './procedures.ts';
import { Nfs3Server } from './server.ts';

const VERSION = 3;
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
  const port = options.port ?? (await lookupPort(rpcOptions(options, PORTMAP_PORT), NFS_PROGRAM, VERSION, signal));
  const { root, mountPort } = await mount(options, port);
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

function rpcOptions(options: Nfs3Options, port: number): RpcOptions {
  const { host, credential, timeoutMs, stallMs, connectTimeoutMs, maxOutstanding, busyPollUs } = options;
  return { host, port, credential, timeoutMs, stallMs, connectTimeoutMs, maxOutstanding, busyPollUs };
}

async function mount(options: Nfs3Options, nfsPort: number): Promise<{ root: Handle; mountPort: number }> {
  const { signal, path } = options;
  const on = async (mountPort: number) => {
    const root = await withClient(rpcOptions(options, mountPort), signal, (client) =>
      client.call(MNT, path, { signal }),
    );
    return { root, mountPort };
  };
  if (options.mountPort !== undefined) return on(options.mountPort);
  if (options.port !== undefined) {
    try {
      return await on(nfsPort);
    } catch (error) {
      if (!(error instanceof RemoteError && error.code === 'EOPNOTSUPP' && error.status === 0)) throw error;
    }
  }
  return on(await lookupPort(rpcOptions(options, PORTMAP_PORT), MOUNT_PROGRAM, VERSION, signal));
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
