/**
 * Mounting without privileges through `fusermount3`, the set-user-ID helper of the fuse3 package (fusermount3(1)).
 * It starts that program, which hands the opened device over on a socket.
 */
import { spawnSync } from 'node:child_process';
import { IsthmusError } from '../errors.ts';
import { adoptFuse, type FuseDevice, type FuseMountOptions } from './fuse.ts';
import { close } from './libc.ts';
import { receiveDescriptors } from './pass-descriptors.ts';
import { socketpair } from './socket.ts';

const HELPER = 'fusermount3';
/** The number of our socket in the helper. */
const SOCKET = 3;

/** Whether the helper is on the PATH. */
export function hasFusermount(): boolean {
  return spawnSync('sh', ['-c', `command -v ${HELPER}`], { stdio: 'ignore' }).status === 0;
}

/**
 * Mounts on a directory that belongs to the user.
 * @throws IsthmusError with the helper's own words
 */
export function mountByHelper(directory: string, options: FuseMountOptions): FuseDevice {
  // A comma would begin another option.
  const plain = (text: string): string => text.replaceAll('\\', '\\\\').replaceAll(',', '\\,');
  const words = [
    options.readOnly ? 'ro' : 'rw',
    'nosuid',
    'nodev',
    'default_permissions',
    `fsname=${plain(options.source)}`,
    `subtype=${options.subtype}`,
    ...(options.allowOther ? ['allow_other'] : []),
  ];
  const [ours, theirs] = socketpair();
  try {
    const { status, stderr, error } = spawnSync(HELPER, ['-o', words.join(','), '--', directory], {
      stdio: ['ignore', 'ignore', 'pipe', theirs],
      env: { ...process.env, _FUSE_COMMFD: String(SOCKET) },
      encoding: 'utf8',
    });
    const { descriptors } = status === 0 ? receiveDescriptors(ours) : { descriptors: [] };
    if (descriptors.length !== 1) {
      const why = error?.message ?? (stderr.trim() || `ended with ${status}`);
      throw new IsthmusError(`mount ${directory}: ${why}`, {
        code: 'EPERM',
        errno: -1,
        syscall: 'mount',
        cause: error,
      });
    }
    return adoptFuse(descriptors[0]!);
  } finally {
    close(ours);
    close(theirs);
  }
}

/** @returns null when it is done, else the helper's words */
export function unmountByHelper(directory: string, lazily: boolean): string | null {
  const { status, stderr } = spawnSync(HELPER, ['-u', ...(lazily ? ['-z'] : []), '--', directory], {
    stdio: ['ignore', 'ignore', 'pipe'],
    encoding: 'utf8',
  });
  return status === 0 ? null : stderr.trim() || `${HELPER} ended with ${status}`;
}
