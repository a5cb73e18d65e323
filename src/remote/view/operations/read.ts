/**
 * `read` of an open file, from cached blocks where it can.
 * It reaches the world only through its view.
 */
import type { OpenFile } from '../files.ts';
import { type Outcome, type Prediction, success } from '../operation.ts';
import type { View } from '../view.ts';
import { Reading } from './reading.ts';

export interface ReadAnswer {
  /** Bytes there are, from the offset asked for; {@link Read.copyOut} gives them. */
  readonly length: number;
}

/** Times that a read starts again because the file changed, or its blocks were dropped, while it was loaded. */
const TRIES_MAX = 8;

export class Read extends Reading<ReadAnswer> {
  readonly kind = 'read';
  readonly #file: OpenFile;
  readonly #offset: number;
  readonly #length: number;
  /** Bytes that could not be kept. */
  #bytes: Uint8Array | null = null;

  constructor(view: View, file: OpenFile, offset: number, length: number) {
    super(view, { credential: file.credential, thread: 0 }, [file.node]);
    this.#file = file;
    this.#offset = offset;
    this.#length = length;
  }

  lookLocal(): Outcome<ReadAnswer> | null {
    const { node } = this.#file;
    const end = Math.min(this.#offset + this.#length, node.size);
    if (end <= this.#offset) {
      // At the end as far as is known. The kernel has asked for the size before it asks to read beyond it.
      return node.handle === null || this.view.attributesMs(node) > 0 ? success({ length: 0 }) : null;
    }
    if (node.data === null || !node.data.valid.covers(this.#offset, end)) return null;
    this.view.loader.advance(this.#file, this.#offset, end);
    return success({ length: end - this.#offset });
  }

  predict(): Prediction<ReadAnswer> | null {
    return null;
  }

  agrees(): boolean {
    return false;
  }

  /** Copies the bytes of the answer out; right after it was given. */
  copyOut(target: Uint8Array): void {
    if (this.#bytes !== null) target.set(this.#bytes.subarray(0, target.byteLength));
    else if (target.byteLength > 0) this.#file.node.data!.copyOut(this.#offset, target);
  }

  protected async ask(): Promise<ReadAnswer> {
    const { view } = this;
    const file = this.#file;
    const { node } = file;
    const start = this.#offset;
    const sequential = start === 0 || Math.abs(start - file.nextOffset) < this.#length * 2;
    for (let tries = 0; tries < TRIES_MAX; tries++) {
      const wanted = start + this.#length;
      const end = Math.max(Math.min(wanted, node.size), start + 1);
      const loaded = view.loader.load(node, start, end, file.credential, sequential);
      if (tries === 0) view.loader.advance(file, start, end);
      // The server knows better than its attributes where the file ends.
      const known = Math.min(wanted, node.size, await loaded);
      if (known <= start) return { length: 0 };
      if (node.data?.valid.covers(start, known)) return { length: known - start };
    }
    return this.#direct();
  }

  /** Past the cache, which cannot keep up: bytes as the server gives them, and what is written here over them. */
  async #direct(): Promise<ReadAnswer> {
    const { view } = this;
    const { node } = this.#file;
    const handle = await view.handleOf(node);
    const length = this.#length;
    const bytes = new Uint8Array(length);
    const options = view.call(this.credential);
    let end = 0;
    // A program takes less than it asked for as the end of the file.
    while (end < length) {
      const part = Math.min(length - end, view.server.info.maxRead);
      const { data, eof } = await view.server.read(handle, this.#offset + end, part, options);
      bytes.set(data.subarray(0, part), end);
      end += Math.min(data.byteLength, part);
      if (eof || data.byteLength === 0) break;
    }
    for (const { start, end: to } of node.data?.valid.within(this.#offset, this.#offset + length) ?? []) {
      node.data!.copyOut(start, bytes.subarray(start - this.#offset, to - this.#offset));
      end = Math.max(end, to - this.#offset);
    }
    this.#bytes = bytes.subarray(0, end);
    return { length: end };
  }
}
