/** The undo log of local directories alone: random changes under random checkpoints, what others may see, and its bounds. */
import assert from 'node:assert/strict';
import {
  appendFileSync,
  chmodSync,
  closeSync,
  constants,
  linkSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  symlinkSync,
  truncateSync,
  unlinkSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { keyOf, statsOf } from '../../../src/speculation/process/local-files.ts';
import { type JournalRecord, LocalJournal } from '../../../src/speculation/process/local-journal.ts';
import {
  type Checkpoint,
  createCheckpoint,
  createTracee,
  learnFrom,
  type Tracee,
} from '../../../src/speculation/process/tracee.ts';
import { random } from '../engine/model.ts';

let ids = 0;
function take(tracee: Tracee): Checkpoint {
  const checkpoint = createCheckpoint({
    id: ++ids,
    tracee,
    copy: 0,
    registers: new Uint32Array(0),
    repeat: true,
    mask: [0, 0],
    positions: [],
    closesLate: false,
    raised: [],
  });
  tracee.checkpoints.push(checkpoint);
  return checkpoint;
}

/** Everything a program could tell of a tree, but for inode numbers and times of symbolic links. */
function look(root: string): string[] {
  return readdirSync(root)
    .sort()
    .flatMap((name) => {
      const path = join(root, name);
      const stat = lstatSync(path, { bigint: true });
      if (stat.isSymbolicLink()) return [`${path} -> ${readlinkSync(path)}`];
      const line = `${path} ${stat.mode} ${stat.nlink} ${stat.mtimeNs}`;
      return stat.isDirectory() ? [line, ...look(path)] : [`${line} ${readFileSync(path, 'latin1')}`];
    });
}

function inDirectory(run: (directory: string) => void): void {
  const above = mkdtempSync(join(tmpdir(), 'isthmus-journal-'));
  try {
    mkdirSync(join(above, 'local'));
    run(join(above, 'local'));
  } finally {
    rmSync(above, { recursive: true, force: true });
  }
}

function recorded(record: JournalRecord | string | undefined): void {
  assert.notEqual(typeof record, 'string', String(record));
}

/** One random change, recorded before it is made. */
function change(journal: LocalJournal, tracee: Tracee, root: string, next: (below: number) => number): void {
  const name = () => join(root, next(3) === 0 ? `d${next(2)}` : '', `f${next(5)}`);
  const [a, b] = [name(), name()];
  const [there, other] = [statsOf(a), statsOf(b)];
  const parentOf = (path: string) => lstatSync(join(path, '..'), { throwIfNoEntry: false });
  if (!parentOf(a) || !parentOf(b)) {
    const directory = join(root, `d${next(2)}`);
    if (statsOf(directory)) return;
    recorded(journal.make(tracee, directory, true));
    mkdirSync(directory);
    return;
  }
  const text = 'abcdefgh'.repeat(1 + next(40));
  const isFile = there?.isFile() === true;
  switch (next(10)) {
    case 0:
    case 1:
      if (there) return;
      recorded(journal.make(tracee, a));
      writeFileSync(a, '');
      recorded(journal.data(tracee, a, 0, text.length));
      writeFileSync(a, text);
      return;
    case 2:
      if (!isFile) return;
      recorded(journal.data(tracee, a, Number(there.size), Number(there.size) + text.length));
      appendFileSync(a, text);
      return;
    case 3: {
      if (!isFile) return;
      const at = next(400);
      recorded(journal.data(tracee, a, at, at + text.length));
      const fd = openSync(a, constants.O_WRONLY);
      writeSync(fd, text, at);
      closeSync(fd);
      return;
    }
    case 4: {
      if (!isFile) return;
      const size = next(500);
      recorded(journal.data(tracee, a, size, 0, true));
      truncateSync(a, size);
      return;
    }
    case 5:
      if (!there) return;
      recorded(journal.remove(tracee, a, there));
      unlinkSync(a);
      return;
    case 6:
      if (!there || (other && keyOf(other) === keyOf(there))) return;
      recorded(journal.rename(tracee, a, b, other));
      renameSync(a, b);
      return;
    case 7:
      if (there) return;
      recorded(journal.make(tracee, a));
      symlinkSync(`to${next(9)}`, a);
      return;
    case 8:
      if (!isFile || other) return;
      recorded(journal.make(tracee, b));
      linkSync(a, b);
      return;
    default:
      if (!isFile) return;
      recorded(journal.attributes(tracee, a));
      chmodSync(a, next(2) ? 0o600 : 0o644);
      utimesSync(a, next(1e9), next(1e9));
  }
}

describe('the journal of local directories', () => {
  for (let seed = 1; seed <= 8; seed++) {
    test(`puts back exactly what was, seed ${seed}`, () => {
      inDirectory((root) => {
        const rnd = random(seed);
        const next = (below: number): number => Math.floor(rnd() * below);
        const journal = new LocalJournal([root]);
        const tracee = createTracee(1, undefined, 1);
        const before = new Map<Checkpoint, string[]>();
        for (let step = 0; step < 300; step++) {
          const { checkpoints } = tracee;
          if (checkpoints.length === 0 || (checkpoints.length < 6 && next(8) === 0))
            before.set(take(tracee), look(root));
          if (next(15) === 0) journal.committed(checkpoints.shift()!);
          else if (next(12) === 0) {
            const undone = checkpoints.splice(next(checkpoints.length));
            journal.undone(new Set(undone));
            // A kept file has one name more than it should: nothing of it may be left when it is put back.
            if (checkpoints.length === 0) assert.deepEqual(look(root), before.get(undone[0]!));
          } else change(journal, tracee, root, next);
        }
        const [first] = tracee.checkpoints;
        journal.undone(new Set(tracee.checkpoints.splice(0)));
        if (first) assert.deepEqual(look(root), before.get(first));
        assert.deepEqual([journal.empty, journal.bytes], [true, 0]);
        journal.close();
        assert.deepEqual(readdirSync(join(root, '..')), ['local'], 'nothing is kept');
      });
    });
  }

  test('a removed file comes back as itself', () => {
    inDirectory((root) => {
      const journal = new LocalJournal([root]);
      const tracee = createTracee(1, undefined, 1);
      const checkpoint = take(tracee);
      const path = join(root, 'file');
      writeFileSync(path, 'text');
      const was = statsOf(path)!;
      recorded(journal.remove(tracee, path, was));
      unlinkSync(path);
      journal.undone(new Set([checkpoint]));
      assert.equal(keyOf(statsOf(path)!), keyOf(was));
      assert.equal(statsOf(path)!.nlink, 1n);
      journal.close();
    });
  });

  test('what one process has changed is not settled for another, until it depends on it', () => {
    inDirectory((root) => {
      const journal = new LocalJournal([root]);
      const [writer, reader] = [createTracee(1, undefined, 1), createTracee(2, undefined, 1)];
      const checkpoint = take(writer);
      const path = join(root, 'file');
      recorded(journal.make(writer, path));
      writeFileSync(path, '');
      const keys = [path, `${root}/`];
      assert.deepEqual(
        keys.map((key) => journal.isSettledFor(writer, key)),
        [true, true],
      );
      assert.deepEqual(
        keys.map((key) => journal.isSettledFor(reader, key)),
        [false, false],
      );
      assert.equal(journal.isSettledFor(reader, join(root, 'another')), true);
      take(reader);
      learnFrom(reader, writer);
      assert.deepEqual(
        keys.map((key) => journal.isSettledFor(reader, key)),
        [true, true],
      );
      journal.committed(checkpoint);
      assert.equal(journal.isSettledFor(createTracee(3, undefined, 1), path), true);
      journal.close();
      assert.equal(statsOf(path)?.isFile(), true);
    });
  });

  test('at its bounds it refuses, and keeps nothing of what it refused', () => {
    inDirectory((root) => {
      const journal = new LocalJournal([root], { bytes: 100, records: 3 });
      const tracee = createTracee(1, undefined, 1);
      const checkpoint = take(tracee);
      const path = join(root, 'file');
      writeFileSync(path, 'x'.repeat(1000));
      assert.equal(typeof journal.data(tracee, path, 0, 200), 'string');
      assert.deepEqual([journal.empty, journal.bytes], [true, 0]);
      for (let i = 0; i < 3; i++) recorded(journal.data(tracee, path, 10 * i, 10 * i + 10));
      assert.equal(journal.bytes, 30);
      assert.equal(typeof journal.make(tracee, join(root, 'new')), 'string');
      assert.equal(typeof journal.remove(tracee, path, statsOf(path)!), 'string');
      assert.equal(statsOf(path)!.nlink, 1n);
      journal.committed(checkpoint);
      assert.deepEqual([journal.empty, journal.bytes], [true, 0]);
      journal.close();
      assert.deepEqual(readdirSync(join(root, '..')), ['local']);
    });
  });
});
