/**
 * Where the interoperability tests run: a kernel over our own TCP/IP on one side of a link, and a process with kernel
 * sockets on the other, in a namespace that nobody else sees. All of it goes with the test's process.
 */
import { type ChildProcess, execFile, fork, spawn } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { openMiddleware } from '../../src/datapath/middleware.ts';
import { parseSpec } from '../../src/datapath/spec.ts';
import type { StackDatapath } from '../../src/datapath/stack.ts';
import { openTap } from '../../src/datapath/tap.ts';
import { openXdp } from '../../src/datapath/xdp.ts';
import { Host, type HostPolicy, OWN_CORE } from '../../src/kernel/host.ts';
import { Kernel } from '../../src/kernel/kernel.ts';
import { createLab } from '../../src/linux/lab.ts';
import { createNamespace, type NetworkNamespace } from '../../src/linux/namespace.ts';
import { labRefusal } from '../linux/lab-support.ts';
import type { PeerCall, PeerReply } from './exchange.ts';

/** `xdp`: the host's own address, shared; `xdp-own`: an address of its own. */
export const LINKS = ['xdp', 'xdp-own', 'tap'] as const;
export type LinkKind = (typeof LINKS)[number];

export interface GroundOptions {
  readonly link: LinkKind;
  /** Middleware as in `--datapath`: `faults=loss:0.01,seed:7`, `pcap=FILE`. */
  readonly middleware?: string;
  readonly policy?: HostPolicy;
}

/** Why there can be no such link here; empty where there can. */
export function refusalOf(link: LinkKind): string {
  if (link !== 'tap') return labRefusal();
  try {
    const namespace = createNamespace();
    try {
      namespace.run(() => openTap('t0,10.9.0.2/24')).dispose();
    } finally {
      namespace.close();
    }
    return '';
  } catch (error) {
    return (error as Error).message;
  }
}

const COMMAND_TIMEOUT_MS = 30_000;

/** The peer's process: a call and its answer. */
export class Peer {
  readonly #child: ChildProcess;
  readonly #waiting = new Map<number, { resolve: (value: number | string) => void; reject: (error: Error) => void }>();
  #calls = 0;

  constructor(namespace: NetworkNamespace) {
    const program = fileURLToPath(new URL('./peer.js', import.meta.url));
    this.#child = namespace.run(() => fork(program, { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] }));
    this.#child.on('message', (message) => this.#answered(message as PeerReply));
    this.#child.on('exit', () => this.#failAll(new Error('the peer has ended')));
  }

  #answered({ id, value, error }: PeerReply): void {
    if (id < 0) {
      this.#failAll(new Error(`peer: ${error}`));
      return;
    }
    const call = this.#waiting.get(id);
    this.#waiting.delete(id);
    if (error === undefined) call?.resolve(value!);
    else call?.reject(new Error(`peer: ${error}`));
  }

  #failAll(error: Error): void {
    for (const { reject } of this.#waiting.values()) reject(error);
    this.#waiting.clear();
  }

  call(call: PeerCall): Promise<number | string> {
    const id = this.#calls++;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      this.#child.send({ ...call, id });
    });
  }

  async number(call: PeerCall): Promise<number> {
    return Number(await this.call(call));
  }

  close(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return Promise.resolve();
    return new Promise((resolve) => {
      this.#child.once('exit', () => resolve());
      this.#child.disconnect();
    });
  }
}

export class Ground {
  readonly k: Kernel;
  readonly datapath: StackDatapath;
  readonly peer: Peer;
  /** Addresses of our side, as the peer reaches them, and of the peer: IPv4, then IPv6. */
  readonly ours: readonly [string, string];
  readonly theirs: readonly [string, string];
  readonly errors: Error[] = [];
  /** Buffers in use before anything was done. */
  readonly atRest: number;
  readonly #host: Host;
  readonly #namespace: NetworkNamespace;
  readonly #children = new Set<ChildProcess>();
  readonly #closers: (() => void)[];

  constructor(options: GroundOptions) {
    const made = options.link === 'tap' ? onTap(options) : onXdp(options);
    this.datapath = made.datapath;
    this.ours = made.ours;
    this.theirs = made.theirs;
    this.#namespace = made.peer;
    this.#closers = made.closers;
    roomForClients(made.peer);
    this.k = new Kernel(made.datapath, { onUncaught: (error) => this.errors.push(error) });
    this.atRest = this.held;
    this.peer = new Peer(made.peer);
    this.#host = new Host(this.k, options.policy ?? OWN_CORE).start();
  }

  /** Buffers in use, but for frames that the link has given to the kernel to receive into. */
  get held(): number {
    return this.k.heap.inUse - (this.datapath.observe()['link.receiving'] ?? 0);
  }

  /** Runs a program beside the peer, and gives what it prints. Rejects with what it complains of. */
  command(name: string, ...args: readonly string[]): Promise<string> {
    return new Promise((resolve, reject) => {
      const ended = (error: Error | null, out: string, complaint: string): void => {
        if (error === null) resolve(out);
        else reject(new Error(`${name} ${args.join(' ')}: ${complaint || out || error.message}`, { cause: error }));
      };
      this.#namespace.run(() => execFile(name, args, { timeout: COMMAND_TIMEOUT_MS }, ended));
    });
  }

  /** Starts a program beside the peer that serves until `close`; resolves when it says that it is ready. */
  serve(ready: RegExp, name: string, ...args: readonly string[]): Promise<void> {
    const child = this.#namespace.run(() => spawn(name, args, { stdio: ['ignore', 'pipe', 'ignore'] }));
    this.#children.add(child);
    let said = '';
    return new Promise((resolve, reject) => {
      child.stdout.setEncoding('utf8').on('data', (text: string) => {
        said += text;
        if (ready.test(said)) resolve();
      });
      child.once('error', reject);
      child.once('close', () => reject(new Error(`${name} ${args.join(' ')} has ended: ${said}`)));
    });
  }

  async close(): Promise<void> {
    for (const child of this.#children) child.kill('SIGKILL');
    try {
      await this.#host.close();
    } finally {
      await this.peer.close();
      for (const close of this.#closers) close();
    }
  }
}

/** Ports for more connections than one after the other close: those in TIME_WAIT are used again after a second. */
function roomForClients(namespace: NetworkNamespace): void {
  namespace.run(() => {
    writeFileSync('/proc/sys/net/ipv4/ip_local_port_range', '2000 65000');
    writeFileSync('/proc/sys/net/ipv4/tcp_tw_reuse', '1');
  });
}

interface Made {
  readonly datapath: StackDatapath;
  readonly peer: NetworkNamespace;
  readonly ours: readonly [string, string];
  readonly theirs: readonly [string, string];
  readonly closers: (() => void)[];
}

function between(middleware: string | undefined): { middleware?: ReturnType<typeof openMiddleware> } {
  const spec = middleware === undefined ? null : parseSpec(`tap:none,${middleware}`).middleware;
  return spec === null ? {} : { middleware: openMiddleware(spec) };
}

function onTap({ middleware }: GroundOptions): Made {
  const namespace = createNamespace();
  const spec = 't0,10.9.0.2/24,fd09::2/64,host=10.9.0.1/24,host=fd09::1/64';
  const datapath = namespace.run(() => openTap(spec, between(middleware)));
  return {
    datapath,
    peer: namespace,
    ours: ['10.9.0.2', 'fd09::2'],
    theirs: ['10.9.0.1', 'fd09::1'],
    closers: [() => namespace.close()],
  };
}

function onXdp({ link, middleware }: GroundOptions): Made {
  const lab = createLab();
  const { server, client } = lab;
  const own = link === 'xdp-own' ? `,own=${server.free4}/24,own=${server.free6}/64` : '';
  const { namespace, interfaceName } = server;
  const datapath = namespace.run(() => openXdp(`${interfaceName}${own}`, { namespace, ...between(middleware) }));
  return {
    datapath,
    peer: client.namespace,
    ours: link === 'xdp' ? [server.address4, server.address6] : [server.free4, server.free6],
    theirs: [client.address4, client.address6],
    closers: [() => lab.close()],
  };
}
