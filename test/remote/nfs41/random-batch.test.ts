/**
 * Random batches: as COMPOUNDs on NFSv4.1, and one operation after the other on NFSv3, must do and say the same.
 * More seeds: SEED=first SEEDS=count.
 */
import assert from 'node:assert/strict';
import { lstatSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import test, { after, before } from 'node:test';
import { Ganesha, ganeshaMissing } from '../../../src/bench/peers/ganesha.ts';
import { connectServer } from '../../../src/remote/connect.ts';
import { Nfs41Server } from '../../../src/remote/nfs41/server.ts';
import type { BatchResult, Handle, HandleRef, Operation, RemoteServer } from '../../../src/remote/server.ts';
import { need } from '../../support/need.ts';
import { bytes, text } from './remote-tests.ts';

const FIRST = Number(process.env['SEED'] ?? 1);
const COUNT = Number(process.env['SEEDS'] ?? 25);
const missing = ganeshaMissing();

let ganesha: Ganesha;
let batched: Nfs41Server;
let single: RemoteServer;

before(async () => {
  if (missing !== null) return;
  ganesha = await Ganesha.start();
  // Few operations in a COMPOUND, so that batches are cut in every place.
  batched = await Nfs41Server.connect({ host: '127.0.0.1', port: ganesha.port, path: '/export', maxOperations: 40 });
  single = await connectServer(ganesha.url('3'));
});
after(async () => {
  if (missing !== null) return;
  await batched.close();
  await single.close();
  await ganesha.stop();
});

/** Mulberry32. */
function random(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return Math.floor((((t ^ (t >>> 14)) >>> 0) / 2 ** 32) * below);
  };
}

/**
 * A batch of operations of which most succeed: a rough picture is kept of what is where. `known` are handles of existing
 * directories; the same choices are made whatever they are.
 */
function makeBatch(seed: number, known: readonly Handle[]): Operation[] {
  const below = random(seed);
  const pick = <T>(from: readonly T[]): T => from[below(from.length)]!;
  const operations: Operation[] = [];
  let directories: HandleRef[] = [...known];
  const files: HandleRef[] = [];
  /** Names that are probably there; `made` is who made the directory of that name. */
  let there: { directory: HandleRef; name: string; isDirectory: boolean; made: HandleRef | null }[] = [];
  // Now and then a wrong choice is made on purpose.
  const wrongly = (): boolean => below(60) === 0;
  const isThere = (directory: HandleRef, name: string) =>
    there.some((entry) => entry.directory === directory && entry.name === name);
  const newName = (directory: HandleRef): string => {
    for (;;) {
      const name = `n${below(40)}`;
      if (wrongly() || !isThere(directory, name)) return name;
    }
  };
  const isEmpty = (directory: HandleRef | null) => !there.some((entry) => entry.directory === directory);
  const isBelow = (directory: HandleRef, above: HandleRef | null): boolean => {
    if (directory === above) return true;
    const parent = there.find((entry) => entry.made === directory);
    return parent !== undefined && isBelow(parent.directory, above);
  };
  const length = 1 + below(40);
  while (operations.length < length) {
    const index = operations.length;
    const directory = pick(directories);
    const fresh = newName(directory);
    const name = bytes(fresh);
    const add = (isDirectory: boolean, made: HandleRef | null = null): void => {
      there.push({ directory, name: fresh, isDirectory, made });
    };
    const entry = there.length > 0 ? pick(there) : null;
    switch (below(17)) {
      case 0:
      case 1:
      case 2:
      case 3:
        files.push({ from: index });
        if (below(3) === 0) {
          // Of a name of its own kind: what an unchecked create does to a symlink is not the same on both versions.
          const again = bytes(`u${below(10)}`);
          operations.push({ op: 'create', directory, name: again, mode: 'unchecked', attributes: { size: 0 } });
        } else {
          operations.push({
            op: 'create',
            directory,
            name,
            mode: 'guarded',
            attributes: { mode: pick([0o644, 0o400]) },
          });
          add(false);
        }
        break;
      case 4:
      case 5: {
        operations.push({ op: 'mkdir', directory, name, attributes: { mode: 0o755 } });
        const made = { from: index };
        directories.push(made);
        add(true, made);
        break;
      }
      case 6:
        operations.push({ op: 'symlink', directory, name, target: bytes(`to ${fresh}`), attributes: {} });
        add(false);
        break;
      case 7:
      case 8:
      case 9: {
        if (files.length === 0) break;
        const data = bytes(`data ${index}`.repeat(1 + below(4)));
        operations.push({ op: 'write', handle: pick(files), offset: below(20), data, stability: 'unstable' });
        break;
      }
      case 10:
        if (files.length === 0) break;
        operations.push({ op: 'setattr', handle: pick(files), attributes: { size: below(30), mode: 0o600 } });
        break;
      case 11:
        if (files.length > 0) operations.push({ op: 'read', handle: pick(files), offset: 0, length: 100 });
        break;
      case 12:
        if (files.length === 0) break;
        operations.push({ op: 'link', handle: pick(files), directory, name });
        add(false);
        break;
      case 13:
        if (entry === null || (entry.made !== null && !isEmpty(entry.made) && !wrongly())) break;
        operations.push({
          op: entry.isDirectory !== wrongly() ? 'rmdir' : 'remove',
          directory: entry.directory,
          name: bytes(entry.name),
        });
        there = there.filter((other) => other !== entry);
        directories = directories.filter((other) => other !== entry.made);
        break;
      case 14:
      case 15:
        if (entry === null || (entry.made !== null && isBelow(directory, entry.made) && !wrongly())) break;
        operations.push({
          op: 'rename',
          fromDirectory: entry.directory,
          fromName: bytes(entry.name),
          toDirectory: directory,
          toName: name,
        });
        there = there.filter((other) => other !== entry);
        there.push({ ...entry, directory, name: fresh });
        break;
      case 16:
        if (entry === null) break;
        operations.push({ op: 'lookup', directory: entry.directory, name: bytes(entry.name) });
        break;
    }
  }
  return operations;
}

/** What can be compared of a result: not handles, times and numbers of inodes. */
function essence(result: BatchResult): unknown {
  if (!result.ok) return (result.error as NodeJS.ErrnoException).code ?? result.error.stack;
  const { value } = result;
  if ('data' in value) return text(value.data);
  if ('count' in value) return value.count;
  if ('handle' in value && 'attributes' in value) return value.attributes.type;
  return 'done';
}

/** Everything below a directory, as text. */
function tree(path: string): string {
  const lines: string[] = [];
  const walk = (at: string, prefix: string): void => {
    for (const name of readdirSync(at).sort()) {
      const full = join(at, name);
      const stat = lstatSync(full);
      const what = stat.isDirectory()
        ? '/'
        : stat.isSymbolicLink()
          ? ` -> ${readlinkSync(full)}`
          : ` ${(stat.mode & 0o777).toString(8)} x${stat.nlink} ${JSON.stringify(readFileSync(full, 'latin1'))}`;
      lines.push(`${prefix}${name}${what}`);
      if (stat.isDirectory()) walk(full, `${prefix}${name}/`);
    }
  };
  walk(path, '');
  return lines.join('\n');
}

test(`random batches are the same as one operation after the other (seeds ${FIRST} to ${FIRST + COUNT - 1})`, async (t) => {
  if (!need(t, missing === null, missing ?? '')) return;
  let failures = 0;
  let operations = 0;
  for (let seed = FIRST; seed < FIRST + COUNT; seed++) {
    const [mine, theirs] = await Promise.all(
      ['b', 's'].map((kind) => batched.mkdir(batched.root, bytes(`${kind}${seed}`), {}).then(({ handle }) => handle)),
    );
    // Handles are the same on both versions with some servers only: each looks for its own.
    const own = (await single.lookup(single.root, bytes(`s${seed}`))).handle;
    assert.ok(theirs !== undefined);
    for (let round = 0; round < 3; round++) {
      const results = await batched.batch(makeBatch(seed * 10 + round, [mine!]));
      const expected = await single.batch(makeBatch(seed * 10 + round, [own]));
      assert.deepEqual(results.map(essence), expected.map(essence), `seed ${seed}, round ${round}`);
      const path = (kind: string) => join(ganesha.exportDir, `${kind}${seed}`);
      assert.equal(tree(path('b')), tree(path('s')), `seed ${seed}, round ${round}`);
      operations += results.length;
      if (results.some((result) => !result.ok)) failures++;
    }
  }
  const { compounds } = batched.batchCounters;
  t.diagnostic(
    `${operations} operations in ${compounds} COMPOUNDs, ${failures} of ${COUNT * 3} batches stopped at a failure`,
  );
  assert.ok(operations > COUNT * 10);
});
