/**
 * Tap devices (Linux Documentation/networking/tuntap.rst): an Ethernet interface whose other end is a descriptor of this
 * process. It opens /dev/net/tun in the calling thread's network namespace, reads frames and writes them.
 *
 * A tap that this process made goes when its descriptor is closed, however the process ends.
 */
import { closeSync, constants, openSync } from 'node:fs';
import { ERRNO, systemError } from '../errors.ts';
import { lastErrno, libcFunction, orErrno } from './libc.ts';
import { releaseScratch, reserveScratch, scratchAddress, scratchI32, scratchU8, writeCString } from './scratch.ts';

const TUNSETIFF = 0x400454ca;
const IFF_TAP = 0x0002;
const IFF_NO_PI = 0x1000;
const NAME_BYTES = 16;
const IFREQ_BYTES = 40;
/** Two vectors of struct iovec: base, length. */
const VECTOR_BYTES = 32;

const cIoctl = libcFunction<[fd: number, request: number, argument: number]>('ioctl', ['int', 'long', 'long']);
const cRead = libcFunction<[fd: number, buffer: number, length: number]>('read', ['int', 'long', 'long'], 'long');
const cWrite = libcFunction<[fd: number, buffer: number, length: number]>('write', ['int', 'long', 'long'], 'long');
const cWritev = libcFunction<[fd: number, vectors: number, count: number]>('writev', ['int', 'long', 'int'], 'long');

export class TapDevice {
  /** Readable while frames wait. */
  readonly fd: number;
  readonly name: string;
  readonly #vectors: number;
  #open = true;

  /**
   * Opens a tap, which is made where there is none of this name; `%d` in the name is replaced by a number.
   * @throws IsthmusError EPERM without CAP_NET_ADMIN, EBUSY where another process has it, EINVAL where the name is
   *   another kind of interface's, ENOENT without /dev/net/tun
   */
  constructor(name: string) {
    if (name.length === 0 || name.length >= NAME_BYTES) throw systemError(ERRNO.EINVAL, 'open', name, 'no such name');
    this.fd = openTun();
    const request = reserveScratch(IFREQ_BYTES);
    try {
      writeCString(request, NAME_BYTES, name);
      scratchI32[(request + NAME_BYTES) >> 2] = IFF_TAP | IFF_NO_PI;
      if (cIoctl(this.fd, TUNSETIFF, scratchAddress + request) < 0) {
        const errno = lastErrno();
        const hint = errno === ERRNO.EPERM ? 'a tap needs CAP_NET_ADMIN' : undefined;
        throw systemError(errno, 'ioctl', `tap ${name}`, hint);
      }
      const end = scratchU8.indexOf(0, request);
      this.name = new TextDecoder().decode(scratchU8.slice(request, end));
    } catch (error) {
      closeSync(this.fd);
      throw error;
    } finally {
      releaseScratch(request, IFREQ_BYTES);
    }
    this.#vectors = reserveScratch(VECTOR_BYTES);
  }

  /** Reads the next frame to `address`: its length, or −errno (−EAGAIN where there is none now). Longer ones are cut. Hot. */
  read(address: number, bytes: number): number {
    return orErrno(cRead(this.fd, address, bytes));
  }

  /** Sends one frame: its length, or −errno. Hot. */
  write(address: number, bytes: number): number {
    return orErrno(cWrite(this.fd, address, bytes));
  }

  /** Sends one frame in two pieces. Addresses by their two halves, since vectors hold 64 bits. Hot. */
  writePieces(high: number, low: number, bytes: number, secondLow: number, secondBytes: number): number {
    const at = this.#vectors >> 2;
    scratchI32[at] = low;
    scratchI32[at + 1] = high;
    scratchI32[at + 2] = bytes;
    scratchI32[at + 4] = secondLow;
    scratchI32[at + 5] = high;
    scratchI32[at + 6] = secondBytes;
    return orErrno(cWritev(this.fd, scratchAddress + this.#vectors, 2));
  }

  /** Idempotent. Close the watch on `fd` before. */
  close(): void {
    if (!this.#open) return;
    this.#open = false;
    releaseScratch(this.#vectors, VECTOR_BYTES);
    closeSync(this.fd);
  }
}

function openTun(): number {
  try {
    return openSync('/dev/net/tun', constants.O_RDWR | constants.O_NONBLOCK);
  } catch (error) {
    throw systemError((error as NodeJS.ErrnoException).errno ?? ERRNO.EIO, 'open', '/dev/net/tun');
  }
}
