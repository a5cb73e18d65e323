/**
 * A view shown as a directory: opens the device, mounts it, serves it, and takes it away again.
 * It touches the FUSE device, the mount table and a guardian process.
 */
import { realpathSync, statSync } from 'node:fs';
import { ERRNO, systemError } from '../../errors.ts';
import { FUSE_PAYLOAD_MAX, type FuseDevice, mountFuse, mounts, openFuse, unmountLazily } from '../../linux/fuse.ts';
import { hasFusermount, mountByHelper } from '../../linux/fusermount.ts';
import type { View } from '../view/view.ts';
import type { Admission } from './admission.ts';
import { type Guardian, startGuardian } from './guardian.ts';
import { FuseSession } from './session.ts';

export const FUSE_SUBTYPE = 'isthmus';

export interface MountOptions {
  readonly directory: string;
  /** Shown by `mount` and `df`. */
  readonly source: string;
  /** Others than this user may enter. Default false. */
  readonly allowOther?: boolean;
  readonly readOnly?: boolean;
  readonly admission?: Admission;
  /** The FUSE device. Default /dev/fuse. */
  readonly device?: string;
}

/** Milliseconds that an end waits for unwritten data, and for the kernel to let go. */
const FLUSH_MS = 30_000;
const DETACH_MS = 300;
const LEAVE_MS = 2_000;

export interface Mount {
  readonly session: FuseSession;
  readonly directory: string;
  /** Of the FUSE device: who answers requests past the session (speculation, from another thread) writes here. */
  readonly descriptor: number;
  /** The process that unmounts if we die. */
  readonly guardianPid: number;
  /**
   * Writes out what is unwritten, takes the mount away and ends the connection. Whoever still uses it gets ENOTCONN.
   * @returns the number of files whose data could not be written in time
   */
  unmount(): Promise<number>;
}

/**
 * Mounts a view on a directory and serves it from this thread's event loop. The promise of `session.ended` tells when
 * somebody else has unmounted it.
 * @throws IsthmusError ENOENT, ENOTDIR, EACCES, EPERM
 */
export function mountView(view: View, options: MountOptions): Mount {
  const directory = checkedDirectory(options.directory);
  const uid = process.getuid?.() ?? 0;
  const device = mounted(directory, uid, options);
  return serve(view, device, directory, uid, options.admission);
}

/** Mounts by ourselves, or where that is not allowed by the helper. */
function mounted(directory: string, uid: number, options: MountOptions): FuseDevice {
  const { source, allowOther = false, readOnly = false } = options;
  const how = { source, subtype: FUSE_SUBTYPE, allowOther, readOnly, uid, gid: process.getgid?.() ?? 0 };
  let device: FuseDevice | null = null;
  try {
    device = openFuse(options.device);
    mountFuse(device, directory, how);
    return device;
  } catch (error) {
    device?.close();
    const { code } = error as { code?: unknown };
    if ((code === 'EPERM' || code === 'EACCES') && uid !== 0 && hasFusermount()) return mountByHelper(directory, how);
    throw error;
  }
}

function serve(
  view: View,
  device: FuseDevice,
  directory: string,
  uid: number,
  admission: Admission | undefined,
): Mount {
  const guardian = startGuardian(mountIdOf(directory), directory);
  const session = new FuseSession(view, device, {
    uid,
    payloadMax: FUSE_PAYLOAD_MAX,
    ...(admission === undefined ? {} : { admission }),
  });
  session.start();
  // A program that waits for an answer cannot even be killed: however we end, it gets one first.
  const onExit = (): void => device.close();
  process.once('exit', onExit);
  let ending: Promise<number> | null = null;
  const end = async (): Promise<number> => {
    const unwritten = await flushed(view);
    await detach(session, guardian, directory);
    session.stop();
    session.closeAll();
    device.close();
    process.off('exit', onExit);
    // Files that were removed while open go now.
    await within(Promise.all([...view.nodes.all()].flatMap(({ leaving }) => [...leaving])), LEAVE_MS);
    return unwritten;
  };
  return {
    session,
    directory,
    descriptor: device.fd,
    guardianPid: guardian.pid,
    unmount: () => {
      ending ??= end();
      return ending;
    },
  };
}

async function detach(session: FuseSession, guardian: Guardian, directory: string): Promise<void> {
  const isOurs = mounts().some((entry) => entry.directory === directory && entry.type === `fuse.${FUSE_SUBTYPE}`);
  if (!isOurs) {
    guardian.leave();
    return;
  }
  // It must not be our thread that waits for the kernel: the kernel may wait for us.
  if (!(await guardian.unmount())) unmountLazily(directory);
  await within(
    session.ended.catch(() => {}),
    DETACH_MS,
  );
}

/** @returns files that are not on stable storage yet */
async function flushed(view: View): Promise<number> {
  await within(view.writeBack.flushAll(), FLUSH_MS);
  return view.writeBack.files;
}

async function within(promise: Promise<unknown>, ms: number): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, ms);
  });
  await Promise.race([promise, late]);
  clearTimeout(timer);
}

function checkedDirectory(path: string): string {
  let directory: string;
  try {
    directory = realpathSync(path);
  } catch (error) {
    const { errno } = error as NodeJS.ErrnoException;
    const dead = errno === -ERRNO.ENOTCONN;
    throw systemError(
      errno ?? ERRNO.ENOENT,
      'mount',
      path,
      dead ? 'a dead mount is there: isthmus unmount it' : undefined,
    );
  }
  if (!statSync(directory).isDirectory()) throw systemError(ERRNO.ENOTDIR, 'mount', path);
  return directory;
}

function mountIdOf(directory: string): number {
  const found = mounts().filter((entry) => entry.directory === directory);
  return found[found.length - 1]?.id ?? -1;
}
