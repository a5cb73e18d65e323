/**
 * The commands by name. Each is imported only when it is asked for, so that `isthmus` starts fast.
 * It touches nothing else.
 */
import type { Command } from './command.ts';

export interface CommandEntry {
  readonly name: string;
  /** The command's own summary; repeated here so that the list needs no import of all of them. */
  readonly summary: string;
  load(): Promise<Command>;
}

export const commands: readonly CommandEntry[] = [
  {
    name: 'run',
    summary: 'Runs a program file on a kernel of its own.',
    load: async () => (await import('./commands/run.ts')).run,
  },
  {
    name: 'kv',
    summary: 'A key-value server in memory that speaks the Redis protocol.',
    load: async () => (await import('./commands/apps.ts')).appCommand('kv'),
  },
  {
    name: 'echo',
    summary: 'Sends back what it receives, over TCP and UDP.',
    load: async () => (await import('./commands/apps.ts')).appCommand('echo'),
  },
  {
    name: 'relay',
    summary: 'Passes UDP datagrams on to a partner, and its answers back to each client.',
    load: async () => (await import('./commands/apps.ts')).appCommand('relay'),
  },
  {
    name: 'load',
    summary: 'Generates load on a server and measures throughput and latency.',
    load: async () => (await import('./commands/load.ts')).load,
  },
  {
    name: 'mount',
    summary: 'Shows the tree of a file server (NFSv3, NFSv4.1) as a directory.',
    load: async () => (await import('./commands/mount.ts')).mount,
  },
  {
    name: 'unmount',
    summary: 'Takes away what isthmus mount shows.',
    load: async () => (await import('./commands/unmount.ts')).unmount,
  },
  {
    name: 'speculate',
    summary: 'Runs a command on a remote tree ahead of the server’s answers.',
    load: async () => (await import('./commands/speculate.ts')).speculate,
  },
  {
    name: 'nfs',
    summary: 'Lists, shows and copies files of a file server, without a mount.',
    load: async () => (await import('./commands/nfs.ts')).nfs,
  },
  {
    name: 'lab',
    summary: 'Two hosts on this machine: network namespaces joined by a veth pair.',
    load: async () => (await import('./commands/lab.ts')).lab,
  },
  {
    name: 'doctor',
    summary: 'Shows what this machine allows, what each datapath needs, and which will be used.',
    load: async () => (await import('./commands/doctor.ts')).doctor,
  },
  {
    name: 'bench',
    summary: 'Compares Isthmus with its peers, measured on this machine.',
    load: async () => (await import('./commands/bench.ts')).bench,
  },
];
