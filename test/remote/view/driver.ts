/**
 * Drives a view as the session of a mount does, with paths: each call is one system call of a program, and gives what the
 * program would see as text. It touches only the view it is given.
 */
import { ERRNO } from '../../../src/errors.ts';
import { FileType, type SetAttributes } from '../../../src/remote/server.ts';
import { closeFile, type OpenFile, openFile } from '../../../src/remote/view/files.ts';
import type { ViewNode } from '../../../src/remote/view/node.ts';
import type { Outcome, ViewOperation } from '../../../src/remote/view/operation.ts';
import { Lookup } from '../../../src/remote/view/operations/lookup.ts';
import { Link, Make, type Making } from '../../../src/remote/view/operations/making.ts';
import { Remove, Rename } from '../../../src/remote/view/operations/moving.ts';
import { Read } from '../../../src/remote/view/operations/read.ts';
import { Readdir } from '../../../src/remote/view/operations/readdir.ts';
import { Getattr, Open, Readlink, wantedAccess } from '../../../src/remote/view/operations/reading.ts';
import { Flush, Setattr, Write } from '../../../src/remote/view/operations/writing.ts';
import type { View } from '../../../src/remote/view/view.ts';

/** A system call that failed. */
export class Failed extends Error {
  readonly errno: number;

  constructor(errno: number) {
    super(`errno ${errno}`);
    this.errno = errno;
  }
}

const CALLER = { credential: null, thread: 0 };

export class Driver {
  readonly view: View;
  /** References that a kernel would have: while a call runs. */
  readonly #held: ViewNode[] = [];

  constructor(view: View) {
    this.view = view;
  }

  /** As the session does it, with nobody speculating. */
  async run<Answer>(operation: ViewOperation<Answer>): Promise<Answer> {
    return answerOf(operation.lookLocal() ?? (await operation.perform()));
  }

  hold(node: ViewNode): ViewNode {
    node.lookups++;
    this.#held.push(node);
    return node;
  }

  /** The kernel forgets what it need not know: everything that is not open. */
  forget(): void {
    for (const { id } of this.#held.splice(0)) this.view.forget(id, 1);
  }

  async walk(path: string): Promise<ViewNode> {
    let node = this.view.root;
    for (const name of path.split('/')) {
      if (name === '') continue;
      if (node.attributes.type !== FileType.directory) throw new Failed(ERRNO.ENOTDIR);
      const found = (await this.run(new Lookup(this.view, CALLER, node, name))).node;
      if (found === null) throw new Failed(ERRNO.ENOENT);
      node = this.hold(found);
    }
    return node;
  }

  /** The directory of a path, and its last name. */
  async parent(path: string): Promise<[ViewNode, string]> {
    const cut = path.lastIndexOf('/');
    const directory = await this.walk(path.slice(0, cut));
    if (directory.attributes.type !== FileType.directory) throw new Failed(ERRNO.ENOTDIR);
    return [directory, path.slice(cut + 1)];
  }

  async stat(path: string): Promise<string> {
    const { attributes, size } = await this.run(new Getattr(this.view, CALLER, await this.walk(path)));
    const { type, mode, linkCount } = attributes;
    if (type === FileType.directory) return `directory ${mode.toString(8)} ${linkCount}`;
    return `${type} ${mode.toString(8)} ${linkCount} ${size}`;
  }

  async make(path: string, making: Making): Promise<ViewNode> {
    const [directory, name] = await this.parent(path);
    // The kernel looks before it makes.
    const { node } = await this.run(new Lookup(this.view, CALLER, directory, name));
    if (node !== null) throw new Failed(ERRNO.EEXIST);
    return this.hold((await this.run(new Make(this.view, CALLER, directory, name, making))).node!);
  }

  /** As `O_CREAT | O_EXCL` where `exclusive`, else as a shell's `>`. */
  async create(path: string, mode: number, exclusive = true): Promise<OpenFile> {
    const node = await this.make(path, { kind: 'create', mode, exclusive, truncate: !exclusive });
    return openFile(node, 2, null);
  }

  async open(path: string): Promise<OpenFile> {
    const node = await this.walk(path);
    if (node.attributes.type !== FileType.regular) throw new Failed(ERRNO.EISDIR);
    await this.run(new Open(this.view, CALLER, node, wantedAccess(2)));
    return openFile(node, 2, null);
  }

  async read(file: OpenFile, offset: number, length: number): Promise<Uint8Array> {
    const operation = new Read(this.view, file, offset, length);
    const bytes = new Uint8Array((await this.run(operation)).length);
    operation.copyOut(bytes);
    return bytes;
  }

  async write(file: OpenFile, offset: number, bytes: Uint8Array): Promise<void> {
    await this.run(new Write(this.view, file, offset, bytes));
  }

  async close(file: OpenFile): Promise<void> {
    try {
      await this.run(new Flush(this.view, file));
    } finally {
      closeFile(this.view, file);
      for (const node of this.view.nodes.all()) await Promise.all(node.leaving);
    }
  }

  async setattr(path: string, set: SetAttributes): Promise<void> {
    await this.run(new Setattr(this.view, CALLER, await this.walk(path), set));
  }

  async remove(path: string, kind: 'unlink' | 'rmdir'): Promise<void> {
    const [directory, name] = await this.parent(path);
    const { node } = await this.run(new Lookup(this.view, CALLER, directory, name));
    if (node === null) throw new Failed(ERRNO.ENOENT);
    await this.run(new Remove(this.view, CALLER, kind, directory, name));
  }

  async rename(fromPath: string, toPath: string): Promise<void> {
    const [from, fromName] = await this.parent(fromPath);
    const [to, toName] = await this.parent(toPath);
    const { node } = await this.run(new Lookup(this.view, CALLER, from, fromName));
    if (node === null) throw new Failed(ERRNO.ENOENT);
    await this.run(new Lookup(this.view, CALLER, to, toName));
    await this.run(new Rename(this.view, CALLER, from, fromName, to, toName));
  }

  async link(path: string, newPath: string): Promise<void> {
    const node = await this.walk(path);
    if (node.attributes.type === FileType.directory) throw new Failed(ERRNO.EPERM);
    const [directory, name] = await this.parent(newPath);
    const { node: old } = await this.run(new Lookup(this.view, CALLER, directory, name));
    if (old !== null) throw new Failed(ERRNO.EEXIST);
    await this.run(new Link(this.view, CALLER, node, directory, name));
  }

  async readlink(path: string): Promise<string> {
    const node = await this.walk(path);
    if (node.attributes.type !== FileType.symlink) throw new Failed(ERRNO.EINVAL);
    return Buffer.from(await this.run(new Readlink(this.view, CALLER, node))).toString('latin1');
  }

  async list(path: string): Promise<string> {
    const node = await this.walk(path);
    if (node.attributes.type !== FileType.directory) throw new Failed(ERRNO.ENOTDIR);
    const { entries } = await this.run(new Readdir(this.view, CALLER, node));
    return entries
      .map(({ name }) => name)
      .filter((name) => !name.startsWith('.nfs'))
      .sort()
      .join(' ');
  }
}

export function answerOf<Answer>(outcome: Outcome<Answer>): Answer {
  if (outcome.errno !== 0) throw new Failed(outcome.errno);
  return outcome.answer as Answer;
}
