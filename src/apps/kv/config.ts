/**
 * The parameters that CONFIG GET and SET know: the ones the engine obeys, and fixed ones that clients ask for.
 * Pure; the server may define more (its port, its address) before it starts.
 */
import type { RequestLimits } from './resp/request.ts';

export const POLICIES = [
  'volatile-lru',
  'volatile-lfu',
  'volatile-random',
  'volatile-ttl',
  'allkeys-lru',
  'allkeys-lfu',
  'allkeys-random',
  'noeviction',
] as const;
export type Policy = (typeof POLICIES)[number];

/** A parameter: how it is read, and how it is set (gives the reason of a refusal, or null). Without `set` it is fixed. */
export interface Parameter {
  get(): string;
  set?(value: string): string | null;
}

const UNITS: Readonly<Record<string, number>> = {
  '': 1,
  b: 1,
  k: 1000,
  kb: 1024,
  m: 1e6,
  mb: 1048576,
  g: 1e9,
  gb: 1073741824,
};

/** Bytes from `100mb`, `1g`, `4096` (redis: memtoull); NaN if it is no amount of memory. */
export function parseMemory(text: string): number {
  const match = /^([0-9]+)([a-z]*)$/i.exec(text);
  const unit = match === null ? undefined : UNITS[match[2]!.toLowerCase()];
  return unit === undefined ? Number.NaN : Number(match![1]) * unit;
}

/** Parameters with fixed answers: what is true of this server, under redis's names. */
const FIXED: Readonly<Record<string, string>> = {
  appendonly: 'no',
  appendfsync: 'everysec',
  save: '',
  databases: '16',
  'cluster-enabled': 'no',
  requirepass: '',
  'notify-keyspace-events': '',
  'lazyfree-lazy-eviction': 'yes',
  'lazyfree-lazy-expire': 'yes',
  'lazyfree-lazy-user-flush': 'yes',
  'list-max-listpack-size': '-2',
  'list-compress-depth': '0',
  'hash-max-listpack-entries': '128',
  'hash-max-listpack-value': '64',
  'set-max-intset-entries': '512',
  'zset-max-listpack-entries': '128',
  'zset-max-listpack-value': '64',
};

export class Config implements RequestLimits {
  maxmemory = 0;
  policy: Policy = 'noeviction';
  samples = 5;
  lfuLogFactor = 10;
  lfuDecayMinutes = 1;
  bulkMax = 512 * 1048576;
  requestMax = 1024 * 1048576;
  /** Seconds after which the server closes idle clients; 0 never. */
  timeout = 0;
  maxClients = 10000;
  /** Bytes of replies a client may leave unread before the server closes it; 0 is no limit of its own. */
  outputMax = 256 * 1048576;
  readonly parameters = new Map<string, Parameter>();
  /** Called after a parameter was set. */
  onChange: () => void = () => {};

  constructor() {
    this.#memory('maxmemory', 'maxmemory', 0);
    this.define('maxmemory-policy', {
      get: () => this.policy,
      set: (value) => {
        const policy = POLICIES.find((name) => name === value.toLowerCase());
        if (policy === undefined) return `argument(s) must be one of the following: ${POLICIES.join(', ')}`;
        this.policy = policy;
        return null;
      },
    });
    this.#integer('maxmemory-samples', 'samples', 1, 2147483647);
    this.#integer('lfu-log-factor', 'lfuLogFactor', 0, 2147483647);
    this.#integer('lfu-decay-time', 'lfuDecayMinutes', 0, 2147483647);
    this.#memory('proto-max-bulk-len', 'bulkMax', 1048576);
    this.#memory('client-query-buffer-limit', 'requestMax', 1048576);
    this.#integer('timeout', 'timeout', 0, 2147483647);
    this.#integer('maxclients', 'maxClients', 1, 4294967295);
    this.define('client-output-buffer-limit', {
      get: () => `normal ${this.outputMax} 0 0`,
      set: (value) => {
        const words = value.toLowerCase().split(' ');
        const limit = parseMemory(words[1] ?? '');
        if (words.length !== 4 || words[0] !== 'normal' || Number.isNaN(limit)) {
          return 'Invalid argument: only `normal <hard limit> <soft limit> <seconds>` is known, and only the hard limit is used';
        }
        this.outputMax = limit;
        return null;
      },
    });
    for (const [name, value] of Object.entries(FIXED)) this.define(name, { get: () => value });
  }

  /** Add or replace a parameter. */
  define(name: string, parameter: Parameter): void {
    this.parameters.set(name, parameter);
  }

  /** Set a parameter; gives the reason of a refusal, or null. The name is known. */
  set(name: string, value: string): string | null {
    const parameter = this.parameters.get(name)!;
    if (parameter.set === undefined) return "can't set immutable config";
    return parameter.set(value);
  }

  #integer(
    name: string,
    field: 'samples' | 'lfuLogFactor' | 'lfuDecayMinutes' | 'timeout' | 'maxClients',
    low: number,
    high: number,
  ) {
    this.define(name, {
      get: () => String(this[field]),
      set: (text) => {
        const value = /^-?[0-9]{1,15}$/.test(text) ? Number(text) : Number.NaN;
        if (Number.isNaN(value)) return "argument couldn't be parsed into an integer";
        if (value < low || value > high) return `argument must be between ${low} and ${high} inclusive`;
        this[field] = value;
        return null;
      },
    });
  }

  #memory(name: string, field: 'maxmemory' | 'bulkMax' | 'requestMax', low: number): void {
    this.define(name, {
      get: () => String(this[field]),
      set: (text) => {
        const value = parseMemory(text);
        if (!Number.isSafeInteger(value)) return 'argument must be a memory value';
        if (value < low) return `argument must be between ${low} and 9223372036854775807 inclusive`;
        this[field] = value;
        return null;
      },
    });
  }
}
