/**
 * INFO: what the server says of itself, by section, in redis's form.
 * Pure: the engine's own counters, and the facts of the process that the server passes in.
 */
import { type CommandContext, type CommandSpec, FLAG } from '../command.ts';
import type { Engine } from '../engine.ts';
import { family, NO_KEYS } from './declare.ts';
import { REDIS_VERSION } from './version.ts';

type Lines = Record<string, string | number>;

/** Bytes for people, as redis writes them: `1.50M`. */
function human(bytes: number): string {
  if (bytes < 1024) return `${bytes}B`;
  let amount = bytes;
  let unit = '';
  for (const next of ['K', 'M', 'G', 'T']) {
    if (amount < 1024) break;
    amount /= 1024;
    unit = next;
  }
  return `${amount.toFixed(2)}${unit}`;
}

function uptime(engine: Engine): number {
  return Math.max(0, Math.floor((engine.store.now - engine.startedAt) / 1000));
}

const sections: Record<string, (engine: Engine) => Lines> = {
  server: (engine) => ({
    redis_version: REDIS_VERSION,
    redis_mode: 'standalone',
    server_name: 'isthmus',
    arch_bits: 64,
    uptime_in_seconds: uptime(engine),
    uptime_in_days: Math.floor(uptime(engine) / 86400),
    hz: 10,
    lru_clock: engine.store.lruClock,
  }),
  clients: (engine) => ({
    connected_clients: engine.sessions.size,
    maxclients: engine.config.maxClients,
    blocked_clients: 0,
    tracking_clients: 0,
  }),
  memory: (engine) => {
    const { arena } = engine.store;
    const used = engine.store.memory();
    const { maxmemory, policy } = engine.config;
    return {
      used_memory: used,
      used_memory_human: human(used),
      used_memory_dataset: used,
      arena_used: arena.used,
      arena_committed: arena.committed,
      maxmemory,
      maxmemory_human: human(maxmemory),
      maxmemory_policy: policy,
      mem_allocator: 'tlsf',
    };
  },
  persistence: (engine) => ({
    loading: 0,
    rdb_changes_since_last_save: engine.dirty,
    rdb_bgsave_in_progress: 0,
    aof_enabled: 0,
  }),
  stats: (engine) => ({
    total_connections_received: engine.sessionsCreated,
    total_commands_processed: engine.commandsProcessed,
    total_net_input_bytes: engine.inputBytes,
    expired_keys: engine.store.expiredKeys,
    evicted_keys: engine.store.evictedKeys,
    keyspace_hits: engine.store.hits,
    keyspace_misses: engine.store.misses,
    total_error_replies: engine.errorReplies,
    protocol_errors: engine.protocolErrors,
  }),
  replication: () => ({ role: 'master', connected_slaves: 0, master_repl_offset: 0 }),
  cpu: () => ({}),
  modules: () => ({}),
  commandstats: (engine) => {
    const lines: Lines = {};
    for (const command of engine.table.commands) {
      for (const { name, calls, rejected, failed } of [command, ...(command.subcommands?.values() ?? [])]) {
        // commands are counted, not timed
        if (calls + rejected > 0) {
          lines[`cmdstat_${name}`] =
            `calls=${calls},usec=0,usec_per_call=0.00,rejected_calls=${rejected},failed_calls=${failed}`;
        }
      }
    }
    return lines;
  },
  errorstats: () => ({}),
  cluster: () => ({ cluster_enabled: 0 }),
  keyspace: (engine) => {
    const lines: Lines = {};
    for (const { id, count, expiry } of engine.store.keyspaces) {
      if (count > 0) lines[`db${id}`] = `keys=${count},expires=${expiry.count},avg_ttl=0`;
    }
    return lines;
  },
};

/** Stands for every section that only the server's facts have. */
const OWN = '*';
const DEFAULT = [...Object.keys(sections).filter((name) => name !== 'commandstats'), OWN];

/** The text of INFO for some sections, in redis's order. */
export function infoText(engine: Engine, names: ReadonlySet<string>): string {
  const facts = engine.options.facts?.() ?? {};
  const parts: string[] = [];
  const own = Object.keys(facts).filter((name) => !Object.hasOwn(sections, name));
  const every = [...Object.entries(sections), ...own.map((name) => [name, () => ({})] as const)];
  for (const [name, lines] of every) {
    if (!names.has(name) && !(names.has(OWN) && own.includes(name))) continue;
    const title = name === 'cpu' ? 'CPU' : name[0]!.toUpperCase() + name.slice(1);
    const all = Object.entries({ ...lines(engine), ...facts[name] });
    parts.push(`# ${title}\r\n${all.map(([key, value]) => `${key}:${value}\r\n`).join('')}`);
  }
  return parts.join('\r\n');
}

function info(c: CommandContext): void {
  const names = new Set<string>();
  for (let i = 1; i < c.argc; i++) {
    const name = c.text(i).toLowerCase();
    if (name === 'all' || name === 'everything') for (const each of [...Object.keys(sections), OWN]) names.add(each);
    else if (name === 'default') for (const each of DEFAULT) names.add(each);
    else names.add(name);
  }
  if (c.argc === 1) for (const each of DEFAULT) names.add(each);
  c.reply.verbatim(infoText(c.engine, names));
}

const command = family('server');

export const infoCommands: readonly CommandSpec[] = [
  command('info', -1, FLAG.LOADING | FLAG.STALE, NO_KEYS, info, 'Returns information and statistics about the server.'),
];
