/**
 * An engine without judgement for tests of the process backend: it takes checkpoints at every n-th system call and
 * commits or rolls them back at random, by seed, minding only what depends on what. It starts one program and reports.
 */
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type {
  BackendCounts,
  CheckpointId,
  ExitStatus,
  LaunchOptions,
  Pid,
  ProcessEvent,
} from '../../../src/speculation/process/backend.ts';
import { ProcessHost } from '../../../src/speculation/process/host.ts';

export interface RandomRun {
  readonly command: readonly string[];
  readonly seed: number;
  /** Every so many calls a process is stopped. */
  readonly everyCall: number;
  /** How likely a checkpoint is taken there. Default 0.5. */
  readonly checkpoint?: number;
  /** How likely a checkpoint is rolled back rather than committed. Default 0.4. */
  readonly rollback?: number;
  /** After so many rollbacks all is committed, so that the run ends. Default 40. */
  readonly maxRollbacks?: number;
  readonly cwd?: string;
  readonly env?: Record<string, string | undefined>;
  readonly mounts?: readonly string[];
  readonly locals?: readonly string[];
  readonly log?: boolean;
  readonly deadlineMs?: number;
}

export interface RandomResult {
  readonly out: string;
  readonly err: string;
  readonly status: ExitStatus;
  readonly counts: BackendCounts;
  /** Every process that was seen. */
  readonly left: readonly Pid[];
}

interface Known {
  readonly pid: Pid;
  readonly dependsOn: Set<CheckpointId>;
}

/** Runs a program under random speculation. Rejects when the tracer fails or nothing happens for too long. */
export async function runRandomly(run: RandomRun): Promise<RandomResult> {
  const directory = mkdtempSync(join(tmpdir(), 'isthmus-random-'));
  const files = ['out', 'err'].map((name) => openSync(join(directory, name), 'a+'));
  const input = openSync('/dev/null', 'r');
  try {
    const { status, counts, left } = await follow(run, {
      command: run.command,
      everyCall: run.everyCall,
      stdio: [input, files[0]!, files[1]!],
      env: run.env ?? process.env,
      ...(run.cwd === undefined ? {} : { cwd: run.cwd }),
      ...(run.locals === undefined ? {} : { locals: run.locals }),
      ...(run.mounts === undefined ? {} : { mounts: run.mounts }),
      log: run.log ?? false,
    });
    const [out, err] = ['out', 'err'].map((name) => readFileSync(join(directory, name), 'latin1'));
    return { out: out!, err: err!, status, counts, left };
  } finally {
    for (const fd of [...files, input]) closeSync(fd);
    rmSync(directory, { recursive: true });
  }
}

function follow(run: RandomRun, options: LaunchOptions): Promise<Omit<RandomResult, 'out' | 'err'>> {
  const { seed, checkpoint = 0.5, rollback = 0.4, maxRollbacks = 40, deadlineMs = 30_000 } = run;
  const random = generator(seed);
  const open = new Map<CheckpointId, Known>();
  const birth = new Map<Pid, Set<CheckpointId>>();
  const proceeding = new Map<number, Pid>();
  let token = 1;
  let rollbacks = 0;
  let rolling = false;
  const seen = new Set<Pid>();
  const trace: string[] = [];

  const dependenciesOf = (pid: Pid): Set<CheckpointId> => {
    const all = new Set(birth.get(pid) ?? []);
    for (const [id, known] of open) if (known.pid === pid) all.add(id);
    for (const id of [...all]) for (const further of open.get(id)?.dependsOn ?? []) all.add(further);
    return all;
  };
  const forget = (id: CheckpointId): void => {
    open.delete(id);
    for (const known of open.values()) known.dependsOn.delete(id);
    for (const set of birth.values()) set.delete(id);
  };
  const closure = (first: CheckpointId): CheckpointId[] => {
    const all = new Set([first]);
    for (let size = 0; size !== all.size; ) {
      size = all.size;
      for (const [id, known] of open) for (const on of known.dependsOn) if (all.has(on)) all.add(id);
    }
    return [...all];
  };

  return new Promise((resolve, reject) => {
    let lastNews = performance.now();
    const host = new ProcessHost(options, (event: ProcessEvent) => {
      lastNews = performance.now();
      trace.push(JSON.stringify(event));
      if (run.log) process.stderr.write(`${trace.at(-1)}\n`);
      if ('pid' in event) seen.add(event.pid);
      if ('child' in event) seen.add(event.child);
      hear(event);
    });
    const finish = (error?: Error): void => {
      clearInterval(timer);
      if (!error) return;
      void host.close();
      reject(new Error(`${error.stack}\nseed ${seed}; last events:\n${trace.slice(-12).join('\n')}`));
    };

    // Something is decided at each turn, so every run ends.
    const timer = setInterval(
      () => {
        if (performance.now() - lastNews > deadlineMs) finish(new Error(`nothing for ${deadlineMs} ms`));
        if (rolling || proceeding.size > 0) return;
        const free = [...open].filter(([, { dependsOn }]) => dependsOn.size === 0);
        if (free.length === 0) return;
        const [id] = free[Math.floor(random() * free.length)]!;
        if (rollbacks < maxRollbacks && random() < rollback) {
          rollbacks++;
          rolling = true;
          host.rollback(closure(id));
        } else {
          forget(id);
          host.commit(id);
        }
      },
      1 + (seed % 3),
    );

    function hear(event: ProcessEvent): void {
      switch (event.type) {
        case 'atCall':
          if (rollbacks < maxRollbacks && random() < checkpoint) host.checkpoint(event.pid, token++);
          else host.pass(event.pid);
          return;
        case 'forked':
          birth.set(event.child, new Set(event.dependsOn.filter((id) => open.has(id))));
          return;
        case 'checkpointed': {
          const dependsOn = dependenciesOf(event.pid);
          const told = proceeding.get(event.token);
          if (told !== undefined) for (const id of dependenciesOf(told)) dependsOn.add(id);
          proceeding.delete(event.token);
          open.set(event.checkpoint, { pid: event.pid, dependsOn });
          return;
        }
        case 'refused':
          proceeding.delete(event.token);
          return;
        case 'needs':
          if (random() < 0.2) return; // it waits until the exit is real
          proceeding.set(token, event.child);
          host.proceed(event.pid, event.child, token++, true);
          return;
        case 'rolledBack':
          rolling = false;
          for (const id of event.checkpoints) forget(id);
          return;
        case 'ended':
          finish();
          resolve({ status: event.status, counts: event.counts, left: [...seen] });
          return;
        case 'failed':
          finish(event.error);
      }
    }
    host.start();
  });
}

function generator(seed: number): () => number {
  let state = seed >>> 0 || 1;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}
