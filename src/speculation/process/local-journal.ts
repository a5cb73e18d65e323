/**
 * The undo log of local directories given to a run: what speculating processes change there can be put back until it is settled.
 * It reads, writes, links and renames files in those directories and keeps removed ones in a directory of its own beside them.
 *
 * A change is recorded before its call is made, with all that its process depends on then. It is put back when one of these is
 * undone, newest first, and forgotten when all are committed. Whoever wants to see something that was changed must depend on the
 * change or wait (`isSettledFor`), so whatever is built upon a change is undone with it.
 */
import {
  type BigIntStats,
  chmodSync,
  chownSync,
  closeSync,
  constants,
  fstatSync,
  ftruncateSync,
  linkSync,
  lstatSync,
  openSync,
  readSync,
  renameSync,
  rmdirSync,
  rmSync,
  unlinkSync,
  writeSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { ERRNO, systemError } from '../../errors.ts';
import { linkOpenFile, setFileTimes } from '../../linux/descriptor.ts';
import { bytesOf, keepTimes, keyOf, makeKeep, namesOf, statsOf, tolerate } from './local-files.ts';
import { type Checkpoint, dependencies, dependsOnAll, type Tracee } from './tracee.ts';

export interface JournalLimits {
  /** Of overwritten and cut-off data, which is kept in memory. */
  readonly bytes: number;
  readonly records: number;
}

export const DEFAULT_JOURNAL: JournalLimits = { bytes: 64 << 20, records: 4096 };

/** Why a change cannot be recorded: its call waits for the truth. */
export type Unrecordable = string;

/** A file whose data or attributes were changed, held open by us for reading (a writer would keep it from being executed). */
interface HeldFile {
  readonly key: string;
  readonly fd: number;
  records: number;
}

export interface JournalRecord {
  readonly dependsOn: Set<Checkpoint>;
  /** What was changed: names (`/tmp/x`), listings (`/tmp/`), contents and attributes (device:inode). */
  readonly keys: readonly string[];
  readonly bytes: number;
  readonly undo: () => void;
  /** Frees what was kept for it. */
  readonly release: () => void;
}

/** Writes at or behind `from` need no further record while this one lasts: it cuts them off. */
interface Growth {
  readonly record: JournalRecord;
  readonly from: number;
}

export class LocalJournal {
  readonly #directories: readonly string[];
  readonly #limits: JournalLimits;
  #records: JournalRecord[] = [];
  readonly #byKey = new Map<string, Set<JournalRecord>>();
  readonly #files = new Map<string, HeldFile>();
  readonly #growth = new Map<string, Growth>();
  /** Where removed files are kept, by device. */
  readonly #keeps = new Map<bigint, string>();
  #bytes = 0;
  #kept = 0;

  /** Of absolute paths without symbolic links. */
  constructor(directories: readonly string[], limits: JournalLimits = DEFAULT_JOURNAL) {
    this.#directories = directories;
    this.#limits = limits;
  }

  get empty(): boolean {
    return this.#records.length === 0;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** Whether the process depends on everything that was changed under this key and may still be undone. */
  isSettledFor(tracee: Tracee, key: string): boolean {
    for (const { dependsOn } of this.#byKey.get(key) ?? []) if (!dependsOnAll(tracee, dependsOn)) return false;
    return true;
  }

  // ---- changes about to be made

  /** A name is about to be made. */
  make(tracee: Tracee, path: string, isDirectory = false): JournalRecord | Unrecordable {
    const restoreTimes = keepTimes(dirname(path));
    return this.#add(tracee, namesOf(path), 0, () => {
      tolerate('ENOENT', () => (isDirectory ? rmdirSync(bytesOf(path)) : unlinkSync(bytesOf(path))));
      restoreTimes();
    });
  }

  /** A name that is not a directory's is about to be removed, or replaced. */
  remove(tracee: Tracee, path: string, stats: BigIntStats): JournalRecord | Unrecordable {
    const restoreTimes = keepTimes(dirname(path));
    const keys = [...namesOf(path), keyOf(stats)];
    if (stats.isFile() && stats.nlink > 1n) return this.#removeOne(tracee, path, keys, restoreTimes);
    const kept = this.#keep(path, stats);
    if (kept === undefined) return 'a removed file could not be kept';
    const undo = (): void => {
      tolerate('EEXIST', () => linkSync(kept, bytesOf(path)));
      restoreTimes();
    };
    const record = this.#add(tracee, keys, 0, undo, () => unlinkSync(kept));
    if (typeof record === 'string') unlinkSync(kept);
    return record;
  }

  /** One of several names: the others keep the file, so that no further name of it shows in its link count. */
  #removeOne(
    tracee: Tracee,
    path: string,
    keys: readonly string[],
    restoreTimes: () => void,
  ): JournalRecord | Unrecordable {
    const file = this.#hold(path);
    if (file === undefined) return 'its file cannot be read';
    const undo = (): void => {
      const errno = -linkOpenFile(file.fd, bytesOf(path));
      if (errno !== 0 && errno !== ERRNO.EEXIST) throw systemError(errno, 'linkat', path);
      restoreTimes();
    };
    const record = this.#add(tracee, keys, 0, undo, () => this.#letGo(file));
    if (typeof record === 'string') this.#letGo(file);
    return record;
  }

  /** `from` is about to become `to`, which is no directory. */
  rename(tracee: Tracee, from: string, to: string, replaced: BigIntStats | undefined): JournalRecord | Unrecordable {
    const moved = lstatSync(bytesOf(from), { bigint: true });
    const first = replaced && this.remove(tracee, to, replaced);
    if (typeof first === 'string') return first;
    const restoreTimes = [keepTimes(dirname(from)), keepTimes(dirname(to))];
    const second = this.#add(tracee, [...namesOf(from), ...namesOf(to)], 0, () => {
      const now = statsOf(to);
      if (now === undefined || keyOf(now) !== keyOf(moved)) return; // it was not done
      renameSync(bytesOf(to), bytesOf(from));
      for (const restore of restoreTimes) restore();
    });
    if (first === undefined || typeof second === 'string') {
      if (first !== undefined) this.drop(first);
      return second;
    }
    // One call, one record.
    const both: JournalRecord = {
      dependsOn: second.dependsOn,
      keys: [...first.keys, ...second.keys],
      bytes: 0,
      undo: () => {
        second.undo();
        first.undo();
      },
      release: first.release,
    };
    this.#forget(first);
    this.#forget(second);
    this.#records = this.#records.filter((record) => record !== first && record !== second);
    this.#insert(both);
    return both;
  }

  /**
   * Bytes from `start` to `end` of a regular file are about to be overwritten, or (`cut`) what is from `start` on cut off.
   * `path` leads to it, also by way of /proc. Undefined: it is covered by an earlier record.
   */
  data(
    tracee: Tracee,
    path: string,
    start: number,
    end: number,
    cut = false,
  ): JournalRecord | Unrecordable | undefined {
    const file = this.#hold(path);
    if (file === undefined) return 'its file cannot be read';
    const { key, fd } = file;
    const growth = this.#growth.get(key);
    if (growth !== undefined && start >= growth.from) {
      if (dependencies(tracee).every((checkpoint) => growth.record.dependsOn.has(checkpoint))) {
        this.#letGo(file);
        return undefined;
      }
    }
    const { size: bigSize, atimeNs, mtimeNs } = fstatSync(fd, { bigint: true });
    const size = Number(bigSize);
    const until = cut ? size : Math.min(end, size);
    const length = Math.max(0, until - start);
    if (this.#bytes + length > this.#limits.bytes) {
      this.#letGo(file);
      return 'too much of local files would have to be kept';
    }
    const old = Buffer.alloc(length);
    for (let at = 0; at < length; ) {
      const got = readSync(fd, old, at, length - at, start + at);
      if (got === 0) break;
      at += got;
    }
    const undo = (): void => {
      const writable = openSync(`/proc/self/fd/${fd}`, constants.O_WRONLY);
      try {
        for (let at = 0; at < length; ) at += writeSync(writable, old, at, length - at, start + at);
        ftruncateSync(writable, size);
        setFileTimes(writable, atimeNs, mtimeNs);
      } finally {
        closeSync(writable);
      }
    };
    const record = this.#add(tracee, [key], length, undo, () => this.#letGo(file));
    if (typeof record === 'string') this.#letGo(file);
    else if (length === 0 && !cut) this.#growth.set(key, { record, from: size });
    return record;
  }

  /** Mode, owner or times of a file or directory are about to change. */
  attributes(tracee: Tracee, path: string): JournalRecord | Unrecordable {
    const file = this.#hold(path);
    if (file === undefined) return 'its file cannot be read';
    const { mode, uid, gid, atimeNs, mtimeNs } = fstatSync(file.fd, { bigint: true });
    const undo = (): void => {
      const link = `/proc/self/fd/${file.fd}`;
      chownSync(link, Number(uid), Number(gid));
      chmodSync(link, Number(mode) & 0o7777);
      setFileTimes(file.fd, atimeNs, mtimeNs);
    };
    const record = this.#add(tracee, [file.key], 0, undo, () => this.#letGo(file));
    if (typeof record === 'string') this.#letGo(file);
    return record;
  }

  /** The call that a record was made for has failed: nothing is to be put back. */
  drop(record: JournalRecord): void {
    if (!this.#records.includes(record)) return; // all that it depended on was committed meanwhile
    this.#records = this.#records.filter((one) => one !== record);
    this.#forget(record);
    record.release();
  }

  // ---- what becomes of them

  committed(checkpoint: Checkpoint): void {
    for (const record of this.#records) {
      if (record.dependsOn.delete(checkpoint) && record.dependsOn.size === 0) {
        this.#forget(record);
        record.release();
      }
    }
    this.#records = this.#records.filter(({ dependsOn }) => dependsOn.size > 0);
  }

  /** Puts back what depends on them. All processes that could still change it must have stopped. */
  undone(checkpoints: ReadonlySet<Checkpoint>): void {
    this.#undo(({ dependsOn }) => [...dependsOn].some((checkpoint) => checkpoints.has(checkpoint)));
  }

  /** The run is over: what was never settled is put back. */
  close(): void {
    this.#undo(() => true);
    for (const directory of this.#keeps.values()) rmSync(directory, { recursive: true, force: true });
    this.#keeps.clear();
  }

  #undo(which: (record: JournalRecord) => boolean): void {
    const undone = this.#records.filter(which).reverse();
    this.#records = this.#records.filter((record) => !undone.includes(record));
    for (const record of undone) {
      record.undo();
      this.#forget(record);
      record.release();
    }
  }

  // ---- inside

  #add(
    tracee: Tracee,
    keys: readonly string[],
    bytes: number,
    undo: () => void,
    release: () => void = () => {},
  ): JournalRecord | Unrecordable {
    if (this.#records.length >= this.#limits.records) {
      return 'too many changes of local files would have to be kept';
    }
    const record = { dependsOn: new Set(dependencies(tracee)), keys, bytes, undo, release };
    this.#insert(record);
    return record;
  }

  #insert(record: JournalRecord): void {
    this.#records.push(record);
    this.#bytes += record.bytes;
    for (const key of record.keys) {
      const set = this.#byKey.get(key);
      if (set === undefined) this.#byKey.set(key, new Set([record]));
      else set.add(record);
    }
  }

  #forget(record: JournalRecord): void {
    this.#bytes -= record.bytes;
    for (const key of record.keys) {
      const set = this.#byKey.get(key);
      if (set?.delete(record) && set.size === 0) this.#byKey.delete(key);
      if (this.#growth.get(key)?.record === record) this.#growth.delete(key);
    }
  }

  #hold(path: string): HeldFile | undefined {
    let fd: number;
    try {
      fd = openSync(bytesOf(path), constants.O_RDONLY | constants.O_NONBLOCK);
    } catch {
      return undefined;
    }
    const key = keyOf(fstatSync(fd, { bigint: true }));
    const known = this.#files.get(key);
    if (known === undefined) {
      const file = { key, fd, records: 1 };
      this.#files.set(key, file);
      return file;
    }
    closeSync(fd);
    known.records++;
    return known;
  }

  #letGo(file: HeldFile): void {
    if (--file.records > 0) return;
    this.#files.delete(file.key);
    closeSync(file.fd);
  }

  /** A second name for a file that is about to lose one. */
  #keep(path: string, { dev }: BigIntStats): string | undefined {
    const name = `${this.#kept++}`;
    try {
      let directory = this.#keeps.get(dev);
      if (directory === undefined) {
        directory = makeKeep(this.#directories.find((each) => path.startsWith(`${each}/`)) ?? dirname(path), dev);
        this.#keeps.set(dev, directory);
      }
      const kept = join(directory, name);
      linkSync(bytesOf(path), kept);
      return kept;
    } catch {
      return undefined;
    }
  }
}
