/**
 * Output withheld from terminals, pipes and sockets until what its writer depended on is committed.
 * It owns copies of the writers' descriptors and the bytes; it writes them out in the order in which they were withheld.
 */
import {
  canWrite,
  closeDescriptor,
  isRetry,
  sameOpenFile,
  takeDescriptor,
  writeBytes,
} from '../../linux/descriptor.ts';
import { sendSignal } from '../../linux/ptrace.ts';
import type { Pid } from './backend.ts';
import type { Checkpoint, Tracee } from './tracee.ts';

const SIGPIPE = 13;
const EPIPE = -32;
/** What a pipe that is ready takes without blocking (PIPE_BUF). */
const CHUNK_BYTES = 4096;

interface Piece {
  readonly writer: Tracee;
  /** A descriptor of ours, shared by the pieces of one open file. */
  readonly file: OpenFile;
  bytes: Uint8Array;
  readonly dependsOn: Set<Checkpoint>;
}

interface OpenFile {
  readonly fd: number;
  pieces: number;
  broken: boolean;
}

export class WithheldOutput {
  /** Bytes withheld and not yet written. */
  bytes = 0;
  #pieces: Piece[] = [];
  readonly #files = new Set<OpenFile>();
  readonly #ownPid: Pid;

  constructor(ownPid: Pid) {
    this.#ownPid = ownPid;
  }

  /** Takes over what a process is about to write; false when it must wait instead: nobody reads any more, or so. */
  add(writer: Tracee, fd: number, bytes: Uint8Array, dependsOn: readonly Checkpoint[]): boolean {
    const file = this.#open(writer.pid, fd);
    if (!file) return false;
    file.pieces++;
    this.bytes += bytes.length;
    this.#pieces.push({ writer, file, bytes, dependsOn: new Set(dependsOn) });
    return true;
  }

  /** A checkpoint is committed. */
  committed(checkpoint: Checkpoint): void {
    for (const piece of this.#pieces) piece.dependsOn.delete(checkpoint);
  }

  /** A checkpoint is undone, and with it what was written since. */
  undone(checkpoints: ReadonlySet<Checkpoint>): void {
    this.#keep((piece) => {
      for (const checkpoint of piece.dependsOn) if (checkpoints.has(checkpoint)) return false;
      return true;
    });
  }

  /** Whether anything of this process is still to be written. */
  waitsFor(writer: Tracee): boolean {
    return this.#pieces.some((piece) => piece.writer === writer);
  }

  /** Writes out what depends on nothing any more. True when something is left because nobody takes it now. */
  flush(): boolean {
    const stuck = new Set<OpenFile>();
    this.#keep((piece) => {
      const { file } = piece;
      if (piece.dependsOn.size > 0) return true;
      if (file.broken) return false;
      if (stuck.has(file)) return true;
      while (piece.bytes.length > 0) {
        const state = canWrite(file.fd);
        if (state === 'no') {
          stuck.add(file);
          return true;
        }
        const got = writeBytes(file.fd, piece.bytes.subarray(0, CHUNK_BYTES));
        if (isRetry(got)) {
          stuck.add(file);
          return true;
        }
        if (got < 0) {
          // Its reader went away meanwhile: the writer learns it late, as with a larger pipe.
          file.broken = true;
          if (got === EPIPE && !piece.writer.ended) sendSignal(piece.writer.pid, SIGPIPE);
          return false;
        }
        piece.bytes = piece.bytes.subarray(got);
        this.bytes -= got;
      }
      return false;
    });
    return stuck.size > 0;
  }

  #keep(keep: (piece: Piece) => boolean): void {
    this.#pieces = this.#pieces.filter((piece) => {
      if (keep(piece)) return true;
      this.bytes -= piece.bytes.length;
      if (--piece.file.pieces === 0) {
        this.#files.delete(piece.file);
        closeDescriptor(piece.file.fd);
      }
      return false;
    });
  }

  #open(pid: Pid, fd: number): OpenFile | undefined {
    for (const file of this.#files) {
      if (sameOpenFile(pid, fd, this.#ownPid, file.fd)) return canWrite(file.fd) === 'broken' ? undefined : file;
    }
    const taken = takeDescriptor(pid, fd);
    if (taken < 0) return undefined;
    if (canWrite(taken) === 'broken') {
      closeDescriptor(taken);
      return undefined;
    }
    const file: OpenFile = { fd: taken, pieces: 0, broken: false };
    this.#files.add(file);
    return file;
  }
}
