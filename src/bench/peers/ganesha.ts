/**
 * A real NFS server: nfs-ganesha 4 (Debian: nfs-ganesha, nfs-ganesha-vfs) on random ports of loopback, NFSv3 and v4.1.
 * Needs root. It lives in a directory of its own and in a mount namespace of its own, and dies with this process, even a killed one.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { startFakeRpcbind } from './rpcbind.ts';

const READY = 'NFS SERVER INITIALIZED';
const READY_MS = 30_000;
const STOP_MS = 10_000;
const CLOCK_TICK_MS = 20;
const OVERLAYFS = 0x794c7630;
const PSEUDO_PATH = '/export';

export interface GaneshaOptions {
  /** Export a tmpfs of this size (`8m`) instead of a directory: for full disks. It is lost at `kill`. */
  readonly tmpfs?: string;
  /** Seconds the server may believe its own attribute cache; 0 (the default) sees changes made behind its back at once. */
  readonly attributeSeconds?: number;
  /** `RPC_Ioq_ThrdMax`; default 4, which doubles what pipelined requests get. */
  readonly ioThreads?: number;
  /** Root on the client is nobody on the server. */
  readonly rootSquash?: boolean;
  readonly readOnly?: boolean;
  /** Lines for NFS_CORE_PARAM and NFSV4, e.g. `Lease_Lifetime = 5;`. */
  readonly extraCore?: string;
  readonly extraV4?: string;
}

/** Why there can be no server here, or null. */
export function ganeshaMissing(): string | null {
  if (spawnSync('sh', ['-c', 'command -v ganesha.nfsd'], { stdio: 'ignore' }).status !== 0)
    return 'nfs-ganesha is not installed (apt: nfs-ganesha nfs-ganesha-vfs)';
  if (process.getuid?.() !== 0) return 'nfs-ganesha wants root';
  return null;
}

export class Ganesha {
  readonly port: number;
  readonly mountPort: number;
  readonly directory: string;
  readonly #options: GaneshaOptions;
  readonly #rpcbind: Server;
  #child: ChildProcess | null = null;
  #readySecond = 0;

  private constructor(directory: string, ports: readonly [number, number], rpcbind: Server, options: GaneshaOptions) {
    this.directory = directory;
    [this.port, this.mountPort] = ports;
    this.#rpcbind = rpcbind;
    this.#options = options;
  }

  static async start(options: GaneshaOptions = {}): Promise<Ganesha> {
    const directory = mkdtempSync(join(baseDirectory(), 'isthmus-ganesha-'));
    for (const name of ['run', 'recovery', 'export']) mkdirSync(join(directory, name));
    const rpcbind = await startFakeRpcbind(join(directory, 'run', 'rpcbind.sock'));
    const server = new Ganesha(directory, await freePorts(), rpcbind, options);
    try {
      await server.restart();
    } catch (error) {
      await server.stop();
      throw error;
    }
    return server;
  }

  get pid(): number {
    return this.#child?.pid ?? 0;
  }

  /** The exported directory, seen from this process (a tmpfs only while the server runs). */
  get exportDir(): string {
    const path = join(this.directory, 'export');
    return this.#options.tmpfs === undefined ? path : join(`/proc/${this.pid}/root`, path);
  }

  /** `nfs://127.0.0.1:PORT/export?version=…`; `port` may be that of a delay line, which v4.1 passes through, MOUNT not. */
  url(version: '3' | '4.1' = '3', port: number = this.port): string {
    return `nfs://127.0.0.1:${port}${PSEUDO_PATH}?version=${version}&mountport=${this.mountPort}&uid=0&gid=0`;
  }

  log(): string {
    return readFileSync(join(this.directory, 'log'), 'utf8');
  }

  /** SIGKILL, as a crash. */
  async kill(): Promise<void> {
    await this.#end('SIGKILL');
  }

  /** Starts it (again) on the same ports and files, not within the second in which it was last ready: its write verifier is a time in seconds. */
  async restart(): Promise<void> {
    await this.#end('SIGKILL');
    // It takes the time from a clock that may be a tick behind.
    while (Date.now() < (this.#readySecond + 1) * 1000 + CLOCK_TICK_MS) await sleep(5);
    writeFileSync(join(this.directory, 'conf'), this.#configuration());
    writeFileSync(join(this.directory, 'log'), '');
    const child = spawn('unshare', ['--mount', 'sh', '-c', this.#script()], { stdio: 'ignore' });
    this.#child = child;
    for (const end = performance.now() + READY_MS; ; await sleep(5)) {
      if (this.log().includes(READY)) {
        this.#readySecond = Math.floor(Date.now() / 1000);
        return;
      }
      if (child.exitCode !== null || child.signalCode !== null || performance.now() > end) break;
    }
    throw new Error(`nfs-ganesha did not start:\n${this.log().slice(-4000)}`);
  }

  /** Freezes it: it neither answers nor closes connections. */
  pause(): void {
    this.#child?.kill('SIGSTOP');
  }

  resume(): void {
    this.#child?.kill('SIGCONT');
  }

  /** Ends it and removes its directory. */
  async stop(): Promise<void> {
    await this.#end('SIGKILL');
    await new Promise((resolve) => this.#rpcbind.close(resolve));
    rmSync(this.directory, { recursive: true, force: true });
  }

  /** Ends it the friendly way, which takes it a second or two. */
  async terminate(): Promise<void> {
    await this.#end('SIGTERM');
  }

  async #end(signal: 'SIGTERM' | 'SIGKILL'): Promise<void> {
    const child = this.#child;
    if (child === null || child.exitCode !== null || child.signalCode !== null) return;
    const exit = once(child, 'exit');
    child.kill(signal);
    const timer = setTimeout(() => child.kill('SIGKILL'), STOP_MS);
    await exit;
    clearTimeout(timer);
    this.#child = null;
  }

  /** One process from here to the server, so that its pid is the child's; the kernel kills it when this process dies. */
  #script(): string {
    const at = (name: string) => `'${join(this.directory, name)}'`;
    const tmpfs = this.#options.tmpfs;
    return [
      'set -e',
      ...(tmpfs === undefined ? [] : [`mount -t tmpfs -o size=${tmpfs} isthmus-export ${at('export')}`]),
      `mount --bind ${at('run')} /run`,
      `exec setpriv --pdeathsig KILL ganesha.nfsd -F -f ${at('conf')} -p ${at('pid')} -L ${at('log')}`,
    ].join('\n');
  }

  #configuration(): string {
    const { attributeSeconds = 0, ioThreads = 4, rootSquash, readOnly, extraCore = '', extraV4 = '' } = this.#options;
    return `
NFS_CORE_PARAM {
  Bind_addr = 127.0.0.1; NFS_Port = ${this.port}; MNT_Port = ${this.mountPort};
  NFS_Protocols = 3,4; Enable_NLM = false; Enable_RQUOTA = false; Enable_UDP = false;
  mount_path_pseudo = true; RPC_Ioq_ThrdMax = ${ioThreads}; ${extraCore}
}
NFS_KRB5 { Active_krb5 = false; }
NFSV4 { Graceless = true; RecoveryRoot = ${this.directory}/recovery; Only_Numeric_Owners = true; Delegations = true; ${extraV4} }
EXPORT_DEFAULTS { Attr_Expiration_Time = ${attributeSeconds}; }
EXPORT {
  Export_Id = 1; Path = ${this.directory}/export; Pseudo = ${PSEUDO_PATH};
  Protocols = 3,4; Transports = TCP; SecType = sys;
  Access_Type = ${readOnly ? 'RO' : 'RW'}; Squash = ${rootSquash ? 'Root_Squash' : 'No_Root_Squash'}; Delegations = RW;
  MaxRead = 1048576; MaxWrite = 1048576; PrefRead = 1048576; PrefWrite = 1048576;
  FSAL { Name = VFS; }
}
LOG { Default_Log_Level = EVENT; }
`;
  }
}

/** Where files have handles: not on an overlay. */
function baseDirectory(): string {
  return statfsSync(tmpdir()).type === OVERLAYFS ? '/dev/shm' : tmpdir();
}

/** Two ports free a moment ago. */
async function freePorts(): Promise<readonly [number, number]> {
  const servers = [createServer(), createServer()];
  const ports = await Promise.all(
    servers.map(async (server) => {
      await once(server.listen(0, '127.0.0.1'), 'listening');
      return (server.address() as { port: number }).port;
    }),
  );
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return [ports[0] as number, ports[1] as number];
}
