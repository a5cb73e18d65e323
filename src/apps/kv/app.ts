/**
 * `isthmus kv`: the options of the key-value server, in redis's names, and the coroutine that sets it up from them.
 * It touches the kernel it is given and, for a Unix socket, the file system.
 */
import { lstatSync, readFileSync, rmSync } from 'node:fs';
import { ERRNO, systemError } from '../../errors.ts';
import type { Coroutine, Kernel } from '../../index.ts';
import { defineApp, type Listening } from '../app.ts';
import { POLICIES } from './config.ts';
import { KvServer } from './server.ts';
import { DATABASES } from './store/store.ts';

/** Descriptors that the process needs for itself (redis keeps as many). */
const SPARE_DESCRIPTORS = 32;

/** Options that are parameters of CONFIG SET under the same name. */
const PARAMETERS = [
  'maxmemory',
  'maxmemory-policy',
  'maxclients',
  'timeout',
  'client-output-buffer-limit',
  'client-query-buffer-limit',
  'proto-max-bulk-len',
] as const;

export const kv = defineApp({
  name: 'kv',
  summary: 'A key-value server in memory that speaks the Redis protocol.',
  options: {
    port: {
      type: 'integer',
      value: 'PORT',
      default: 6379,
      min: 0,
      max: 65535,
      help: 'Port to listen on; 0 picks one.',
    },
    host: { type: 'string', value: 'ADDRESS', default: '127.0.0.1', help: 'Address to listen on.' },
    unixsocket: { type: 'string', value: 'PATH', help: 'A Unix stream socket to listen on as well.' },
    maxmemory: { type: 'bytes', value: 'BYTES', default: 0, min: 0, help: 'Bound of the data; 0 is none.' },
    'maxmemory-policy': {
      type: 'string',
      value: 'NAME',
      default: 'noeviction',
      choices: POLICIES,
      help: 'Which keys go when the bound is reached.',
    },
    databases: {
      type: 'integer',
      value: 'N',
      default: DATABASES,
      min: 1,
      max: 1024,
      help: 'Databases that SELECT can choose from.',
    },
    maxclients: { type: 'integer', value: 'N', default: 10000, min: 1, help: 'Most clients at once.' },
    timeout: { type: 'seconds', value: 'TIME', default: 0, min: 0, help: 'Closes clients idle for so long; 0 never.' },
    'tcp-keepalive': {
      type: 'integer',
      value: 'SECONDS',
      default: 300,
      min: 0,
      max: 32767,
      help: 'Asks a silent peer whether it is still there; 0 never.',
    },
    'client-output-buffer-limit': {
      type: 'string',
      value: "'normal HARD SOFT SECONDS'",
      default: 'normal 256mb 8mb 60',
      help: 'Unread replies that close a client, that stop reading from it, and how long it may then read nothing.',
    },
    'client-query-buffer-limit': {
      type: 'bytes',
      value: 'BYTES',
      default: 2 ** 30,
      min: 2 ** 20,
      help: 'Largest request.',
    },
    'proto-max-bulk-len': { type: 'bytes', value: 'BYTES', default: 2 ** 29, min: 2 ** 20, help: 'Largest argument.' },
  },
  *main(k, options, context) {
    if (context.cores > 1) throw systemError(ERRNO.EINVAL, 'kv', '--cores', 'its data lives on one core');
    const { host, unixsocket, databases } = options;
    const server = new KvServer(k, { databases });
    const { config } = server.engine;
    for (const name of PARAMETERS) {
      const reason = config.set(name, String(options[name]));
      if (reason !== null) throw systemError(ERRNO.EINVAL, 'kv', `--${name} ${options[name]}`, reason);
    }
    const keepAlive = options['tcp-keepalive'];
    const listening: Listening[] = [];
    const tcp = server.listen({ host, port: options.port, keepAlive });
    listening.push({ protocol: 'resp', address: tcp.address });
    try {
      if (unixsocket !== undefined) {
        yield* removeStaleSocket(k, unixsocket);
        listening.push({ protocol: 'resp', address: server.listen({ path: unixsocket }).address });
      }
      const port = 'port' in tcp.address ? tcp.address.port : 0;
      fix(server, { port, bind: host, unixsocket: unixsocket ?? '', databases, 'tcp-keepalive': keepAlive });
      const descriptors = descriptorLimit();
      if (descriptors < options.maxclients + SPARE_DESCRIPTORS)
        context.log(
          `${descriptors} descriptors (ulimit -n) are too few for ${options.maxclients} clients: some will wait`,
        );
      context.ready(listening);
      yield* server.run();
    } finally {
      server.close();
    }
  },
});

/** How many files this process may have open (getrlimit(2)). */
function descriptorLimit(): number {
  try {
    const limits = readFileSync('/proc/self/limits', 'utf8');
    return Number(/^Max open files +(\d+)/m.exec(limits)?.[1] ?? Number.POSITIVE_INFINITY);
  } catch {
    return Number.POSITIVE_INFINITY;
  }
}

/** Defines parameters for CONFIG GET that cannot be changed. */
function fix(server: KvServer, values: Readonly<Record<string, string | number>>): void {
  for (const [name, value] of Object.entries(values)) server.engine.config.define(name, { get: () => String(value) });
  server.facts = { server: { tcp_port: values.port!, databases: values.databases! } };
}

/** A socket file that nobody listens on any more would be in the way of bind(2). */
function* removeStaleSocket(k: Kernel, path: string): Coroutine {
  if (!lstatSync(path, { throwIfNoEntry: false })?.isSocket()) return;
  try {
    const other = yield* k.connect({ path });
    other.close();
  } catch (error) {
    if ((error as { code?: string }).code === 'ECONNREFUSED') rmSync(path, { force: true });
  }
}
