/**
 * Programs of random file operations, run on a view and on a plain tree side by side.
 * Pure but for the view.
 */
import fc from 'fast-check';
import { ERRNO } from '../../../src/errors.ts';
import { FileType } from '../../../src/remote/server.ts';
import { closeFile, type OpenFile } from '../../../src/remote/view/files.ts';
import { type Inode, type MemoryTree, TreeError } from '../memory-tree.ts';
import { type Driver, Failed } from './driver.ts';

export interface Step {
  readonly kind: (typeof KINDS)[number];
  readonly a: number;
  readonly b: number;
  readonly n: number;
}

const KINDS = [
  'create',
  'write',
  'read',
  'open',
  'close',
  'truncate',
  'chmod',
  'mkdir',
  'rmdir',
  'unlink',
  'rename',
  'link',
  'symlink',
  'readlink',
  'stat',
  'list',
  'wait',
] as const;

/** Few names, so that operations meet. */
const NAMES = ['a', 'b', 'c', 'd/a', 'd/b', 'd/c', 'd', 'e', 'e/a', 'd/e', 'd/e/a', '\xff\x01'];

export const steps = (maxLength: number): fc.Arbitrary<Step[]> =>
  fc.array(fc.record({ kind: fc.constantFrom(...KINDS), a: fc.nat(99), b: fc.nat(99), n: fc.nat(3000) }), {
    maxLength,
    size: 'max',
  });

/** Runs one program's steps; every result is text that can be compared. */
export interface Runner {
  step(step: Step): Promise<string>;
  end(): Promise<void>;
}

const bytesOf = ({ n, b }: Step): Uint8Array => new Uint8Array((n % 700) + 1).fill(b + 1);

/** @param root the program's own directory, `` or `/p0` */
export class ViewRunner implements Runner {
  readonly #driver: Driver;
  readonly #root: string;
  readonly #pass: (ms: number) => Promise<void>;
  readonly #files: OpenFile[] = [];

  constructor(driver: Driver, root: string, pass: (ms: number) => Promise<void>) {
    this.#driver = driver;
    this.#root = root;
    this.#pass = pass;
  }

  async step(step: Step): Promise<string> {
    try {
      return (await this.#do(step)) ?? 'done';
    } catch (error) {
      if (error instanceof Failed) return `errno ${error.errno}`;
      throw error;
    }
  }

  async end(): Promise<void> {
    for (const file of this.#files.splice(0)) await this.#driver.close(file);
  }

  /** The program is killed: its files are closed, and nothing is flushed. */
  abandon(): void {
    for (const file of this.#files.splice(0)) closeFile(this.#driver.view, file);
  }

  async #do(step: Step): Promise<string | undefined> {
    const driver = this.#driver;
    const path = `${this.#root}/${NAMES[step.a % NAMES.length]!}`;
    const other = `${this.#root}/${NAMES[step.b % NAMES.length]!}`;
    const file = this.#files[step.a % Math.max(1, this.#files.length)];
    switch (step.kind) {
      case 'create':
        this.#files.push(await driver.create(path, 0o600 + (step.n % 64), step.n % 2 === 0));
        return;
      case 'open':
        this.#files.push(await driver.open(path));
        return;
      case 'write':
        if (file === undefined) return 'no file';
        await driver.write(file, step.n, bytesOf(step));
        return;
      case 'read':
        if (file === undefined) return 'no file';
        return Buffer.from(await driver.read(file, step.n >> 1, step.b * 50)).toString('hex');
      case 'close': {
        if (file === undefined) return 'no file';
        this.#files.splice(step.a % this.#files.length, 1);
        await driver.close(file);
        return;
      }
      case 'truncate': {
        const node = await driver.walk(path);
        if (node.attributes.type !== FileType.regular) return 'no file';
        await driver.setattr(path, { size: step.n });
        return;
      }
      case 'chmod': {
        const node = await driver.walk(path);
        if (node.attributes.type === FileType.symlink) return 'a link';
        await driver.setattr(path, { mode: 0o600 + (step.n % 64) });
        return;
      }
      case 'mkdir':
        await driver.make(path, { kind: 'mkdir', mode: 0o755 });
        return;
      case 'symlink':
        await driver.make(path, { kind: 'symlink', target: `t${step.n}` });
        return;
      case 'rmdir':
      case 'unlink':
        await driver.remove(path, step.kind);
        return;
      case 'rename':
        await driver.rename(path, other);
        return;
      case 'link':
        await driver.link(path, other);
        return;
      case 'readlink':
        return driver.readlink(path);
      case 'stat':
        return driver.stat(path);
      case 'list':
        return driver.list(path);
      case 'wait':
        driver.forget();
        await this.#pass(step.n * 20);
        return;
    }
  }
}

/** The same on a tree that nobody else changes: what ought to happen. An open file without a name is called `.nfs…`, as on NFS. */
export class ModelRunner implements Runner {
  readonly #tree: MemoryTree;
  readonly #root: string;
  readonly #files: Inode[] = [];
  readonly #silly = new Map<Inode, Inode>();

  constructor(tree: MemoryTree, root: string) {
    this.#tree = tree;
    this.#root = root;
  }

  async step(step: Step): Promise<string> {
    try {
      return this.#do(step) ?? 'done';
    } catch (error) {
      if (error instanceof TreeError) return `errno ${error.errno}`;
      throw error;
    }
  }

  async end(): Promise<void> {
    while (this.#files.length > 0) this.#close(0);
  }

  #close(index: number): void {
    const [inode] = this.#files.splice(index, 1);
    const silly = this.#silly.get(inode!);
    if (silly === undefined || this.#files.includes(inode!)) return;
    this.#silly.delete(inode!);
    this.#tree.unlink(silly, `.nfs${inode!.ino}`);
  }

  /** What is about to lose its name steps aside if it is open. */
  #stepAside(directory: Inode, name: string): void {
    const inode = directory.entries.get(name);
    if (inode === undefined || !this.#files.includes(inode) || this.#silly.has(inode)) return;
    this.#silly.set(inode, directory);
    this.#tree.rename(directory, name, directory, `.nfs${inode.ino}`);
  }

  #parent(path: string): [Inode, string] {
    const cut = path.lastIndexOf('/');
    const directory = this.#tree.at(path.slice(0, cut));
    if (directory.type !== FileType.directory) throw new TreeError(ERRNO.ENOTDIR);
    return [directory, path.slice(cut + 1)];
  }

  #add(path: string, type: FileType, mode: number): Inode {
    const [directory, name] = this.#parent(path);
    return this.#tree.add(directory, name, type, { mode });
  }

  #do(step: Step): string | undefined {
    const tree = this.#tree;
    const path = `${this.#root}/${NAMES[step.a % NAMES.length]!}`;
    const other = `${this.#root}/${NAMES[step.b % NAMES.length]!}`;
    const file = this.#files[step.a % Math.max(1, this.#files.length)];
    switch (step.kind) {
      case 'create':
        this.#files.push(this.#add(path, FileType.regular, 0o600 + (step.n % 64)));
        return;
      case 'open': {
        const inode = tree.at(path);
        if (inode.type !== FileType.regular) throw new TreeError(ERRNO.EISDIR);
        this.#files.push(inode);
        return;
      }
      case 'write':
        if (file === undefined) return 'no file';
        tree.write(file, step.n, bytesOf(step));
        return;
      case 'read':
        if (file === undefined) return 'no file';
        return Buffer.from(tree.read(file, step.n >> 1, step.b * 50)).toString('hex');
      case 'close':
        if (file === undefined) return 'no file';
        this.#close(step.a % this.#files.length);
        return;
      case 'truncate': {
        const inode = tree.at(path);
        if (inode.type !== FileType.regular) return 'no file';
        tree.set(inode, { size: step.n });
        return;
      }
      case 'chmod': {
        const inode = tree.at(path);
        if (inode.type === FileType.symlink) return 'a link';
        tree.set(inode, { mode: 0o600 + (step.n % 64) });
        return;
      }
      case 'mkdir':
        this.#add(path, FileType.directory, 0o755);
        return;
      case 'symlink':
        this.#add(path, FileType.symlink, 0o777).target = `t${step.n}`;
        return;
      case 'rmdir':
      case 'unlink': {
        const [directory, name] = this.#parent(path);
        if (step.kind === 'rmdir') tree.rmdir(directory, name);
        else {
          tree.lookup(directory, name);
          this.#stepAside(directory, name);
          if (directory.entries.has(name)) tree.unlink(directory, name);
        }
        return;
      }
      case 'rename': {
        const [from, fromName] = this.#parent(path);
        const [to, toName] = this.#parent(other);
        const inode = tree.lookup(from, fromName);
        const target = to.entries.get(toName);
        const directory = (each: Inode): boolean => each.type === FileType.directory;
        if (target !== undefined && target !== inode && !directory(target) && !directory(inode)) {
          this.#stepAside(to, toName);
        }
        tree.rename(from, fromName, to, toName);
        return;
      }
      case 'link': {
        const inode = tree.at(path);
        if (inode.type === FileType.directory) throw new TreeError(ERRNO.EPERM);
        const [directory, name] = this.#parent(other);
        tree.link(inode, directory, name);
        return;
      }
      case 'readlink': {
        const inode = tree.at(path);
        if (inode.type !== FileType.symlink) throw new TreeError(ERRNO.EINVAL);
        return inode.target;
      }
      case 'stat': {
        const { type, mode, linkCount, size } = tree.attributes(tree.at(path));
        if (type === FileType.directory) return `directory ${mode.toString(8)} ${linkCount}`;
        return `${type} ${mode.toString(8)} ${linkCount} ${size}`;
      }
      case 'list': {
        const inode = tree.at(path);
        if (inode.type !== FileType.directory) throw new TreeError(ERRNO.ENOTDIR);
        return listed([...inode.entries.keys()]);
      }
      case 'wait':
        return;
    }
  }
}

/** Without the names of open files that were removed, whose numbers differ. */
function listed(names: string[]): string {
  return names
    .filter((name) => !name.startsWith('.nfs'))
    .sort()
    .join(' ');
}
