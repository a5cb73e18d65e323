/**
 * The work that `bench speculate` gives to each side: what must lie on the server before, and a script for sh.
 * It writes into the exported directory and a local one of its own, and runs git, tar and the C compiler there.
 *
 * A script runs in a directory of its own on the mount; `$LOCAL` is the local one. What it prints must not depend on time.
 */
import { spawnSync } from 'node:child_process';
import { mkdirSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { buildPostmark } from './peers/postmark.ts';

export interface Work {
  readonly name: string;
  /** Puts what it needs into an empty directory on the server. */
  prepare(at: ServerDirectory): void;
  readonly script: string;
  /** Nearly all of it is file work, so that a slow CPU does not decide. */
  readonly light: boolean;
}

export interface ServerDirectory {
  /** As this process sees it. */
  readonly path: string;
  /** As who sees the server's mounts sees it, which needs `enter` before a command. */
  readonly insidePath: string;
  readonly enter: readonly string[];
}

export interface WorkSize {
  readonly postmark: readonly [files: number, transactions: number];
  /** Directories of a source tree, with eight files each. */
  readonly directories: number;
}

const FILES_EACH = 8;
/** Seconds since 1970. */
const SOURCE_TIME = 1_700_000_000;
/** Sources among them that `make` compiles. */
const COMPILED = 12;
export const GIT_ENVIRONMENT: Readonly<Record<string, string>> = {
  GIT_CONFIG_NOSYSTEM: '1',
  GIT_CONFIG_GLOBAL: '/dev/null',
  GIT_CONFIG_COUNT: '3',
  GIT_CONFIG_KEY_0: 'safe.directory',
  GIT_CONFIG_VALUE_0: '*',
  GIT_CONFIG_KEY_1: 'user.name',
  GIT_CONFIG_VALUE_1: 'bench',
  GIT_CONFIG_KEY_2: 'user.email',
  GIT_CONFIG_VALUE_2: 'bench@localhost',
};

/** Makes the local directory: programs, a tar file, a repository to clone. */
export function prepareLocal(local: string, size: WorkSize): void {
  buildPostmark(local);
  makeSources(join(local, 'tree'), size.directories);
  run('tar', ['-cf', join(local, 'tree.tar'), '-C', local, 'tree'], local);
  const repository = join(local, 'repository');
  makeSources(repository, size.directories);
  commitAll(repository);
}

export function works({ postmark, directories }: WorkSize): readonly Work[] {
  const nothing = (): void => {};
  const filesOnly = [
    'tar -xf $LOCAL/tree.tar',
    'cp -r tree copy',
    'find copy -type f -size +1k | wc -l',
    "find copy -name '*.h' -newer tree/d0/f0.h | wc -l",
    'grep -r again copy | wc -l',
  ].join(' && ');
  const remove = 'rm -r tree copy';
  return [
    {
      name: 'find',
      prepare: ({ path }) => makeSources(path, directories),
      script: 'find . -type f | sort | tail -n 3',
      light: true,
    },
    {
      name: 'git status',
      prepare: (at) => dirtyRepository(at, directories),
      script: 'git status --porcelain',
      light: true,
    },
    {
      name: 'git clone',
      prepare: nothing,
      script: 'git clone -q --no-hardlinks $LOCAL/repository r && ls r',
      light: true,
    },
    { name: 'postmark', prepare: nothing, script: `$LOCAL/postmark ${postmark[0]} ${postmark[1]}`, light: true },
    { name: 'andrew', prepare: nothing, script: `${filesOnly} && ${remove}`, light: true },
    {
      name: 'andrew with make',
      prepare: nothing,
      script: `${filesOnly} && make -s -C copy && copy/prog && ${remove}`,
      light: false,
    },
  ];
}

/** Sources of a few kilobytes each in directories of eight, with a Makefile that compiles some of them. */
function makeSources(root: string, directories: number): void {
  mkdirSync(root, { recursive: true });
  const objects: string[] = [];
  for (let d = 0; d < directories; d++) {
    mkdirSync(join(root, `d${d}`));
    for (let f = 0; f < FILES_EACH; f++) {
      const number = d * FILES_EACH + f;
      const isSource = f % 2 === 1;
      const comment = `/* ${'here and there and again '.repeat(2 + ((number * 7) % 23))} */\n`.repeat(1 + (number % 5));
      const text = isSource ? `int f${number}(void) { return ${number}; }\n` : `#define F${number} ${number}\n`;
      const path = join(root, `d${d}`, `f${f}.${isSource ? 'c' : 'h'}`);
      writeFileSync(path, comment + text);
      // As old as sources are: git reads again what is as young as its index.
      utimesSync(path, SOURCE_TIME, SOURCE_TIME);
      if (isSource && objects.length < COMPILED) objects.push(`d${d}/f${f}.o`);
    }
  }
  writeFileSync(
    join(root, 'main.c'),
    '#include <stdio.h>\nint f1(void);\nint main(void) { printf("%d\\n", f1()); return 0; }\n',
  );
  const all = ['main.o', ...objects].join(' ');
  writeFileSync(join(root, 'Makefile'), `prog: ${all}\n\tcc -o $@ ${all}\n%.o: %.c\n\tcc -c $< -o $@\n`);
}

function commitAll(root: string, enter: readonly string[] = []): void {
  const git = (...args: string[]): void => {
    const [program, ...rest] = [...enter, 'git', '-C', root, ...args];
    run(program!, rest, '/');
  };
  git('init', '-q', '-b', 'main');
  git('add', '.');
  git('commit', '-q', '-m', 'all');
}

function dirtyRepository({ path, insidePath, enter }: ServerDirectory, directories: number): void {
  makeSources(path, directories);
  commitAll(insidePath, enter);
  writeFileSync(join(path, 'd0', 'f1.c'), 'int f1(void) { return 10; }\n');
  writeFileSync(join(path, 'd0', 'new.c'), '\n');
}

function run(program: string, args: readonly string[], cwd: string): void {
  const env = { ...process.env, ...GIT_ENVIRONMENT };
  const { status, stderr, error } = spawnSync(program, args, { cwd, env, encoding: 'utf8' });
  if (status !== 0) throw new Error(`${program} ${args.join(' ')}: ${error?.message ?? stderr}`);
}
