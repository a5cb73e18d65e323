/**
 * What a load is: whom it addresses, how it keeps messages coming, and when it ends.
 * Pure types, and the reading of a target as people write it.
 */

import type { Address } from '../../index.ts';
import { UsageError } from '../options.ts';

/** `tcp` and `udp` expect an echo; `resp` a Redis server; `connect` an echo, over a connection of its own for each message. */
export const PROTOCOLS = ['tcp', 'udp', 'resp', 'connect'] as const;
export type Protocol = (typeof PROTOCOLS)[number];

export const COMMANDS = ['get', 'set', 'mixed', 'ping'] as const;
export type RespCommand = (typeof COMMANDS)[number];

export interface LoadConfig {
  readonly protocol: Protocol;
  readonly address: Address;
  readonly connections: number;
  /** Messages sent together; in a closed loop the next are sent when all of them were answered. */
  readonly depth: number;
  /** Bytes of a message; for RESP, of a value. */
  readonly size: number;
  /** Messages per second of all connections (open loop), or undefined (closed loop). */
  readonly rate: number | undefined;
  readonly seconds: number;
  /** Ends after so many messages, if that is sooner. */
  readonly count: number | undefined;
  readonly warmup: number;
  /** Seconds without an answer after which a connection is given up (TCP) or messages are sent again (UDP). */
  readonly timeout: number;
  readonly verify: boolean;
  /** connect: each connection ends with a reset instead of a FIN. */
  readonly reset: boolean;
  /** Connections opened beside, which say nothing. */
  readonly idle: number;
  readonly command: RespCommand;
  /** Share of SET in `mixed`, 0 … 1. */
  readonly setShare: number;
  readonly keys: number;
  readonly seed: number;
}

const DEFAULT_PORT: Readonly<Record<Protocol, number>> = { tcp: 7000, udp: 7000, resp: 6379, connect: 7000 };

export interface Target {
  readonly protocol: Protocol;
  readonly address: Address;
}

/**
 * Reads `tcp://127.0.0.1:7000`, `udp://[::1]:7`, `resp://127.0.0.1`, `127.0.0.1:7000`, `:7000`, `tcp:///run/x.sock`
 * (a Unix stream socket; a leading `@` makes it abstract).
 * @throws UsageError
 */
export function parseTarget(text: string): Target {
  const scheme = /^([a-z]+):\/\//.exec(text);
  const protocol = (scheme?.[1] ?? 'tcp') as Protocol;
  if (!PROTOCOLS.includes(protocol)) {
    throw new UsageError(`unknown protocol '${protocol}' in ${text}: ${PROTOCOLS.join(', ')} are known`);
  }
  const rest = text.slice(scheme?.[0].length ?? 0);
  if (rest.startsWith('/') || rest.startsWith('@')) {
    if (protocol === 'udp') throw new UsageError(`${text}: UDP has no Unix sockets here`);
    return { protocol, address: { path: rest.startsWith('@') ? `\0${rest.slice(1)}` : rest } };
  }
  const match = /^(?:\[([^\]]+)\]|([^:]*))(?::(\d{1,5}))?\/?$/.exec(rest);
  const port = match?.[3] === undefined ? DEFAULT_PORT[protocol] : Number(match[3]);
  if (match === null || port < 1 || port > 65535)
    throw new UsageError(`not a target: ${text} (as in tcp://127.0.0.1:7000)`);
  const host = match[1] ?? match[2]!;
  return { protocol, address: { host: host === '' || host === 'localhost' ? '127.0.0.1' : host, port } };
}
