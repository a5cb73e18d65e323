/**
 * bpf(2): maps, programs, and the link that puts an XDP program on an interface; and lists of what the kernel has loaded.
 * Everything it makes is a descriptor, closed on exec, so the kernel takes it all back when the process ends.
 */
import { readFileSync } from 'node:fs';
import { ERRNO, errnoName, IsthmusError, systemError } from '../errors.ts';
import type { BpfCode } from './bpf-assembler.ts';
import { close, lastErrno, libcFunction, orErrno, orThrow } from './libc.ts';
import { type MappedMemory, mapArena, mapShared, pages } from './memory.ts';
import { reserveScratch, scratchAddress, scratchHigh, scratchI32, scratchU8, scratchU32 } from './scratch.ts';

const SYS_BPF = process.arch === 'x64' ? 321 : 280;
const Command = {
  MAP_CREATE: 0,
  MAP_LOOKUP: 1,
  MAP_UPDATE: 2,
  MAP_DELETE: 3,
  MAP_NEXT_KEY: 4,
  PROGRAM_LOAD: 5,
  PROGRAM_TEST_RUN: 10,
  PROGRAM_NEXT_ID: 11,
  MAP_NEXT_ID: 12,
  INFO_BY_FD: 15,
  LINK_CREATE: 28,
  LINK_NEXT_ID: 31,
} as const;
const PROGRAM_TYPE_XDP = 6;
const ATTACH_XDP = 37;
const ATTRIBUTES_BYTES = 128;
const LOG_BYTES = 1 << 18;
const MAX_FRAME_BYTES = 3520; // what a test run takes in one page, with its headroom
const MAP_MMAPABLE = 1 << 10;
const NEEDS = 'this needs CAP_BPF and CAP_NET_ADMIN';

export const MapType = { HASH: 1, ARRAY: 2, PERCPU_ARRAY: 6, LRU_HASH: 9, XSKMAP: 17 } as const;
export type MapType = (typeof MapType)[keyof typeof MapType];

const cBpf = libcFunction<[number: number, command: number, attributes: number, size: number]>(
  'syscall',
  ['long', 'int', 'long', 'int'],
  'long',
);
const cFcntl = libcFunction<[fd: number, command: number, argument: number]>('fcntl', ['int', 'int', 'int']);
const F_DUPFD_CLOEXEC = 1030;
const attributes = reserveScratch(ATTRIBUTES_BYTES);
const at = attributes >> 2;
const info = reserveScratch(256);

function clearAttributes(): void {
  scratchI32.fill(0, at, at + ATTRIBUTES_BYTES / 4);
}

function bpf(command: number): number {
  return cBpf(SYS_BPF, command, scratchAddress + attributes, ATTRIBUTES_BYTES);
}

/** Sets a pointer: `low` is an offset in an arena whose high word is `high`. */
function setPointer(word: number, low: number, high: number): void {
  scratchI32[at + word] = low;
  scratchI32[at + word + 1] = high;
}

function setName(word: number, name: string): void {
  if (!/^\w{1,15}$/.test(name)) throw new TypeError(`${JSON.stringify(name)} names no eBPF object`);
  for (let i = 0; i < name.length; i++) scratchU8[attributes + 4 * word + i] = name.charCodeAt(i);
}

let processors = 0;

/** How many values a per-processor map has for each key. */
export function possibleProcessors(): number {
  if (processors === 0) {
    const last = /(\d+)\s*$/.exec(readFileSync('/sys/devices/system/cpu/possible', 'latin1'));
    processors = Number(last?.[1] ?? 0) + 1;
  }
  return processors;
}

export interface MapOptions {
  readonly type: MapType;
  readonly keyBytes: number;
  readonly valueBytes: number;
  readonly maxEntries: number;
  /** Shown by tools; at most 15 letters, digits and underscores. */
  readonly name: string;
  /** An ARRAY that this process maps and changes by plain stores, see {@link BpfMap.mapped}. */
  readonly mappable?: boolean;
  /** Descriptor of a map of this kind that is there already, e.g. of another thread: it is duplicated, and none is made. */
  readonly existing?: number;
}

/** A map. Keys and values are bytes as the program sees them; for PERCPU maps a value is one after another per processor. */
export class BpfMap {
  readonly fd: number;
  readonly id: number;
  readonly keyBytes: number;
  /** Bytes of a value as `lookup` gives it. */
  readonly valueBytes: number;
  readonly maxEntries: number;
  /** The values of a mappable ARRAY one after another, each rounded up to 8 bytes; null for other maps. */
  readonly mapped: MappedMemory | null;
  readonly #memory: MappedMemory;
  readonly #valueAt: number;
  #open = true;

  /** @throws IsthmusError EPERM without the capabilities, EINVAL for a map the kernel does not know */
  constructor(options: MapOptions) {
    const { type, keyBytes, valueBytes, maxEntries, name } = options;
    this.fd =
      options.existing === undefined
        ? createMap(options)
        : orThrow(cFcntl(options.existing, F_DUPFD_CLOEXEC, 0), 'fcntl', `map ${name}`);
    this.keyBytes = keyBytes;
    this.maxEntries = maxEntries;
    const rounded = Math.ceil(valueBytes / 8) * 8;
    this.valueBytes = type === MapType.PERCPU_ARRAY ? rounded * possibleProcessors() : valueBytes;
    this.#valueAt = Math.ceil(keyBytes / 64) * 64;
    const memory = mapArena(this.#valueAt + this.valueBytes, { populate: false });
    this.#memory = memory;
    try {
      this.id = objectId(this.fd);
      this.mapped = options.mappable ? mapShared(this.fd, pages(rounded * maxEntries), { anywhere: true }) : null;
    } catch (error) {
      memory.close();
      close(this.fd);
      throw error;
    }
  }

  /** Sets the value of a key. @throws IsthmusError ENOSPC/E2BIG where the map is full */
  update(key: Uint8Array | number, value: Uint8Array | number): void {
    this.#prepare(key);
    put(this.#memory, this.#valueAt, this.valueBytes, value);
    setPointer(4, this.#valueAt, this.#memory.addressHigh);
    orThrow(bpf(Command.MAP_UPDATE), 'bpf', 'map update');
  }

  /** The bytes of a key's value (a copy), or null. */
  lookup(key: Uint8Array | number): Uint8Array | null {
    this.#prepare(key);
    setPointer(4, this.#valueAt, this.#memory.addressHigh);
    if (bpf(Command.MAP_LOOKUP) === 0) return this.#memory.u8.slice(this.#valueAt, this.#valueAt + this.valueBytes);
    if (lastErrno() === ERRNO.ENOENT) return null;
    throw systemError(lastErrno(), 'bpf', 'map lookup');
  }

  /** Removes a key; false where it is not there. */
  delete(key: Uint8Array | number): boolean {
    this.#prepare(key);
    const result = orErrno(bpf(Command.MAP_DELETE));
    if (result < 0 && result !== -ERRNO.ENOENT) throw systemError(result, 'bpf', 'map delete');
    return result === 0;
  }

  /** The keys that are there now. */
  keys(): Uint8Array[] {
    const keys: Uint8Array[] = [];
    for (;;) {
      clearAttributes();
      scratchI32[at] = this.fd;
      const last = keys.at(-1);
      if (last !== undefined) {
        this.#memory.u8.set(last, 0);
        setPointer(2, 0, this.#memory.addressHigh);
      }
      setPointer(4, this.#valueAt, this.#memory.addressHigh);
      if (bpf(Command.MAP_NEXT_KEY) !== 0) return keys;
      keys.push(this.#memory.u8.slice(this.#valueAt, this.#valueAt + this.keyBytes));
      if (keys.length > this.maxEntries) return keys; // it changed while it was read
    }
  }

  /** Idempotent. The kernel keeps the map while a program uses it. */
  close(): void {
    if (!this.#open) return;
    this.#open = false;
    this.mapped?.close();
    this.#memory.close();
    close(this.fd);
  }

  #prepare(key: Uint8Array | number): void {
    if (!this.#open) throw systemError(ERRNO.EBADF, 'bpf', 'map');
    clearAttributes();
    scratchI32[at] = this.fd;
    put(this.#memory, 0, this.keyBytes, key);
    setPointer(2, 0, this.#memory.addressHigh);
  }
}

function createMap({ type, keyBytes, valueBytes, maxEntries, name, mappable }: MapOptions): number {
  clearAttributes();
  scratchI32[at] = type;
  scratchI32[at + 1] = keyBytes;
  scratchI32[at + 2] = valueBytes;
  scratchI32[at + 3] = maxEntries;
  scratchI32[at + 4] = mappable ? MAP_MMAPABLE : 0;
  setName(7, name);
  return orThrow(bpf(Command.MAP_CREATE), 'bpf', `map ${name}`, NEEDS);
}

function put(memory: MappedMemory, offset: number, bytes: number, value: Uint8Array | number): void {
  if (typeof value === 'number') {
    if (bytes !== 4) throw new TypeError(`a number for ${bytes} bytes`);
    memory.i32[offset >> 2] = value;
  } else {
    if (value.length !== bytes) throw new RangeError(`${value.length} bytes for ${bytes}`);
    memory.u8.set(value, offset);
  }
}

/** Times that a program is loaded again after a signal. */
const LOAD_TRIES = 64;

/** The verifier refused a program. `log` is all it said, `place` the label before the instruction it stopped at. */
export class BpfVerifierError extends IsthmusError {
  readonly log: string;
  readonly place: string;

  constructor(errno: number, name: string, log: string, place: string, reason: string) {
    const code = errnoName(errno);
    super(`${code}: the kernel's verifier refused program ${name} at ${place}: ${reason}`, {
      code,
      errno: -errno,
      syscall: 'bpf',
    });
    this.name = 'BpfVerifierError';
    this.log = log;
    this.place = place;
  }
}

export interface BpfProgram {
  readonly fd: number;
  readonly id: number;
  /** The kernel keeps the program while a link uses it. Idempotent. */
  close(): void;
}

/**
 * Loads an XDP program. `maps` has a map for each name that the code uses.
 * @throws BpfVerifierError; IsthmusError EPERM without the capabilities
 */
export function loadXdpProgram(name: string, code: BpfCode, maps: Readonly<Record<string, BpfMap>> = {}): BpfProgram {
  const codeBytes = code.count * 8;
  const memory = mapArena(64 + codeBytes + LOG_BYTES, { populate: false });
  try {
    memory.u8.set([0x47, 0x50, 0x4c]); // "GPL": some helpers are for programs of this licence only
    memory.i32.set(code.words, 16);
    for (const { slot, name: wanted } of code.maps) {
      const map = maps[wanted];
      if (map === undefined) throw new TypeError(`program ${name} has no map ${wanted}`);
      memory.i32[16 + 2 * slot + 1] = map.fd;
    }
    const loadOnce = (logLevel: number): number => {
      clearAttributes();
      scratchI32[at] = PROGRAM_TYPE_XDP;
      scratchI32[at + 1] = code.count;
      setPointer(2, 64, memory.addressHigh);
      setPointer(4, 0, memory.addressHigh);
      if (logLevel > 0) {
        scratchI32[at + 6] = logLevel;
        scratchI32[at + 7] = LOG_BYTES;
        setPointer(8, 64 + codeBytes, memory.addressHigh);
      }
      setName(12, name);
      scratchI32[at + 17] = ATTACH_XDP;
      return orErrno(bpf(Command.PROGRAM_LOAD));
    };
    // A signal interrupts the verifier (a profiler sends one each millisecond).
    const load = (logLevel: number): number => {
      let fd = loadOnce(logLevel);
      for (let tries = 0; fd === -ERRNO.EAGAIN && tries < LOAD_TRIES; tries++) fd = loadOnce(logLevel);
      return fd;
    };
    let fd = load(0);
    if (fd === -ERRNO.EPERM) throw systemError(fd, 'bpf', `program ${name}`, NEEDS);
    if (fd < 0) fd = load(1); // once more, to hear why
    if (fd < 0) throw verifierError(fd, name, code, memory, 64 + codeBytes);
    return descriptorObject(fd);
  } finally {
    memory.close();
  }
}

function verifierError(errno: number, name: string, code: BpfCode, memory: MappedMemory, at: number): IsthmusError {
  const end = memory.u8.indexOf(0, at);
  const log = new TextDecoder().decode(memory.u8.slice(at, end < 0 ? undefined : end)).trim();
  if (log === '') return systemError(errno, 'bpf', `program ${name}`);
  const lines = log.split('\n').filter((line) => !/^(processed \d|verification time|stack depth)/.test(line));
  const slot = [...log.matchAll(/^(\d+): \(/gm)].at(-1)?.[1];
  const place = slot === undefined ? 'its start' : `instruction ${slot} (${code.describe(Number(slot))})`;
  return new BpfVerifierError(-errno, name, log, place, lines.at(-1) ?? log);
}

function descriptorObject(fd: number): BpfProgram {
  let open = true;
  return {
    fd,
    id: objectId(fd),
    close: () => {
      if (open) close(fd);
      open = false;
    },
  };
}

/** Number of the program, map or link behind a descriptor; they all have it in the same place. */
function objectId(fd: number): number {
  clearAttributes();
  scratchI32.fill(0, info >> 2, (info >> 2) + 64);
  scratchI32[at] = fd;
  scratchI32[at + 1] = 16; // link and map information begin with type and id, and so does a program's
  setPointer(2, info, scratchHigh);
  orThrow(bpf(Command.INFO_BY_FD), 'bpf', 'object information');
  return scratchU32[(info >> 2) + 1]!;
}

/** native: in the driver, before the kernel has made a packet of it. generic ("SKB mode"): after that, on any device. */
export type XdpMode = 'native' | 'generic';

export interface XdpLink extends BpfProgram {
  readonly mode: XdpMode;
}

const MODE_FLAG: Record<XdpMode, number> = { generic: 1 << 1, native: 1 << 2 };

/**
 * Puts a program on an interface of the calling thread's network namespace, until the link is closed or the process ends.
 * @throws IsthmusError EBUSY where the interface has a program, EOPNOTSUPP where the driver has no such mode
 */
export function linkXdp(program: BpfProgram, interfaceIndex: number, mode: XdpMode): XdpLink {
  clearAttributes();
  scratchI32[at] = program.fd;
  scratchI32[at + 1] = interfaceIndex;
  scratchI32[at + 2] = ATTACH_XDP;
  scratchI32[at + 3] = MODE_FLAG[mode];
  const fd = orErrno(bpf(Command.LINK_CREATE));
  if (fd >= 0) return { ...descriptorObject(fd), mode };
  const about = `${mode} XDP on interface ${interfaceIndex}`;
  if (fd === -ERRNO.EEXIST || fd === -ERRNO.EBUSY) {
    throw systemError(ERRNO.EBUSY, 'bpf', about, 'the interface has an XDP program already');
  }
  throw systemError(
    fd,
    'bpf',
    about,
    fd === -ERRNO.EINVAL ? 'no such interface in this namespace, or a kernel before 5.9' : undefined,
  );
}

export interface TestRun {
  /** What the program returned, e.g. 2 for XDP_PASS. */
  readonly result: number;
  /** Mean nanoseconds of one run. */
  readonly durationNs: number;
}

/** Runs an XDP program over a frame without any interface (BPF_PROG_TEST_RUN), as if it had come in on queue 0 of `lo`. */
export function testXdpProgram(program: BpfProgram, frame: Uint8Array, repeat = 1): TestRun {
  if (frame.length < 14 || frame.length > MAX_FRAME_BYTES) throw new RangeError(`a frame of ${frame.length} bytes`);
  testFrame ??= mapArena(MAX_FRAME_BYTES, { populate: false });
  testFrame.u8.set(frame);
  clearAttributes();
  scratchI32[at] = program.fd;
  scratchI32[at + 2] = frame.length;
  setPointer(4, 0, testFrame.addressHigh);
  scratchI32[at + 8] = repeat;
  orThrow(bpf(Command.PROGRAM_TEST_RUN), 'bpf', 'test run');
  return { result: scratchI32[at + 1]!, durationNs: scratchU32[at + 9]! };
}

let testFrame: MappedMemory | null = null;

const NEXT_ID = { program: Command.PROGRAM_NEXT_ID, map: Command.MAP_NEXT_ID, link: Command.LINK_NEXT_ID } as const;

/** Numbers of all programs, maps or links in the kernel, of every process. Needs CAP_SYS_ADMIN. */
export function bpfObjectIds(kind: keyof typeof NEXT_ID): number[] {
  const ids: number[] = [];
  let last = 0;
  for (;;) {
    clearAttributes();
    scratchI32[at] = last;
    const result = orErrno(bpf(NEXT_ID[kind]));
    if (result === -ERRNO.ENOENT) return ids;
    if (result < 0) throw systemError(result, 'bpf', `list of ${kind}s`, 'this needs CAP_SYS_ADMIN');
    last = scratchI32[at + 1]!;
    ids.push(last);
  }
}
