/**
 * Requests about open files and directories: from each opcode to the view operation it means, and from the answer to the reply.
 * It uses the session it belongs to.
 */
import { ERRNO } from '../../errors.ts';
import type { Credential } from '../server.ts';
import { FileType } from '../server.ts';
import { closeFile, type OpenFile, openFile } from '../view/files.ts';
import type { ViewNode } from '../view/node.ts';
import { Read } from '../view/operations/read.ts';
import { Readdir } from '../view/operations/readdir.ts';
import { type Caller, Open, wantedAccess } from '../view/operations/reading.ts';
import { Flush, Setattr, Write } from '../view/operations/writing.ts';
import { OpenFlag } from './abi.ts';
import { Handler, shownOf } from './handler.ts';
import { HandleTable, OpenDirectory } from './handles.ts';

const O_ACCMODE = 3;
const O_TRUNC = 0o1000;
/** Offset of the first entry after `.` and `..`. */
const FIRST_ENTRY = 2;

export class FileHandler extends Handler {
  readonly #files = new HandleTable<OpenFile>();
  readonly #directories = new HandleTable<OpenDirectory>();

  openFiles(): OpenFile[] {
    return [...this.#files.all(), ...[...this.#directories.all()].map(({ file }) => file)];
  }

  open(node: ViewNode, flags: number): void {
    const caller = this.caller(this.reader.pid);
    let opened = 0;
    const undo = (): void => this.closed(opened);
    if ((flags & O_TRUNC) !== 0) {
      this.session.run(
        () => new Setattr(this.view, caller, node, { size: 0 }),
        () => {
          opened = this.opened(node, flags, caller.credential, false);
        },
        undo,
      );
      return;
    }
    this.session.run(
      () => new Open(this.view, caller, node, wantedAccess(flags)),
      () => {
        opened = this.opened(node, flags, caller.credential, false);
      },
      undo,
    );
  }

  /** Gives the file a number and writes fuse_open_out. */
  opened(node: ViewNode, flags: number, credential: Credential | null, created: boolean): number {
    const number = this.#files.add(openFile(node, flags, credential));
    // Pages that the kernel kept are of this state of the file, or of an earlier one.
    const keep = !created && node.kernelEpoch === node.epoch;
    node.kernelEpoch = node.epoch;
    const readOnly = (flags & O_ACCMODE) === 0;
    this.reply.open(number, (keep ? OpenFlag.KEEP_CACHE : 0) | (readOnly ? OpenFlag.NOFLUSH : 0));
    return number;
  }

  read(): void {
    const file = this.#files.get(this.reader.u64(0));
    const offset = this.reader.u64(8);
    const length = Math.min(this.reader.u32(16), this.session.options.payloadMax);
    if (file === undefined) {
      this.session.refuse(ERRNO.EBADF);
      return;
    }
    if (offset > this.view.server.info.maxFileSize) {
      this.session.refuse(0); // nothing is there: the answer is empty
      return;
    }
    this.session.run(
      () => new Read(this.view, file, offset, length),
      (answer, operation) => (operation as Read).copyOut(this.reply.room(Math.min(answer.length, length))),
    );
  }

  write(): void {
    const file = this.#files.get(this.reader.u64(0));
    const offset = this.reader.u64(8);
    if (file === undefined) {
      this.session.refuse(ERRNO.EBADF);
      return;
    }
    let bytes = this.reader.bytes(40, this.reader.u32(16));
    let kept = false;
    this.session.run(
      () => new Write(this.view, file, offset, bytes),
      (written) => this.reply.written(written),
      undefined,
      () => {
        if (!kept) bytes = bytes.slice();
        kept = true;
      },
    );
  }

  flush(): void {
    const file = this.#files.get(this.reader.u64(0));
    if (file === undefined) {
      this.session.refuse(ERRNO.EBADF);
      return;
    }
    this.session.run(
      () => new Flush(this.view, file),
      () => {},
    );
  }

  release(): void {
    this.closed(this.reader.u64(0));
    this.session.refuse(0);
  }

  closed(number: number): void {
    const file = this.#files.take(number);
    if (file === undefined) return;
    // Written through a mapping after the last flush.
    if (file.node.data?.unwritten && file.node.silly === null) void this.view.writeBack.flush(file.node);
    closeFile(this.view, file);
  }

  // ---- directories

  /** Opening a directory asks nobody: the first read of it does. */
  openDirectory(node: ViewNode): void {
    if (node.attributes.type !== FileType.directory) {
      this.session.refuse(ERRNO.ENOTDIR);
      return;
    }
    const { unique } = this.reader;
    const file = openFile(node, 0, this.caller().credential);
    const number = this.#directories.add(new OpenDirectory(this.view, file));
    this.reply.begin(unique);
    this.reply.open(number, 0);
    if (!this.session.send(this.reply.finish())) this.#closedDirectory(number);
  }

  readdir(plus: boolean): void {
    const directory = this.#directories.get(this.reader.u64(0));
    const offset = this.reader.u64(8);
    const limit = Math.min(this.reader.u32(16), this.session.options.payloadMax);
    if (directory === undefined) {
      this.session.refuse(ERRNO.EBADF);
      return;
    }
    if (offset > 0 && directory.entries !== null) {
      this.reply.begin(this.reader.unique);
      const counted = this.#listing(directory, offset, limit, plus);
      if (!this.session.send(this.reply.finish())) for (const node of counted) this.uncount(node);
      return;
    }
    const caller: Caller = { credential: directory.file.credential, thread: this.reader.pid };
    let counted: ViewNode[] = [];
    this.session.run(
      () => new Readdir(this.view, caller, directory.file.node),
      ({ entries }) => {
        directory.take(entries);
        counted = this.#listing(directory, offset, limit, plus);
      },
      () => {
        for (const node of counted) this.uncount(node);
      },
    );
  }

  /** Writes as many entries from `offset` on as fit. @returns the nodes that the kernel was given references to */
  #listing(directory: OpenDirectory, offset: number, limit: number, plus: boolean): ViewNode[] {
    const { node } = directory.file;
    const entries = directory.entries!;
    const counted: ViewNode[] = [];
    for (let i = offset; i < entries.length + FIRST_ENTRY; i++) {
      if (i < FIRST_ENTRY) {
        const shown = i === 0 ? node : (node.parent ?? node);
        if (!this.#dirent(limit, plus, i === 0 ? '.' : '..', shown.inoHigh, shown.inoLow, i + 1)) break;
        continue;
      }
      const { name, node: child, ino, type } = entries[i - FIRST_ENTRY]!;
      const entry = this.view.nameOf(node, name);
      if (!plus || child === null || entry?.node !== child || this.view.node(child.id) !== child) {
        if (!this.#dirent(limit, plus, name, ino.high, ino.low, i + 1, type)) break;
        continue;
      }
      const nameMs = this.view.nameMs(node, entry);
      const attributesMs = this.view.keepMs(child);
      const shown = shownOf(child);
      const { inoHigh, inoLow } = child;
      const fits = this.reply.directoryEntryPlus(
        limit,
        name,
        inoHigh,
        inoLow,
        type,
        i + 1,
        child.id,
        nameMs,
        attributesMs,
        shown,
      );
      if (!fits) break;
      child.lookups++;
      counted.push(child);
    }
    return counted;
  }

  #dirent(
    limit: number,
    plus: boolean,
    name: string,
    inoHigh: number,
    inoLow: number,
    next: number,
    type: FileType | 0 = FileType.directory,
  ): boolean {
    if (!plus) return this.reply.directoryEntry(limit, name, inoHigh, inoLow, type, next);
    return this.reply.directoryEntryPlus(limit, name, inoHigh, inoLow, type, next, 0, 0, 0, null);
  }

  releaseDirectory(): void {
    this.#closedDirectory(this.reader.u64(0));
    this.session.refuse(0);
  }

  #closedDirectory(number: number): void {
    const directory = this.#directories.take(number);
    if (directory === undefined) return;
    directory.take(null);
    closeFile(this.view, directory.file);
  }
}
