/**
 * The FUSE device and the calls that mount with it (fuse(4), mount(2), umount2(2)); mount namespaces of this thread.
 * It owns a descriptor and two buffers per device. What the bytes mean is src/remote/fuse.
 */
import { write as fsWrite, readFileSync } from 'node:fs';
import { ERRNO, systemError } from '../errors.ts';
import { close, lastErrno, libcFunction, orErrno, orThrow } from './libc.ts';
import { type MappedMemory, mapArena } from './memory.ts';
import { releaseScratch, reserveScratch, scratchAddress, scratchU8 } from './scratch.ts';
import { type DescriptorWatch, watchDescriptor } from './watch.ts';

const O_RDWR = 2;
const O_NONBLOCK = 0o4000;
const O_CLOEXEC = 0o2000000;
const AT_FDCWD = -100;
const F_SETFL = 4;
const MS_RDONLY = 1;
const MS_NOSUID = 2;
const MS_NODEV = 4;
const MS_REC = 0x4000;
const MS_PRIVATE = 0x40000;
const MNT_DETACH = 2;
const UMOUNT_NOFOLLOW = 8;
const CLONE_NEWNS = 0x20000;
const PATH_MAX = 4096;

const cOpenat = libcFunction<[directory: number, path: number, flags: number, mode: number]>('openat', [
  'int',
  'long',
  'int',
  'int',
]);
const cRead = libcFunction<[fd: number, buffer: number, length: number]>('read', ['int', 'long', 'long'], 'long');
const cWrite = libcFunction<[fd: number, buffer: number, length: number]>('write', ['int', 'long', 'long'], 'long');
const cFcntl = libcFunction<[fd: number, command: number, argument: number]>('fcntl', ['int', 'int', 'int']);
const cMount = libcFunction<[source: number, target: number, type: number, flags: number, data: number]>('mount', [
  'long',
  'long',
  'long',
  'long',
  'long',
]);
const cUmount2 = libcFunction<[target: number, flags: number]>('umount2', ['long', 'int']);
const cUnshare = libcFunction<[flags: number]>('unshare', ['int']);

/** Bytes of payload in one request or reply. */
export const FUSE_PAYLOAD_MAX = 1 << 20;
/** Room beside the payload: headers, and names. The kernel wants at least 8192 in all. */
const HEADROOM = 16384;

/**
 * An open FUSE device. `request` receives one request per `read`; `reply` is written out by `write`.
 * Both are memory of the device, used again for the next.
 */
export class FuseDevice {
  readonly fd: number;
  readonly request: MappedMemory = mapArena(FUSE_PAYLOAD_MAX + HEADROOM, { populate: false });
  readonly reply: MappedMemory = mapArena(FUSE_PAYLOAD_MAX + HEADROOM, { populate: false });
  #open = true;

  /** Takes over a descriptor of the device; made by {@link openFuse}. */
  constructor(fd: number) {
    this.fd = fd;
  }

  /** The next request's length, or −errno: −EAGAIN none waits, −ENODEV unmounted, −ENOENT one went away meanwhile. Hot. */
  read(): number {
    return orErrno(cRead(this.fd, this.request.address, this.request.byteLength));
  }

  /** Sends the first `length` bytes of `reply`: 0 or −errno (−ENOENT: nobody waits for it any more). Hot. */
  write(length: number): number {
    return Math.min(0, orErrno(cWrite(this.fd, this.reply.address, length)));
  }

  /** Calls back from the event loop while requests wait. */
  watch(onReadable: () => void): DescriptorWatch {
    return watchDescriptor(this.fd, onReadable);
  }

  /**
   * Sends a notification: 0 or −errno (−ENOENT: the kernel knows nothing of what it is about). It may wait for locks that a
   * request of ours holds, so it runs in the pool.
   */
  notify(message: Uint8Array): Promise<number> {
    return new Promise((resolve) => {
      fsWrite(this.fd, message, (error) => resolve(error === null ? 0 : (error.errno ?? -ERRNO.EIO)));
    });
  }

  /** Ends the connection: whoever still uses the mount gets ENOTCONN. Idempotent. */
  close(): void {
    if (!this.#open) return;
    this.#open = false;
    close(this.fd);
    this.request.close();
    this.reply.close();
  }
}

/**
 * Opens the device; not inherited by children, never blocking.
 * @throws IsthmusError ENOENT, EACCES, EPERM
 */
export function openFuse(path = '/dev/fuse'): FuseDevice {
  const fd = withStrings([path], ([address]) => cOpenat(AT_FDCWD, address!, O_RDWR | O_NONBLOCK | O_CLOEXEC, 0));
  return new FuseDevice(
    orThrow(fd, 'open', path, 'the mount needs the FUSE device: the kernel module fuse, and the right to open it'),
  );
}

/** A device from a descriptor that somebody else opened and mounted (fusermount3). */
export function adoptFuse(fd: number): FuseDevice {
  orThrow(cFcntl(fd, F_SETFL, O_RDWR | O_NONBLOCK), 'fcntl', `descriptor ${fd}`);
  return new FuseDevice(fd);
}

export interface FuseMountOptions {
  /** Shown by mount(8), as the device. */
  readonly source: string;
  /** The file system's type is shown as `fuse.SUBTYPE`. */
  readonly subtype: string;
  /** Others than the user who mounts may enter. */
  readonly allowOther: boolean;
  readonly readOnly: boolean;
  readonly uid: number;
  readonly gid: number;
}

/**
 * Mounts the device on a directory. Needs CAP_SYS_ADMIN in the user namespace that owns the mount namespace.
 * @throws IsthmusError EPERM, ENOENT, ENOTDIR, EBUSY
 */
export function mountFuse(device: FuseDevice, directory: string, options: FuseMountOptions): void {
  const flags = MS_NOSUID | MS_NODEV | (options.readOnly ? MS_RDONLY : 0);
  const data = [
    `fd=${device.fd}`,
    'rootmode=40000',
    `user_id=${options.uid}`,
    `group_id=${options.gid}`,
    'default_permissions',
    ...(options.allowOther ? ['allow_other'] : []),
  ].join(',');
  const strings = [options.source, directory, `fuse.${options.subtype}`, data];
  const result = withStrings(strings, ([source, target, type, text]) => cMount(source!, target!, type!, flags, text!));
  orThrow(result, 'mount', directory, lastErrno() === ERRNO.EPERM ? 'mounting needs CAP_SYS_ADMIN' : undefined);
}

/**
 * Takes the mount away at once, also while it is used; it ends when the last user leaves it.
 * @returns 0 or −errno (−EINVAL: nothing is mounted there)
 */
export function unmountLazily(directory: string): number {
  return orErrno(withStrings([directory], ([target]) => cUmount2(target!, MNT_DETACH | UMOUNT_NOFOLLOW)));
}

/** Takes the mount away if nobody uses it. @returns 0 or −errno (−EBUSY) */
export function unmount(directory: string): number {
  return orErrno(withStrings([directory], ([target]) => cUmount2(target!, UMOUNT_NOFOLLOW)));
}

/**
 * Gives this thread a mount namespace of its own. What is mounted in it afterwards is seen by this thread and by the
 * processes it starts, and goes away with the last of them. Other threads of the process stay where they were.
 * @throws IsthmusError EPERM
 */
export function enterPrivateMountNamespace(): void {
  orThrow(cUnshare(CLONE_NEWNS), 'unshare', 'mount namespace', 'this needs CAP_SYS_ADMIN');
  const result = withStrings(['none', '/'], ([none, root]) => cMount(none!, root!, 0, MS_REC | MS_PRIVATE, 0));
  orThrow(result, 'mount', 'make / private');
}

/** One line of /proc/PID/mountinfo (proc(5)), as far as we use it. */
export interface MountEntry {
  readonly id: number;
  readonly device: string;
  readonly directory: string;
  readonly type: string;
  readonly source: string;
}

/** The mounts that this thread sees, in order: a later one on the same directory lies on top. */
export function mounts(): MountEntry[] {
  const entries: MountEntry[] = [];
  for (const line of readFileSync('/proc/thread-self/mountinfo', 'utf8').split('\n')) {
    const dash = line.indexOf(' - ');
    if (dash < 0) continue;
    const [id, , device, , directory] = line.slice(0, dash).split(' ');
    const [type, source] = line.slice(dash + 3).split(' ');
    entries.push({
      id: Number(id),
      device: device!,
      directory: unescapeMount(directory!),
      type: type!,
      source: unescapeMount(source!),
    });
  }
  return entries;
}

function unescapeMount(text: string): string {
  const bytes = text.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
  return bytes;
}

/** Places the texts in scratch memory for one call. */
function withStrings<Result>(texts: readonly string[], call: (addresses: number[]) => Result): Result {
  const encoded = texts.map((text) => new TextEncoder().encode(text));
  for (const [i, bytes] of encoded.entries()) {
    if (bytes.includes(0)) throw systemError(ERRNO.EINVAL, 'path', texts[i]);
    if (bytes.length >= PATH_MAX) throw systemError(ERRNO.ENAMETOOLONG, 'path');
  }
  const offset = reserveScratch(PATH_MAX * texts.length);
  try {
    return call(
      encoded.map((bytes, i) => {
        const at = offset + i * PATH_MAX;
        scratchU8.set(bytes, at);
        scratchU8[at + bytes.length] = 0;
        return scratchAddress + at;
      }),
    );
  } finally {
    releaseScratch(offset, PATH_MAX * texts.length);
  }
}
