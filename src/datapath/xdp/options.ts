/**
 * What `--datapath xdp:…` says, read and checked: the interface, the addresses, the queues and the mode.
 * Pure: text in, plain data out.
 */
import { parseIp } from '../../address/ip.ts';
import { ERRNO, type IsthmusError, systemError } from '../../errors.ts';

/** An address of our own with the length of its network's prefix. */
export interface OwnAddress {
  readonly host: string;
  readonly prefixLength: number;
}

export interface XdpSpec {
  readonly interfaceName: string;
  /** Addresses of our own; empty where those of the host are shared. */
  readonly own: readonly OwnAddress[];
  /** Routers of an address of our own, at most one of each family. */
  readonly gateways: readonly string[];
  /** Queues to use, from 0 on; 0 for all that the interface has. */
  readonly queues: number;
  /** How the program is attached: in the driver, before the kernel's own stack, or the first that works. */
  readonly mode: 'auto' | 'native' | 'generic';
  /** Frames are copied, even where the driver could do without. */
  readonly copy: boolean;
  /** Microseconds that a kernel with a core of its own looks for frames before it sleeps. */
  readonly spinUs: number;
}

export const DEFAULT_SPIN_US = 50;
const MAX_QUEUES = 64;
const MAX_SPIN_US = 1_000_000;
const FORM =
  'xdp:IF[,own=ADDRESS/PREFIX][,gateway=ADDRESS][,queues=N][,mode=native|generic][,copy][,spin=MICROSECONDS]';

/**
 * Reads a specification without its `xdp:`, e.g. `eth0,own=10.0.0.9/24,gateway=10.0.0.1`.
 * @throws IsthmusError EINVAL, naming the part that is wrong
 */
export function parseXdpSpec(text: string): XdpSpec {
  const [interfaceName = '', ...parts] = text.split(',');
  if (!/^[^\s/:]{1,15}$/.test(interfaceName)) throw refusal(`'${interfaceName}' names no interface`);
  const own: OwnAddress[] = [];
  const gateways: string[] = [];
  let queues = 0;
  let mode: XdpSpec['mode'] = 'auto';
  let copy = false;
  let spinUs = DEFAULT_SPIN_US;
  for (const part of parts) {
    const [name, value] = split(part);
    if (name === 'own') own.push(readOwn(value));
    else if (name === 'gateway') gateways.push(readHost(value, part));
    else if (name === 'queues') queues = readCount(value, 1, MAX_QUEUES, part);
    else if (name === 'spin') spinUs = readCount(value, 0, MAX_SPIN_US, part);
    else if (name === 'mode' && (value === 'native' || value === 'generic')) mode = value;
    else if (part === 'copy') copy = true;
    else throw refusal(`'${part}' is not understood`);
  }
  for (const gateway of gateways) {
    if (!own.some(({ host }) => isIpv6(host) === isIpv6(gateway))) {
      throw refusal(`gateway=${gateway} needs an own= address of its family`);
    }
  }
  if (new Set(gateways.map(isIpv6)).size !== gateways.length) throw refusal('one gateway of each family at most');
  return { interfaceName, own, gateways, queues, mode, copy, spinUs };
}

function isIpv6(host: string): boolean {
  return host.includes(':');
}

function split(part: string): [string, string] {
  const at = part.indexOf('=');
  return at < 0 ? [part, ''] : [part.slice(0, at), part.slice(at + 1)];
}

function readOwn(text: string): OwnAddress {
  const slash = text.indexOf('/');
  const host = readHost(slash < 0 ? text : text.slice(0, slash), `own=${text}`);
  const bits = isIpv6(host) ? 128 : 32;
  if (slash < 0) throw refusal(`own=${text} needs the length of its prefix, e.g. own=${host}/${bits === 32 ? 24 : 64}`);
  return { host, prefixLength: readCount(text.slice(slash + 1), 0, bits, `own=${text}`) };
}

function readHost(text: string, part: string): string {
  if (parseIp(text) === null) throw refusal(`'${part}' has no IP address`);
  return text;
}

function readCount(text: string, least: number, most: number, part: string): number {
  const value = /^\d+$/.test(text) ? Number(text) : Number.NaN;
  if (!(value >= least && value <= most)) throw refusal(`'${part}' is not a number from ${least} to ${most}`);
  return value;
}

function refusal(why: string): IsthmusError {
  return systemError(ERRNO.EINVAL, 'datapath', 'xdp', `${why}; the form is ${FORM}`);
}
