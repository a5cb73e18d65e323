/**
 * Unmodified programs under random checkpoints, commits and rollbacks: they must do what they do alone, and leave nothing.
 * ISTHMUS_SEEDS asks for more seeds than the few of the suite.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { constants, tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { hasCommand, need } from '../../support/need.ts';
import { FILE_OPERATIONS_C } from '../equivalence/programs.ts';
import { canTrace } from './can-trace.ts';
import { leftOf } from './left.ts';
import { runRandomly } from './random-engine.ts';

const SEEDS = Number(process.env['ISTHMUS_SEEDS'] ?? 2);

interface Program {
  readonly name: string;
  readonly needs?: readonly string[];
  readonly script: string;
  readonly shell?: string;
  /** Calls between two stops. */
  readonly every: number;
  /** Its scratch directory is one whose changes can be undone. */
  readonly local?: boolean;
}

const PROGRAMS: readonly Program[] = [
  { name: 'cat', script: 'exec cat /etc/passwd', every: 5 },
  {
    name: 'a shell script with pipes and substitutions',
    script: `echo start; x=$(cat /etc/passwd | grep root | tr a-z A-Z); echo "$x"; (exit 4); echo $?
      for i in 1 2 3; do expr $i + 1; done; cd /usr; ls -d lib; umask 077; umask; exit 3`,
    every: 10,
  },
  { name: 'find', script: 'find /etc -name "*.conf" -newer /nowhere; find /etc -maxdepth 2 -type d | sort', every: 40 },
  { name: 'tar', script: 'tar cf - -C /etc passwd group | cksum; exit 1', every: 20 },
  {
    name: 'files written and read again',
    script: `cd "$SCRATCH"; for i in 1 2 3; do echo line $i >> log; cat log | wc -l; done; mv log moved; cat < moved; rm moved
      read first rest < /etc/passwd; echo $first`,
    every: 12,
  },
  {
    name: 'files written and read again in a local directory',
    local: true,
    script: `cd "$SCRATCH"; for i in 1 2 3; do echo line $i >> log; cat log | wc -l; done; mkdir d; cp log d/copy; ls d
      mv log d/moved; cat < d/moved; ln -s moved d/link; cat d/link; chmod 600 d/moved; stat -c %a d/moved; ln d/moved d/hard
      echo short > d/copy; cat d/copy; sort -o d/copy d/moved; cat d/copy; rm -r d; ls; echo end > log; cat log; rm log`,
    every: 9,
  },
  {
    name: 'a program that has just been written',
    local: true,
    script: 'for i in 1 2 3; do cp /bin/echo "$SCRATCH/x"; "$SCRATCH/x" $i; done; rm "$SCRATCH/x"',
    every: 12,
  },
  {
    name: 'random file operations in a local directory',
    needs: ['cc'],
    local: true,
    script: 'mkdir "$SCRATCH/w"; cd "$SCRATCH/w"; ../fileops $SEED 200; find . | sort; cat log; cd ..; rm -rf w t[0-9]',
    every: 9,
  },
  {
    name: 'bash, with handlers and jobs',
    needs: ['bash'],
    shell: 'bash',
    script: `trap 'echo got usr1' USR1; kill -USR1 $$; a=(1 2 3); for i in "\${a[@]}"; do (exit $i); echo $?; done
      ls -d /etc & wait $!; echo done; diff <(echo 1) <(echo 2); kill -TERM $$; echo never`,
    every: 25,
  },
  { name: 'handlers of faults and of SIGPIPE', needs: ['cc'], script: '"$SCRATCH/faults"', every: 3 },
  {
    name: 'programs that take the place of others',
    script: `exec 3</etc/passwd; exec sh -c 'trap "echo got" USR1; read a <&3; echo $a; kill -USR1 $$
      exec sh -c "cat <&3 | head -1; cat /proc/self/comm; readlink /proc/\\$\\$/exe; exec tail -1 /etc/group"'`,
    every: 6,
  },
  { name: 'a signal that kills', script: 'echo before; kill -SEGV $$; echo after', every: 4 },
  {
    name: 'make and a compiler',
    needs: ['gcc', 'make'],
    local: true,
    script: 'cd "$SCRATCH"; make -s; ./program; make -s again',
    every: 120,
  },
];

/** Each fault and each write that nobody reads is counted once. */
const FAULTS_C = `#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>
static sigjmp_buf back; static volatile int faults, pipes; static volatile int zero;
static void onFault(int signal) { faults++; siglongjmp(back, signal); }
static void onPipe(int signal) { (void)signal; pipes++; }
int main(void) {
  signal(SIGFPE, onFault); signal(SIGSEGV, onFault); signal(SIGPIPE, onPipe);
  for (int i = 0; i < 12; i++) {
    int fds[2]; if (pipe(fds)) return 1;
    close(fds[0]); long got = write(fds[1], "x", 1); close(fds[1]);
    if (sigsetjmp(back, 1) == 0) { if (i % 2) zero = 100 / zero; else *(volatile int *)0 = 1; }
    printf("%d faults, %d pipes, %ld\\n", faults, pipes, got); fflush(stdout); access("/etc/passwd", R_OK);
  }
  return 0;
}
`;

const FILES = new Set(['faults', 'a.c', 'b.c', 'a.o', 'b.o', 'program', 'Makefile', 'fileops']);

const MAKEFILE = `program: a.o b.o
\tgcc -o program a.o b.o
%.o: %.c
\tgcc -c -o $@ $<
again:
\t@echo again; false
`;

describe('random speculation', () => {
  let scratch: string;
  before(() => {
    scratch = join(realpathSync(mkdtempSync(join(tmpdir(), 'isthmus-scratch-'))), 'scratch');
    mkdirSync(scratch);
    for (const [name, input] of Object.entries({ fileops: FILE_OPERATIONS_C, faults: FAULTS_C })) {
      spawnSync('cc', ['-o', join(scratch, name), '-x', 'c', '-'], { input });
    }
    writeFileSync(join(scratch, 'Makefile'), MAKEFILE);
    writeFileSync(
      join(scratch, 'a.c'),
      'int f(void); int printf(const char *, ...);\nint main(void) { printf("%d\\n", f()); }\n',
    );
    writeFileSync(join(scratch, 'b.c'), 'int f(void) { return 42; }\n');
  });
  after(() => rmSync(join(scratch, '..'), { recursive: true, force: true }));

  for (const { name, needs = [], script, shell = 'sh', every, local = false } of PROGRAMS) {
    test(`${name}: as alone`, { timeout: 120_000 }, async (t) => {
      if (!need(t, canTrace(), 'ptrace is not permitted here')) return;
      for (const command of needs) if (!need(t, hasCommand(command), `${command} is not installed`)) return;
      const command = [shell, '-c', script];
      const env = { ...process.env, SCRATCH: scratch, TMPDIR: scratch, LC_ALL: 'C', SEED: '0' };
      const clean = (): void => {
        for (const file of ['program', 'a.o', 'b.o']) rmSync(join(scratch, file), { force: true });
      };
      const locals = local ? [scratch] : [];
      for (let seed = 1; seed <= SEEDS; seed++) {
        env.SEED = String(seed);
        clean();
        const alone = spawnSync(shell, ['-c', script], { env, encoding: 'latin1', stdio: ['ignore', 'pipe', 'pipe'] });
        clean();
        const { out, err, status, left } = await runRandomly({ command, env, seed, everyCall: every, locals });
        const signal = alone.signal === null ? 0 : constants.signals[alone.signal];
        assert.deepEqual(
          { out, err, status },
          { out: alone.stdout, err: alone.stderr, status: { code: alone.status ?? 0, signal } },
          `seed ${seed}`,
        );
        assert.deepEqual(await leftOf(left), [], `seed ${seed}: processes are left`);
        const files = readdirSync(scratch).filter((file) => !FILES.has(file));
        assert.deepEqual(files, [], `seed ${seed}: files are left`);
        assert.deepEqual(readdirSync(join(scratch, '..')), ['scratch'], `seed ${seed}: removed files are kept`);
      }
    });
  }
});
