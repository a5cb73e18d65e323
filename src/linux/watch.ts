/**
 * Watches descriptors from inside Node's event loop, on the main thread and in workers.
 * It makes sockets of node:net over descriptors of its own, and Linux AIO contexts (aio-poll.ts).
 *
 * Why not libuv's uv_poll through koffi: its callback enters JS even while the thread is being torn down, and then the
 * whole process aborts (a worker's terminate(), or the end of a program while the descriptor is readable); also it
 * opens no callback scope. A socket of node:net has neither fault, and its wake costs less (2.3 against 3.2 µs).
 */
import { type ConnectOpts, Socket, type SocketConstructorOpts } from 'node:net';
import { ERRNO, systemError } from '../errors.ts';
import { AioPoll } from './aio-poll.ts';
import { createEventfd } from './eventfd.ts';
import { close, libcFunction, orErrno, orThrow } from './libc.ts';
import { socketpair } from './socket.ts';

/** A running watch. After `close` the other methods do nothing. */
export interface DescriptorWatch {
  /** Stops watching; the descriptor stays open. Idempotent, and allowed inside the callback. */
  close(): void;
  /** Keeps the process (or worker) alive while the watch runs. The default. */
  ref(): void;
  unref(): void;
}

const O_CLOEXEC = 0o2000000;
const F_GETFD = 1;
const dup3 = libcFunction<[from: number, to: number, flags: number]>('dup3', ['int', 'int', 'int']);
const fcntl = libcFunction<[fd: number, command: number, argument: number]>('fcntl', ['int', 'int', 'int']);

/**
 * Calls `onSignal` from the event loop when the eventfd has been signalled, once for all signals since the last call;
 * the counter is back at zero by then. Promises and ticks that it queues run right after it; what it throws is an
 * uncaught exception, as in any callback of Node's. The eventfd must be non-blocking, as `createEventfd` makes it.
 * @throws IsthmusError EBADF
 */
export function watchEventfd(eventfd: number, onSignal: () => void): DescriptorWatch {
  checkDescriptor(eventfd);
  // Node opens sockets and pipes only, but of what it opened it keeps nothing save the number. So it opens one end of a
  // pair, and before the event loop has seen it, the eventfd takes that number's place. Reading takes the counter.
  const [place, other] = socketpair();
  const options: SocketConstructorOpts & ConnectOpts = {
    fd: place,
    readable: true,
    writable: false,
    onread: {
      buffer: new Uint8Array(64),
      callback: () => {
        if (!socket.destroyed) onSignal();
        return true;
      },
    },
  };
  const socket = new Socket(options);
  orThrow(dup3(eventfd, place, O_CLOEXEC), 'dup3');
  close(other);
  return {
    close: () => {
      socket.destroy();
    },
    ref: () => {
      socket.ref();
    },
    unref: () => {
      socket.unref();
    },
  };
}

export interface WatchOptions {
  /** Look by a timer as where Linux AIO is missing; for tests. */
  lookByTimer?: boolean;
}

/**
 * Calls `onReadable` from the event loop while `fd` is readable, again and again until it is drained or the watch is
 * closed. For anything that poll(2) can wait for, e.g. an epoll instance. Otherwise as {@link watchEventfd}.
 * Close the watch before the descriptor.
 * @throws IsthmusError EBADF
 */
export function watchDescriptor(fd: number, onReadable: () => void, options: WatchOptions = {}): DescriptorWatch {
  checkDescriptor(fd);
  const eventfd = createEventfd();
  let poll: AioPoll;
  try {
    poll = new AioPoll(fd, eventfd, options.lookByTimer);
  } catch (error) {
    close(eventfd);
    throw error;
  }
  let open = true;
  const watch = watchEventfd(eventfd, () => {
    try {
      onReadable();
    } finally {
      poll.rearm();
    }
  });
  return {
    close: () => {
      if (!open) return;
      open = false;
      poll.close();
      watch.close();
      close(eventfd);
    },
    ref: watch.ref,
    unref: watch.unref,
  };
}

function checkDescriptor(fd: number): void {
  if (!Number.isInteger(fd) || orErrno(fcntl(fd, F_GETFD, 0)) < 0) {
    throw systemError(ERRNO.EBADF, 'watch', `descriptor ${fd}`);
  }
}
