/**
 * Runs a program twice, speculatively on a mount of a real server a few milliseconds away, and plainly on a local copy, and compares
 * everything that can be told: output, errors, exit code, and the trees that are left on the server and in a local directory.
 * Before the run part of the cache is made stale; during it another client touches files, or changes one. Or the cache is right and
 * trusted, and predictions that were right are undone all the same.
 */
import { spawnSync } from 'node:child_process';
import {
  closeSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  realpathSync,
  rmSync,
  utimesSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type DelayLine, startDelayLine } from '../../../src/bench/peers/delay-line.ts';
import { Ganesha } from '../../../src/bench/peers/ganesha.ts';
import { connectServer } from '../../../src/remote/connect.ts';
import type { RemoteServer } from '../../../src/remote/server.ts';
import { FileType } from '../../../src/remote/server.ts';
import type { ViewNode } from '../../../src/remote/view/node.ts';
import { Lookup } from '../../../src/remote/view/operations/lookup.ts';
import { Readdir } from '../../../src/remote/view/operations/readdir.ts';
import { Judgement } from '../../../src/speculation/engine/judgement.ts';
import { DEFAULT_LIMITS } from '../../../src/speculation/engine/limits.ts';
import { SpeculativeMount } from '../../../src/speculation/files/run.ts';
import { newStatistics, type SpeculationStatistics } from '../../../src/speculation/files/statistics.ts';
import type { ProcessEvent } from '../../../src/speculation/process/backend.ts';
import { random } from '../engine/model.ts';
import { leftOf } from '../process/left.ts';
import { type EquivalenceProgram, FILE_OPERATIONS_C, PROGRAMS } from './programs.ts';
import { changeOnce, filesIn, makeStale, makeTree, treeOf } from './tree.ts';

/** A run that takes longer hangs: it is ended, and that is a difference. */
const RUN_LIMIT_MS = 120_000;
const EVENTS_KEPT = 40;
const DISTRUST_SHARES = [0, 0.01, 0.03, 0.1];

export interface Observation {
  readonly stdout: string;
  readonly stderr: string;
  readonly code: number;
  readonly signal: number;
  readonly tree: readonly string[];
}

export interface Comparison {
  readonly program: string;
  /** What may come out; more than one where another client's moment decides. */
  readonly expected: readonly Observation[];
  readonly got: Observation;
  readonly statistics: SpeculationStatistics;
  /** What else is wrong: it hung, or left processes behind. */
  readonly trouble: string | null;
}

/** Speculates whatever it costs, so that short runs at short distances put everything to the test. */
class AlwaysPays extends Judgement {
  override pays(): boolean {
    return true;
  }
}

export class EquivalenceLab {
  readonly #ganesha: Ganesha;
  readonly #line: DelayLine;
  readonly #server: RemoteServer;
  /** Vouches for what it has cached hardly ever. */
  readonly #doubting: SpeculativeMount;
  /** Vouches for it as long as a mount does for people, and so does the kernel; but right answers are taken for wrong ones. */
  readonly #trusting: SpeculativeMount;
  readonly #directory: string;
  /** Share of the right answers that are taken for wrong ones, and who decides. */
  #distrust = { share: 0, random: Math.random };
  readonly total = newStatistics();

  private constructor(
    ganesha: Ganesha,
    line: DelayLine,
    server: RemoteServer,
    mounts: readonly SpeculativeMount[],
    directory: string,
  ) {
    this.#ganesha = ganesha;
    this.#line = line;
    this.#server = server;
    [this.#doubting, this.#trusting] = mounts as [SpeculativeMount, SpeculativeMount];
    this.#directory = directory;
  }

  static async start(version: '3' | '4.1', roundTripMs: number, limits = DEFAULT_LIMITS): Promise<EquivalenceLab> {
    const directory = mkdtempSync(join(tmpdir(), 'isthmus-equivalence-'));
    for (const name of ['mount', 'trusting']) mkdirSync(join(directory, name));
    mkdirSync(join(directory, 'scratch/local'), { recursive: true });
    const compiled = spawnSync('cc', ['-O1', '-o', join(directory, 'fileops'), '-x', 'c', '-'], {
      input: FILE_OPERATIONS_C,
    });
    if (compiled.status !== 0) throw new Error(`cc: ${compiled.stderr}`);
    const ganesha = await Ganesha.start();
    const line = await startDelayLine({ port: ganesha.port, oneWayMs: roundTripMs / 2 });
    const server = await connectServer(ganesha.url(version, line.port));
    const common = { server, judgement: new AlwaysPays(), limits };
    const lab: { current: EquivalenceLab | null } = { current: null };
    const doubting = await SpeculativeMount.open({
      ...common,
      directory: join(directory, 'mount'),
      // Cached at all, but vouched for hardly ever.
      view: { fileMinMs: 2, fileMaxMs: 2, directoryMinMs: 2, directoryMaxMs: 2 },
    });
    const trusting = await SpeculativeMount.open({
      ...common,
      directory: join(directory, 'trusting'),
      distrust: () => lab.current!.#distrusts(),
    });
    lab.current = new EquivalenceLab(ganesha, line, server, [doubting, trusting], directory);
    return lab.current;
  }

  async close(): Promise<void> {
    await this.#doubting.close();
    await this.#trusting.close();
    await this.#server.close();
    await this.#line.close();
    await this.#ganesha.stop();
    rmSync(this.#directory, { recursive: true, force: true });
  }

  /** One seed: a program, a tree, stale entries, another client. */
  async compare(seed: number, only?: string): Promise<Comparison> {
    const rnd = random(seed);
    const programs = PROGRAMS.filter(({ name }) => only === undefined || name === only);
    const program = programs[Math.floor(rnd() * programs.length)]!;
    const name = `r${seed}`;
    const remote = join(this.#ganesha.exportDir, name);
    makeTree(remote, seed);
    const mount = this.#prepare(program, rnd);
    await this.#warm(mount, name, mount === this.#doubting || rnd() < 0.5);
    if (mount === this.#doubting) makeStale(remote, seed);
    const expected = this.#possible(program, seed, remote);
    const stop = mount === this.#doubting ? this.#otherClient(program, remote, seed) : () => {};
    try {
      const got = await this.#runSpeculatively(mount, program, seed, name, stop);
      return { program: program.name, expected, ...got };
    } finally {
      stop();
      rmSync(remote, { recursive: true, force: true });
    }
  }

  /** On the mount that trusts its cache nobody else may change anything: that would be seen late, and rightly so. */
  #prepare(program: EquivalenceProgram, rnd: () => number): SpeculativeMount {
    if (program.lines !== undefined || rnd() < 0.5) return this.#doubting;
    this.#distrust = { share: DISTRUST_SHARES[Math.floor(rnd() * DISTRUST_SHARES.length)]!, random: rnd };
    return this.#trusting;
  }

  #distrusts(): boolean {
    return this.#distrust.random() < this.#distrust.share;
  }

  /** What comes out without speculation: with another client's change at each moment that makes a difference. */
  #possible(program: EquivalenceProgram, seed: number, remote: string): Observation[] {
    const local = join(this.#directory, 'local');
    const once = (script: string): Observation => {
      cpSync(remote, local, { recursive: true, preserveTimestamps: true });
      const observed = this.#runPlainly(script, local);
      rmSync(local, { recursive: true, force: true });
      return observed;
    };
    const lines = program.lines?.(seed);
    if (lines === undefined) return [once(program.script(seed))];
    return Array.from({ length: lines.length + 1 }, (_, at) => {
      const changed = join(this.#directory, 'changed');
      cpSync(remote, changed, { recursive: true, preserveTimestamps: true });
      changeOnce(changed, seed);
      // The other client's change is to the text only. It must not move the lines' numbers, which are in messages.
      const change = `rm -r doc/a; cp -r ${changed}/doc/a doc/a`;
      const observed = once(
        [...lines.slice(0, at), `${change}; ${lines[at] ?? ''}`, ...lines.slice(at + 1)].join('\n'),
      );
      rmSync(changed, { recursive: true, force: true });
      return observed;
    });
  }

  #runPlainly(script: string, cwd: string): Observation {
    const result = spawnSync('sh', ['-c', script], { cwd, env: this.#env(), timeout: RUN_LIMIT_MS });
    return {
      stdout: result.stdout.toString('latin1'),
      stderr: result.stderr.toString('latin1'),
      code: result.status ?? 0,
      signal: result.signal === null ? 0 : 1,
      tree: [...treeOf(cwd), ...this.#takeScratch()],
    };
  }

  async #runSpeculatively(
    mount: SpeculativeMount,
    program: EquivalenceProgram,
    seed: number,
    name: string,
    stopOther: () => void,
  ): Promise<Omit<Comparison, 'program' | 'expected'>> {
    const paths = ['out', 'err'].map((each) => join(this.#directory, `${name}-${each}`));
    const [input, out, err] = [openSync('/dev/null', 'r'), openSync(paths[0]!, 'w'), openSync(paths[1]!, 'w')];
    const processes = new Set<number>();
    const events: ProcessEvent[] = [];
    let hung = false;
    const limit = setTimeout(() => {
      hung = true;
      void mount.stop();
    }, RUN_LIMIT_MS);
    try {
      const { status, statistics } = await mount.run({
        command: ['sh', '-c', program.script(seed)],
        cwd: join(mount.directory, name),
        env: this.#env(),
        stdio: [input, out!, err!],
        locals: seed % 2 === 1 ? [realpathSync(this.#scratch)] : [],
        log: process.env.ISTHMUS_LOG === '1',
        everyEvent: (event) => {
          if (event.type === 'started') processes.add(event.pid);
          else if (event.type === 'forked') processes.add(event.child);
          if (process.env.ISTHMUS_LOG === '1') console.error(performance.now().toFixed(1), JSON.stringify(event));
          events.push(event);
          if (events.length > EVENTS_KEPT) events.shift();
        },
      });
      stopOther();
      await mount.view.writeBack.flushAll();
      add(this.total, statistics);
      const [stdout, stderr] = paths.map((path) => readFileSync(path, 'latin1'));
      const left = await leftOf(processes);
      const trouble = hung
        ? `hung; last events:\n${events.map((event) => JSON.stringify(event)).join('\n')}`
        : left.length > 0
          ? `left processes behind: ${left.join(', ')}`
          : statistics.unexpected > 0
            ? `${statistics.unexpected} rollbacks that the engine knew nothing of`
            : null;
      const tree = [...treeOf(join(this.#ganesha.exportDir, name)), ...this.#takeScratch()];
      const got = { stdout: stdout!, stderr: stderr!, ...status, tree };
      return { got, statistics, trouble };
    } finally {
      clearTimeout(limit);
      for (const fd of [input, out!, err!]) closeSync(fd);
      for (const path of paths) rmSync(path, { force: true });
    }
  }

  #env(): Record<string, string> {
    return {
      PATH: process.env.PATH ?? '/usr/bin:/bin',
      LC_ALL: 'C',
      FILEOPS: join(this.#directory, 'fileops'),
      HOME: '/nonexistent',
      TMPDIR: this.#scratch,
      LOCAL: this.#scratch,
    };
  }

  /** A local directory, which every second run may change speculatively. */
  get #scratch(): string {
    return join(this.#directory, 'scratch/local');
  }

  /** What a run has left there, and whether anything was left beside it. */
  #takeScratch(): string[] {
    const lines = treeOf(join(this.#scratch, '..')).map((line) => `scratch/${line}`);
    rmSync(join(this.#scratch, '..'), { recursive: true, force: true });
    mkdirSync(this.#scratch, { recursive: true });
    return lines;
  }

  /** Gets the whole tree and its data into the cache, or only its name: it was made behind the server's back. */
  async #warm({ view }: SpeculativeMount, name: string, whole: boolean): Promise<void> {
    const caller = { credential: null, thread: 0 };
    const { answer } = await new Lookup(view, caller, view.root, name).perform();
    if (!whole) return;
    const walk = async (node: ViewNode): Promise<void> => {
      const listing = await new Readdir(view, caller, node).perform();
      const loads = (listing.answer?.entries ?? []).map(async ({ node: child }) => {
        if (child === null) return;
        if (child.attributes.type === FileType.directory) await walk(child);
        else if (child.attributes.type === FileType.regular && child.size > 0) {
          await view.loader.load(child, 0, child.size, null, true);
        }
      });
      await Promise.all(loads);
    };
    await walk(answer!.node!);
  }

  /**
   * Another client while the program runs. It makes the one change that has been reckoned with; else it changes times only, where
   * nobody looks at them, so that what a program prints does not depend on when. @returns what stops it, with its change made
   */
  #otherClient(program: EquivalenceProgram, remote: string, seed: number): () => void {
    const rnd = random(seed ^ 0x0c11e27);
    if (program.lines !== undefined) {
      let done = false;
      const change = (): void => {
        if (!done) changeOnce(remote, seed);
        done = true;
      };
      const timer = setTimeout(change, 20 + rnd() * 250);
      return () => {
        clearTimeout(timer);
        change();
      };
    }
    if (program.timesMatter) return () => {};
    const files = filesIn(remote);
    const touch = (): void => {
      const path = files[Math.floor(rnd() * files.length)]!;
      try {
        utimesSync(path, 1e9 + Math.floor(rnd() * 1e8), 1e9 + Math.floor(rnd() * 1e8));
      } catch {
        // The program has removed it.
      }
    };
    const timer = setInterval(touch, 2 + Math.floor(rnd() * 20));
    return () => clearInterval(timer);
  }
}

/** Sums; of peaks the highest. */
export function add(total: SpeculationStatistics, one: SpeculationStatistics): void {
  const sum = total as unknown as Record<string, number>;
  for (const [key, value] of Object.entries(one)) {
    if (typeof value !== 'number') continue;
    sum[key] = key.startsWith('peak') ? Math.max(sum[key]!, value) : sum[key]! + value;
  }
  for (const [why, count] of Object.entries(one.waits)) total.waits[why] = (total.waits[why] ?? 0) + count;
  for (const [why, { count, ms }] of Object.entries(one.holds)) {
    const before = total.holds[why] ?? { count: 0, ms: 0 };
    total.holds[why] = { count: before.count + count, ms: before.ms + ms };
  }
}
