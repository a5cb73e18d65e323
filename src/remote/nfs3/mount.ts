/**
 * The MOUNT protocol, version 3 (RFC 1813 appendix I), and the port mapper, version 2 (RFC 1833 section 3): from a path to the
 * handle of its root. It may touch the network through the RPC client.
 */
import { ERRNO, systemError } from '../../errors.ts';
import { protocolError, RemoteError } from '../remote-error.ts';
import { RpcClient, type RpcOptions } from '../rpc/client.ts';
import type { Procedure } from '../rpc/message.ts';
import type { Handle } from '../server.ts';
import type { XdrReader, XdrWriter } from '../xdr.ts';
import { PATH_LIMIT, readHandle } from './types.ts';

export const MOUNT_PROGRAM = 100005;
export const MOUNT_VERSION = 3;
const PORTMAP_PROGRAM = 100000;
const PORTMAP_VERSION = 2;
export const PORTMAP_PORT = 111;
const PROTOCOL_TCP = 6;
const AUTH_SYS = 1;
const NAME_LIMIT = 255;

/** mountstat3 (RFC 1813 appendix I, section 5.1.5). */
const MOUNT_STATUS: Readonly<Record<number, keyof typeof ERRNO>> = {
  1: 'EPERM',
  2: 'ENOENT',
  5: 'EIO',
  13: 'EACCES',
  20: 'ENOTDIR',
  22: 'EINVAL',
  63: 'ENAMETOOLONG',
  10004: 'EOPNOTSUPP',
  10006: 'EIO',
};

function mountProcedure<Args, Result>(
  name: string,
  number: number,
  encode: (writer: XdrWriter, args: Args) => void,
  decode: (reader: XdrReader) => Result,
): Procedure<Args, Result> {
  return { name, number, program: MOUNT_PROGRAM, version: MOUNT_VERSION, idempotent: true, encode, decode };
}

const nothing = (): void => {};

/** Who has mounted what. */
export interface MountEntry {
  readonly host: string;
  readonly path: string;
}

/** What may be mounted, and by whom (empty: everybody). */
export interface ExportEntry {
  readonly path: string;
  readonly groups: readonly string[];
}

export const MOUNT_NULL = mountProcedure<null, void>('MOUNT NULL', 0, nothing, nothing);

export const MNT = mountProcedure<string, Handle>(
  'MNT',
  1,
  (writer, path) => writer.string(path),
  (reader) => {
    const status = reader.u32();
    if (status !== 0) {
      const code = MOUNT_STATUS[status] ?? 'EIO';
      const { message, errno } = systemError(ERRNO[code], 'MNT');
      throw new RemoteError(message, { code, errno, procedure: 'MNT', status });
    }
    const handle = readHandle(reader);
    const flavours: number[] = [];
    for (let left = reader.count(4, 64); left > 0; left--) flavours.push(reader.u32());
    if (flavours.length > 0 && !flavours.includes(AUTH_SYS) && !flavours.includes(0)) {
      const details = { code: 'EACCES', errno: -ERRNO.EACCES, procedure: 'MNT', status: 13 };
      throw new RemoteError('EACCES: the export wants another authentication than AUTH_SYS, MNT', details);
    }
    return handle;
  },
);

export const DUMP = mountProcedure<null, MountEntry[]>('DUMP', 2, nothing, (reader) =>
  readList(reader, () => ({ host: reader.string(NAME_LIMIT), path: reader.string(PATH_LIMIT) })),
);

export const UMNT = mountProcedure<string, void>('UMNT', 3, (writer, path) => writer.string(path), nothing);

export const UMNTALL = mountProcedure<null, void>('UMNTALL', 4, nothing, nothing);

export const EXPORT = mountProcedure<null, ExportEntry[]>('EXPORT', 5, nothing, (reader) =>
  readList(reader, () => ({
    path: reader.string(PATH_LIMIT),
    groups: readList(reader, () => reader.string(NAME_LIMIT)),
  })),
);

function readList<T>(reader: XdrReader, element: () => T): T[] {
  const list: T[] = [];
  while (reader.bool()) list.push(element());
  return list;
}

const GETPORT: Procedure<{ program: number; version: number }, number> = {
  name: 'GETPORT',
  number: 3,
  program: PORTMAP_PROGRAM,
  version: PORTMAP_VERSION,
  idempotent: true,
  encode(writer, { program, version }) {
    writer.halves(program, version);
    writer.halves(PROTOCOL_TCP, 0);
  },
  decode(reader) {
    const port = reader.u32();
    if (port > 65_535) throw protocolError('GETPORT', `${port} is not a port`);
    return port;
  },
};

/** Asks the port mapper of the host where a program listens. ECONNREFUSED when the program is not registered. */
export async function lookupPort(
  options: RpcOptions,
  program: number,
  version: number,
  signal?: AbortSignal,
): Promise<number> {
  const port = await withClient(options, signal, (client) => client.call(GETPORT, { program, version }, { signal }));
  if (port !== 0) return port;
  throw systemError(
    ERRNO.ECONNREFUSED,
    'GETPORT',
    options.host,
    `program ${program} version ${version} not registered`,
  );
}

/** Connects, does one thing and closes. */
export async function withClient<T>(
  options: RpcOptions,
  signal: AbortSignal | undefined,
  work: (client: RpcClient) => Promise<T>,
): Promise<T> {
  const client = await RpcClient.connect(options, signal);
  try {
    return await work(client);
  } finally {
    await client.close();
  }
}
