/**
 * A tiny process that outlives ours by a moment: when we end, in whatever way, it takes the mount away.
 * It starts `sh`, and `umount` (or `fusermount3`) through it.
 *
 * Why a process of its own: a FUSE mount whose server died stays, and every use of it is ENOTCONN until somebody unmounts it.
 * And why also for an orderly end: umount(2) may wait for data that our own thread has to take.
 */
import { type ChildProcess, spawn } from 'node:child_process';

// The pipe's other end is ours alone, so `read` ends with us. The mount's number makes sure that nothing else is taken away
// that was mounted there meanwhile. util-linux's umount would look at the dead directory, hence -c where it is known.
const SCRIPT = `
trap '' INT TERM HUP QUIT
cd /
IFS= read -r order
[ "$order" = leave ] && exit 0
while read -r id rest; do
  [ "$id" = "$1" ] || continue
  umount -l -c "$2" 2>/dev/null || umount -l "$2" 2>/dev/null || fusermount3 -uz "$2" 2>/dev/null
  exit
done < /proc/self/mountinfo
exit 0
`;

export interface Guardian {
  readonly pid: number;
  /** Takes the mount away now. Resolves when it is done; false where it failed. */
  unmount(): Promise<boolean>;
  /** The mount is gone already. */
  leave(): void;
}

/** @param mountId the mount's number in /proc/self/mountinfo */
export function startGuardian(mountId: number, directory: string): Guardian {
  const child: ChildProcess = spawn('sh', ['-c', SCRIPT, 'isthmus-guardian', String(mountId), directory], {
    detached: true, // a signal to our process group is not for it
    stdio: ['pipe', 'ignore', 'ignore'],
    cwd: '/',
  });
  const exited = new Promise<number | null>((resolve) => {
    child.once('exit', resolve);
    child.once('error', () => resolve(1));
  });
  const stdin = child.stdin!;
  stdin.on('error', () => {}); // it was killed: there is nobody to tell
  child.unref();
  (stdin as unknown as { unref(): void }).unref();
  return {
    pid: child.pid ?? 0,
    unmount: async () => {
      child.ref();
      stdin.end('unmount\n');
      return (await exited) === 0;
    },
    leave: () => {
      stdin.end('leave\n');
    },
  };
}
