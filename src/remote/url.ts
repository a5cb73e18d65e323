/** `nfs://host[:port]/path?version=3|4.1&uid=&gid=&groups=&mountport=&timeout=` taken apart. Pure but for this process's own ids. */
import type { Credential } from './server.ts';

export interface NfsUrl {
  readonly host: string;
  readonly port: number | undefined;
  /** Decoded; begins with `/`. */
  readonly path: string;
  /** null: the newest both sides speak. */
  readonly version: '3' | '4.1' | null;
  readonly mountPort: number | undefined;
  readonly credential: Credential;
  readonly timeoutMs: number | undefined;
}

const KNOWN = ['version', 'uid', 'gid', 'groups', 'mountport', 'timeout'];

/** Throws a TypeError that says what is wrong. The ids default to this process's own; `timeout` is in seconds. */
export function parseNfsUrl(text: string): NfsUrl {
  const url = URL.canParse(text) ? new URL(text) : null;
  if (url === null || url.protocol !== 'nfs:' || url.hostname === '') {
    throw new TypeError(`not a URL of a file server: '${text}' (nfs://host[:port]/path)`);
  }
  for (const key of url.searchParams.keys()) {
    if (!KNOWN.includes(key)) throw new TypeError(`unknown parameter '${key}' in '${text}' (${KNOWN.join(', ')})`);
  }
  const version = url.searchParams.get('version');
  if (version !== null && version !== '3' && version !== '4.1') {
    throw new TypeError(`version '${version}' in '${text}': there are 3 and 4.1`);
  }
  const number = (key: string, most: number): number | undefined => {
    const value = url.searchParams.get(key);
    if (value === null) return undefined;
    if (!/^\d{1,10}$/.test(value) || Number(value) > most) throw new TypeError(`${key} '${value}' in '${text}'`);
    return Number(value);
  };
  const groups = url.searchParams.get('groups');
  if (groups !== null && !/^(\d{1,10}(,\d{1,10})*)?$/.test(groups))
    throw new TypeError(`groups '${groups}' in '${text}'`);
  const seconds = number('timeout', 86_400);
  const uid = number('uid', 0xffff_ffff);
  const own = uid === undefined && groups === null;
  return {
    host: url.hostname.replace(/^\[(.*)\]$/, '$1'),
    port: url.port === '' ? undefined : Number(url.port),
    path: decoded(url.pathname, text) || '/',
    version,
    mountPort: number('mountport', 65_535),
    credential: {
      uid: uid ?? process.getuid?.() ?? 65_534,
      gid: number('gid', 0xffff_ffff) ?? process.getgid?.() ?? 65_534,
      groups: own ? (process.getgroups?.() ?? []) : (groups?.split(',').filter(Boolean).map(Number) ?? []),
    },
    timeoutMs: seconds === undefined ? undefined : seconds * 1000,
  };
}

function decoded(pathname: string, text: string): string {
  try {
    return decodeURIComponent(pathname);
  } catch {
    throw new TypeError(`the path in '${text}' is not UTF-8`);
  }
}
