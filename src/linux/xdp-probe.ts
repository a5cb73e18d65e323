/**
 * May this process bypass the kernel here? Looked at before anything is made, with one line that says what is missing.
 * It reads /proc/self/status and limits, opens one AF_XDP socket and closes it; it can raise the limit of locked memory.
 */
import { ERRNO, IsthmusError } from '../errors.ts';
import { heldCapabilities } from './capabilities.ts';
import { close } from './libc.ts';
import { Limit, raiseLimit } from './limits.ts';
import { SOCK_RAW, socket } from './socket.ts';

const AF_XDP = 44;

/** Each is needed; of a list one is enough. What for stands beside it. */
const WANTED: readonly { readonly anyOf: readonly string[]; readonly why: string }[] = [
  { anyOf: ['CAP_NET_RAW'], why: 'to open AF_XDP sockets' },
  { anyOf: ['CAP_NET_ADMIN'], why: 'to put an XDP program on an interface' },
  { anyOf: ['CAP_BPF', 'CAP_SYS_ADMIN'], why: 'to load eBPF programs' },
];

export interface XdpNeeds {
  /** Bytes of UMEM that will be registered. Default 0: not looked at. */
  readonly umemBytes?: number;
  /** Capabilities held, instead of this process's; for tests. */
  readonly capabilities?: readonly string[];
}

/**
 * The error that says, in one line, what stands in the way of AF_XDP here; null where nothing is known to.
 * Raises the soft limit of locked memory where that is what is missing and the hard limit allows it.
 */
export function xdpRefusal(needs: XdpNeeds = {}): IsthmusError | null {
  if (process.arch !== 'x64' && process.arch !== 'arm64') {
    return refusal('ENOSYS', `AF_XDP is used on x86-64 and arm64, not on ${process.arch}`);
  }
  const held = needs.capabilities ?? heldCapabilities();
  const missing = WANTED.filter(({ anyOf }) => !anyOf.some((name) => held.includes(name)));
  if (missing.length > 0) {
    const list = missing.map(({ anyOf, why }) => `${anyOf.join(' or ')} (${why})`).join(', ');
    const grant = missing.map(({ anyOf }) => anyOf[0]!.toLowerCase()).join(',');
    const line = `AF_XDP needs ${list}: run as root, or setcap ${grant}+ep on a copy of node`;
    return refusal('EPERM', line);
  }
  try {
    close(socket(AF_XDP, SOCK_RAW, 0));
  } catch (error) {
    if (!(error instanceof IsthmusError)) throw error;
    if (error.code !== 'EAFNOSUPPORT') return error;
    return refusal('EAFNOSUPPORT', 'AF_XDP needs a kernel with CONFIG_XDP_SOCKETS, 5.9 or later');
  }
  const umemBytes = needs.umemBytes ?? 0;
  if (umemBytes > 0 && !held.includes('CAP_IPC_LOCK')) {
    const { soft } = raiseLimit(Limit.MEMLOCK);
    if (soft < umemBytes) {
      const line = `AF_XDP needs ${umemBytes} bytes of locked memory and the limit is ${soft}: ulimit -l ${Math.ceil(umemBytes / 1024)}, or CAP_IPC_LOCK`;
      return refusal('ENOBUFS', line);
    }
  }
  return null;
}

/** Throws what {@link xdpRefusal} gives. */
export function requireXdp(needs: XdpNeeds = {}): void {
  const error = xdpRefusal(needs);
  if (error !== null) throw error;
}

function refusal(code: 'EPERM' | 'ENOSYS' | 'EAFNOSUPPORT' | 'ENOBUFS', line: string): IsthmusError {
  const errno = { ...ERRNO }[code];
  return new IsthmusError(`${code}: ${line}`, { code, errno: -errno });
}
