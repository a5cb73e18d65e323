/**
 * Network namespaces (network_namespaces(7)) that are held by a descriptor and by nothing else: no name, no mount, no
 * child. It moves the calling thread between namespaces, and always back before anything else can run on it.
 *
 * A namespace lives while a descriptor of it, a process, a thread or a socket in it lives. Ours have no entry in
 * /run/netns, so when the process ends, however it ends, the kernel takes them down with every device in them.
 *
 * Why entering one is safe here, though setns(2) moves one thread only: `run` is synchronous, so no other JavaScript
 * runs on this thread in between, and the other threads (libuv's pool, V8's) never leave their namespace. What was made
 * inside stays inside for its life: a socket, a netlink socket, an XDP link, a child process, a worker. What libuv's pool
 * does (dns.lookup, asynchronous fs) happens outside, and /sys shows the namespace in which it was mounted: ask netlink.
 */
import { closeSync, fstatSync, openSync } from 'node:fs';
import { systemError } from '../errors.ts';
import { lastErrno, libcFunction, orThrow } from './libc.ts';

const CLONE_NEWNET = 0x40000000;
const OWN = '/proc/thread-self/ns/net';
const NEEDS = 'this needs CAP_SYS_ADMIN';

const cUnshare = libcFunction<[flags: number]>('unshare', ['int']);
const cSetns = libcFunction<[fd: number, type: number]>('setns', ['int', 'int']);

export class NetworkNamespace {
  /** Holds the namespace. Another process reaches it as /proc/PID/fd/FD, e.g. for `nsenter --net=`. */
  readonly fd: number;
  /** The kernel's number of it, as in `readlink /proc/PID/ns/net`. */
  readonly inode: number;
  #open = true;

  /** Takes over a descriptor of a namespace; made by the functions of this file. */
  constructor(fd: number) {
    this.fd = fd;
    this.inode = fstatSync(fd).ino;
  }

  /**
   * Runs `action` with this thread inside the namespace. It must be synchronous.
   * @throws IsthmusError EPERM without CAP_SYS_ADMIN; TypeError where `action` gives a promise
   */
  run<Result>(action: () => Result): Result {
    const back = openSync(OWN, 'r');
    try {
      orThrow(cSetns(this.fd, CLONE_NEWNET), 'setns', `network namespace ${this.inode}`, NEEDS);
      let result: Result;
      try {
        result = action();
      } finally {
        comeBack(back);
      }
      if (result instanceof Promise) throw new TypeError('what runs in a namespace must be synchronous');
      return result;
    } finally {
      closeSync(back);
    }
  }

  /** Lets go of the namespace; it ends when nobody else holds it. Idempotent. */
  close(): void {
    if (!this.#open) return;
    this.#open = false;
    closeSync(this.fd);
  }
}

/** A new, empty namespace: only `lo` is in it, and that is down. */
export function createNamespace(): NetworkNamespace {
  const back = openSync(OWN, 'r');
  try {
    orThrow(cUnshare(CLONE_NEWNET), 'unshare', 'network namespace', NEEDS);
    let fd: number;
    try {
      fd = openSync(OWN, 'r');
    } finally {
      comeBack(back);
    }
    return new NetworkNamespace(fd);
  } finally {
    closeSync(back);
  }
}

/** The namespace at a path: /proc/PID/ns/net, /proc/PID/fd/FD of a holder, or /run/netns/NAME of `ip netns`. */
export function openNamespace(path: string): NetworkNamespace {
  let fd: number;
  try {
    fd = openSync(path, 'r');
  } catch (error) {
    const { errno } = error as NodeJS.ErrnoException;
    throw systemError(errno ?? 2, 'open', path);
  }
  return new NetworkNamespace(fd);
}

/** The namespace that the calling thread is in. */
export function currentNamespace(): NetworkNamespace {
  return openNamespace(OWN);
}

// A thread in a foreign namespace would go on and open its sockets there. It cannot fail with a descriptor of our own and
// the capability that let us in; if it ever does, there is nothing sound left to do.
function comeBack(fd: number): void {
  if (cSetns(fd, CLONE_NEWNET) === 0) return;
  process.stderr.write(`isthmus: cannot return to the network namespace: errno ${lastErrno()}\n`);
  process.abort();
}
