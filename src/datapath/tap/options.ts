/**
 * What `--datapath tap:…` says, read and checked: the interface, the stack's addresses and those of the host's side.
 * Pure: text in, plain data out.
 */
import { parseIp } from '../../address/ip.ts';
import { ERRNO, type IsthmusError, systemError } from '../../errors.ts';

/** An address with the length of its network's prefix. */
export interface Network {
  readonly host: string;
  readonly prefixLength: number;
}

export interface TapSpec {
  readonly interfaceName: string;
  /** Addresses of the stack. */
  readonly own: readonly Network[];
  /** Addresses that the interface gets on the host's side. */
  readonly host: readonly Network[];
  /** Routers of the stack, at most one of each family. */
  readonly gateways: readonly string[];
  /** Null: that of the interface as it is. */
  readonly mtu: number | null;
}

const FORM = 'tap:NAME,ADDRESS/PREFIX…[,host=ADDRESS/PREFIX…][,gateway=ADDRESS][,mtu=BYTES]';
const LEAST_MTU = 576;
const MOST_MTU = 9000;

/** Reads e.g. `t0,10.0.0.2/24,host=10.0.0.1/24`, without its `tap:`. @throws IsthmusError EINVAL, naming what is wrong */
export function parseTapSpec(text: string): TapSpec {
  const [interfaceName = '', ...parts] = text.split(',');
  if (!/^[^\s/:]{1,15}$/.test(interfaceName)) throw refusal(`'${interfaceName}' names no interface`);
  const own: Network[] = [];
  const host: Network[] = [];
  const gateways: string[] = [];
  let mtu: number | null = null;
  for (const part of parts) {
    const equals = part.indexOf('=');
    const value = part.slice(equals + 1);
    if (equals < 0) own.push(readNetwork(part));
    else if (part.startsWith('host=')) host.push(readNetwork(value));
    else if (part.startsWith('gateway=') && parseIp(value) !== null) gateways.push(value);
    else if (part.startsWith('mtu=')) mtu = readCount(value, LEAST_MTU, MOST_MTU, part);
    else throw refusal(`'${part}' is not understood`);
  }
  if (own.length === 0) throw refusal('the stack needs an address');
  const isV6 = (address: string): boolean => address.includes(':');
  if (new Set(gateways.map(isV6)).size !== gateways.length) throw refusal('one gateway of each family at most');
  return { interfaceName, own, host, gateways, mtu };
}

function readNetwork(text: string): Network {
  const slash = text.indexOf('/');
  const host = slash < 0 ? text : text.slice(0, slash);
  const ip = parseIp(host);
  if (ip === null) throw refusal(`'${text}' is no address`);
  if (slash < 0) throw refusal(`${host} needs the length of its prefix, e.g. ${host}/${ip.family === 4 ? 24 : 64}`);
  return { host, prefixLength: readCount(text.slice(slash + 1), 0, ip.family === 4 ? 32 : 128, text) };
}

function readCount(text: string, least: number, most: number, part: string): number {
  const value = /^\d+$/.test(text) ? Number(text) : Number.NaN;
  if (!(value >= least && value <= most)) throw refusal(`'${part}' is not a number from ${least} to ${most}`);
  return value;
}

function refusal(why: string): IsthmusError {
  return systemError(ERRNO.EINVAL, 'datapath', 'tap', `${why}; the form is ${FORM}`);
}
