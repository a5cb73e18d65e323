/**
 * What this machine and this process may use, as plain data with a reason for each thing that is missing.
 * It tries things out (a ring, a socket, opening a device) and undoes them at once; it changes nothing.
 */
import { closeSync, constants, openSync, readdirSync, readFileSync } from 'node:fs';
import { availableParallelism, release } from 'node:os';
import { IsthmusError } from '../errors.ts';
import { getAffinity } from './affinity.ts';
import { capabilityNames } from './capabilities.ts';
import { Epoll } from './epoll.ts';
import { getLimit, Limit, type LimitValue } from './limits.ts';
import { Ring } from './uring.ts';
import { Feature, Op, Setup } from './uring-abi.ts';
import { xdpRefusal } from './xdp-probe.ts';

/** `reason` says why not; `needs` says what would have to change. Both are empty where it is available. */
export interface Facility {
  available: boolean;
  reason: string;
  needs: string;
}

export interface UringFacility extends Facility {
  /** Names of the set-up flags in force, of the features and of the operations used here that the kernel knows. */
  flags: string[];
  features: string[];
  operations: string[];
  /** sysctl kernel.io_uring_disabled: 0 for all, 1 for privileged processes, 2 for none; null where there is no such knob. */
  disabled: number | null;
}

export interface HugePages {
  /** /sys/kernel/mm/transparent_hugepage/enabled: always, madvise or never; null where missing. */
  transparent: string | null;
  /** Reserved pages by size. */
  reserved: { pageBytes: number; total: number; free: number }[];
}

export interface Probe {
  kernel: { release: string; major: number; minor: number };
  architecture: string;
  node: string;
  /** `allowed`: the processors the calling thread may use. */
  processors: { online: number; allowed: number[] };
  /** 0 none, 1 strict, 2 filter (a container's profile). */
  seccomp: number;
  /** Effective capabilities, e.g. `CAP_NET_ADMIN`. */
  capabilities: string[];
  limits: { openFiles: LimitValue; lockedMemory: LimitValue };
  hugePages: HugePages;
  epoll: Facility;
  ioUring: UringFacility;
  xdp: Facility;
  tun: Facility;
  fuse: Facility;
}

const AVAILABLE: Facility = { available: true, reason: '', needs: '' };

/** Looks at everything. Takes about a millisecond; never throws for what is missing. */
export function probe(): Probe {
  const [major = 0, minor = 0] = release().split('.').map(Number);
  const status = readText('/proc/self/status') ?? '';
  const capabilities = capabilityNames(/^CapEff:\s*([0-9a-f]+)/m.exec(status)?.[1] ?? '0');
  const seccomp = Number(/^Seccomp:\s*(\d)/m.exec(status)?.[1] ?? 0);
  return {
    kernel: { release: release(), major, minor },
    architecture: process.arch,
    node: process.version,
    processors: { online: availableParallelism(), allowed: getAffinity() },
    seccomp,
    capabilities,
    limits: { openFiles: getLimit(Limit.NOFILE), lockedMemory: getLimit(Limit.MEMLOCK) },
    hugePages: hugePages(),
    epoll: attempt(() => new Epoll(8).close(), 'a Linux kernel'),
    ioUring: probeUring(seccomp),
    xdp: probeXdp(),
    tun: probeTun(capabilities),
    fuse: probeFuse(capabilities),
  };
}

function attempt(action: () => void, needs: string): Facility {
  try {
    action();
    return AVAILABLE;
  } catch (error) {
    return { available: false, reason: (error as Error).message, needs };
  }
}

/** Tries a ring, and says which knob stands in the way if there is none. */
export function probeUring(seccomp = 0): UringFacility {
  const knob = readText('/proc/sys/kernel/io_uring_disabled');
  const disabled = knob === null ? null : Number(knob);
  try {
    const ring = new Ring({ entries: 8 });
    const known = ring.probe();
    const facility = {
      ...AVAILABLE,
      flags: setNames(Setup, ring.flags),
      features: setNames(Feature, ring.features),
      operations: Object.entries(Op)
        .filter(([, op]) => known.supports(op))
        .map(([name]) => name),
      disabled,
    };
    ring.close();
    return facility;
  } catch (error) {
    if (!(error instanceof IsthmusError)) throw error;
    return {
      available: false,
      reason: error.message,
      needs: uringNeeds(error.code, disabled, seccomp),
      flags: [],
      features: [],
      operations: [],
      disabled,
    };
  }
}

function uringNeeds(code: string, disabled: number | null, seccomp: number): string {
  if (code === 'EPERM' && disabled) {
    const group = disabled === 1 ? ', or CAP_SYS_ADMIN, or membership of the group in kernel.io_uring_group' : '';
    return `sysctl kernel.io_uring_disabled=0 (now ${disabled})${group}`;
  }
  if ((code === 'EPERM' || code === 'ENOSYS') && seccomp === 2) {
    return 'a seccomp profile that allows io_uring_setup, io_uring_enter and io_uring_register';
  }
  if (code === 'ENOSYS') return 'a kernel with CONFIG_IO_URING, 6.1 or later for full speed';
  if (code === 'EMFILE') return 'a higher limit of open files (ulimit -n)';
  if (code === 'ENOMEM') return 'memory, or a higher limit of locked memory (ulimit -l)';
  return 'a kernel of 6.1 or later';
}

function probeXdp(): Facility {
  const refusal = xdpRefusal();
  if (refusal === null) return AVAILABLE;
  const needs = 'CAP_NET_RAW, CAP_NET_ADMIN, CAP_BPF and a kernel with CONFIG_XDP_SOCKETS';
  return { available: false, reason: refusal.message, needs };
}

function probeTun(capabilities: readonly string[]): Facility {
  const needs = 'read and write access to /dev/net/tun and CAP_NET_ADMIN';
  const opened = attempt(() => closeSync(openSync('/dev/net/tun', constants.O_RDWR)), needs);
  return opened.available ? requireCapabilities(capabilities, ['CAP_NET_ADMIN'], needs) : opened;
}

function probeFuse(capabilities: readonly string[]): Facility {
  const needs = 'read and write access to /dev/fuse and, to mount, CAP_SYS_ADMIN';
  const opened = attempt(() => closeSync(openSync('/dev/fuse', constants.O_RDWR)), needs);
  return opened.available ? requireCapabilities(capabilities, ['CAP_SYS_ADMIN'], needs) : opened;
}

/** Each entry is a capability, or several of which one is enough. */
function requireCapabilities(held: readonly string[], wanted: readonly (string | string[])[], needs: string): Facility {
  for (const entry of wanted) {
    const any = typeof entry === 'string' ? [entry] : entry;
    if (!any.some((name) => held.includes(name))) {
      return { available: false, reason: `this process lacks ${any.join(' or ')}`, needs };
    }
  }
  return AVAILABLE;
}

function hugePages(): HugePages {
  const root = '/sys/kernel/mm';
  const enabled = readText(`${root}/transparent_hugepage/enabled`);
  let sizes: string[] = [];
  try {
    sizes = readdirSync(`${root}/hugepages`);
  } catch {
    // not built into this kernel
  }
  return {
    transparent: enabled === null ? null : (/\[(\w+)\]/.exec(enabled)?.[1] ?? null),
    reserved: sizes.map((size) => ({
      pageBytes: Number(/\d+/.exec(size)?.[0] ?? 0) * 1024,
      total: Number(readText(`${root}/hugepages/${size}/nr_hugepages`) ?? 0),
      free: Number(readText(`${root}/hugepages/${size}/free_hugepages`) ?? 0),
    })),
  };
}

function readText(path: string): string | null {
  try {
    return readFileSync(path, 'utf8').trim();
  } catch {
    return null;
  }
}

function setNames(table: Record<string, number>, bits: number): string[] {
  return Object.entries(table)
    .filter(([, bit]) => (bits & bit) !== 0)
    .map(([name]) => name);
}
