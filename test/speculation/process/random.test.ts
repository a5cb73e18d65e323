/**
 * Unmodified programs under random checkpoints, commits and rollbacks: they must do what they do alone, and leave nothing.
 * ISTHMUS_SEEDS asks for more seeds than the few of the suite.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { constants, tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { hasCommand, need } from '../../support/need.ts';
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
    name: 'bash, with handlers and jobs',
    needs: ['bash'],
    shell: 'bash',
    script: `trap 'echo got usr1' USR1; kill -USR1 $$; a=(1 2 3); for i in "\${a[@]}"; do (exit $i); echo $?; done
      ls -d /etc & wait $!; echo done; diff <(echo 1) <(echo 2); kill -TERM $$; echo never`,
    every: 25,
  },
  { name: 'a signal that kills', script: 'echo before; kill -SEGV $$; echo after', every: 4 },
  {
    name: 'make and a compiler',
    needs: ['gcc', 'make'],
    script: 'cd "$SCRATCH"; make -s; ./program; make -s again',
    every: 120,
  },
];

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
    scratch = mkdtempSync(join(tmpdir(), 'isthmus-scratch-'));
    writeFileSync(join(scratch, 'Makefile'), MAKEFILE);
    writeFileSync(
      join(scratch, 'a.c'),
      'int f(void); int printf(const char *, ...);\nint main(void) { printf("%d\\n", f()); }\n',
    );
    writeFileSync(join(scratch, 'b.c'), 'int f(void) { return 42; }\n');
  });
  after(() => rmSync(scratch, { recursive: true, force: true }));

  for (const { name, needs = [], script, shell = 'sh', every } of PROGRAMS) {
    test(`${name}: as alone`, { timeout: 120_000 }, async (t) => {
      if (!need(t, canTrace(), 'ptrace is not permitted here')) return;
      for (const command of needs) if (!need(t, hasCommand(command), `${command} is not installed`)) return;
      const command = [shell, '-c', script];
      const env = { ...process.env, SCRATCH: scratch, LC_ALL: 'C' };
      const clean = (): void => {
        for (const file of ['program', 'a.o', 'b.o']) rmSync(join(scratch, file), { force: true });
      };
      clean();
      const alone = spawnSync(shell, ['-c', script], { env, encoding: 'latin1', stdio: ['ignore', 'pipe', 'pipe'] });
      for (let seed = 1; seed <= SEEDS; seed++) {
        clean();
        const { out, err, status, left } = await runRandomly({ command, env, seed, everyCall: every });
        const signal = alone.signal === null ? 0 : constants.signals[alone.signal];
        assert.deepEqual(
          { out, err, status },
          { out: alone.stdout, err: alone.stderr, status: { code: alone.status ?? 0, signal } },
          `seed ${seed}`,
        );
        assert.deepEqual(await leftOf(left), [], `seed ${seed}: processes are left`);
      }
    });
  }
});
