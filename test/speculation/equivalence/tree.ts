/**
 * The small tree that equivalence runs work in: made by seed, changed behind a cache's back, and put into lines to compare.
 * It writes below the directory it is given and nowhere else.
 */
import { createHash } from 'node:crypto';
import {
  appendFileSync,
  chmodSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { random } from '../engine/model.ts';

/** Sources with a Makefile, and some text. */
export function makeTree(root: string, seed: number): void {
  const rnd = random(seed ^ 0x7ee);
  mkdirSync(join(root, 'src'), { recursive: true });
  const count = 4 + Math.floor(rnd() * 6);
  const names = Array.from({ length: count }, (_, i) => `m${i}`);
  for (const [i, name] of names.entries()) {
    writeFileSync(join(root, 'src', `${name}.c`), `int ${name}(int x) { return x * ${i + 2} + 1; }\n`);
  }
  const calls = names.map((name) => `  s += ${name}(s);`).join('\n');
  const declarations = names.map((name) => `int ${name}(int);`).join('\n');
  writeFileSync(
    join(root, 'src/main.c'),
    `${declarations}\nint main(void) {\n  int s = 0;\n${calls}\n  return s % 100;\n}\n`,
  );
  const objects = ['main', ...names].map((name) => `${name}.o`).join(' ');
  writeFileSync(
    join(root, 'src/Makefile'),
    `OBJS = ${objects}\nprog: $(OBJS)\n\tcc -o $@ $(OBJS)\n%.o: %.c\n\tcc -O0 -c $< -o $@\nclean:\n\trm -f $(OBJS) prog\n`,
  );
  for (const directory of ['a', 'b/c']) {
    mkdirSync(join(root, 'doc', directory), { recursive: true });
    for (let i = 0; i < 3; i++) {
      const lines = Array.from({ length: 5 + Math.floor(rnd() * 300) }, (_, n) => `line ${n * i} return\n`);
      writeFileSync(join(root, 'doc', directory, `n${i}.txt`), lines.join(''));
    }
  }
}

/** Changes some of the tree behind the cache's back. */
export function makeStale(root: string, seed: number): void {
  const rnd = random(seed ^ 0x57a1e);
  const share = rnd() * 0.25;
  for (const path of filesIn(root)) {
    if (rnd() >= share) continue;
    const isSource = path.endsWith('.c') || path.endsWith('Makefile');
    const choice = rnd();
    if (choice < 0.3) {
      const comment = path.endsWith('.c') ? '#define' : '#';
      appendFileSync(path, isSource ? `\n${comment} later${Math.floor(rnd() * 9)}\n` : 'more return\n');
    } else if (choice < 0.5 && !isSource) rmSync(path);
    else if (choice < 0.7) writeFileSync(`${path}.new`, 'new return\n');
    else if (choice < 0.85) chmodSync(path, 0o600);
    else utimesSync(path, 1.1e9, 1.2e9);
  }
  if (rnd() < 0.3) mkdirSync(join(root, 'doc/fresh'));
}

/** One change of another client, atomic for who looks on. */
export function changeOnce(root: string, seed: number): void {
  const rnd = random(seed ^ 0xc4a6e);
  const path = join(root, 'doc/a', `n${Math.floor(rnd() * 3)}.txt`);
  const choice = rnd();
  if (choice < 0.4) {
    writeFileSync(`${root}.new`, 'put in its place\n');
    renameSync(`${root}.new`, path);
  } else if (choice < 0.6) rmSync(path, { force: true });
  else if (choice < 0.8) appendFileSync(path, 'one line more\n');
  else {
    writeFileSync(`${root}.new`, 'a new file\n');
    renameSync(`${root}.new`, join(root, 'doc/a/another.txt'));
  }
}

export function filesIn(root: string): string[] {
  const found: string[] = [];
  for (const entry of readdirSync(root, { withFileTypes: true, recursive: true })) {
    if (entry.isFile()) found.push(join(entry.parentPath ?? entry.path, entry.name));
  }
  return found.sort();
}

/** A line for each object: everything but times and numbers. */
export function treeOf(root: string, below = ''): string[] {
  const lines: string[] = [];
  for (const name of readdirSync(join(root, below)).sort()) {
    const path = join(below, name);
    const full = join(root, path);
    const stat = lstatSync(full);
    const mode = stat.mode.toString(8);
    if (stat.isDirectory()) lines.push(`${path}/ ${mode}`, ...treeOf(root, path));
    else if (stat.isSymbolicLink()) lines.push(`${path} -> ${readlinkSync(full)}`);
    else {
      const hash = createHash('sha1').update(readFileSync(full)).digest('hex').slice(0, 12);
      lines.push(`${path} ${mode} ${stat.nlink} ${stat.size} ${hash}`);
    }
  }
  return lines;
}
