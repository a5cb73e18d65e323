/**
 * Runs a program twice, speculatively on a mount of a real server a few milliseconds away, and plainly on a local copy, and compares
 * everything that can be told: output, errors, exit code, and the tree that is left on the server.
 * Before the run part of the cache is made stale; during it another client touches files.
 */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  appendFileSync,
  chmodSync,
  closeSync,
  cpSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  utimesSync,
  writeFileSync,
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
import { SpeculativeMount } from '../../../src/speculation/files/run.ts';
import { newStatistics, type SpeculationStatistics } from '../../../src/speculation/files/statistics.ts';
import { random } from '../engine/model.ts';
import { type EquivalenceProgram, FILE_OPERATIONS_C, PROGRAMS } from './programs.ts';

export interface Observation {
  readonly stdout: string;
  readonly stderr: string;
  readonly code: number;
  readonly signal: number;
  readonly tree: readonly string[];
}

export interface Comparison {
  readonly program: string;
  readonly expected: Observation;
  readonly got: Observation;
  readonly statistics: SpeculationStatistics;
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
  readonly #mount: SpeculativeMount;
  readonly #directory: string;
  readonly total = newStatistics();

  private constructor(
    ganesha: Ganesha,
    line: DelayLine,
    server: RemoteServer,
    mount: SpeculativeMount,
    directory: string,
  ) {
    this.#ganesha = ganesha;
    this.#line = line;
    this.#server = server;
    this.#mount = mount;
    this.#directory = directory;
  }

  static async start(version: '3' | '4.1', roundTripMs: number): Promise<EquivalenceLab> {
    const directory = mkdtempSync(join(tmpdir(), 'isthmus-equivalence-'));
    mkdirSync(join(directory, 'mount'));
    writeFileSync(join(directory, 'fileops.c'), FILE_OPERATIONS_C);
    const compiled = spawnSync('cc', ['-O1', '-o', join(directory, 'fileops'), join(directory, 'fileops.c')]);
    if (compiled.status !== 0) throw new Error(`cc: ${compiled.stderr}`);
    const ganesha = await Ganesha.start();
    const line = await startDelayLine({ port: ganesha.port, oneWayMs: roundTripMs / 2 });
    const server = await connectServer(ganesha.url(version, line.port));
    const mount = await SpeculativeMount.open({
      server,
      directory: join(directory, 'mount'),
      judgement: new AlwaysPays(),
      // Cached at all, but vouched for hardly ever.
      view: { fileMinMs: 2, fileMaxMs: 2, directoryMinMs: 2, directoryMaxMs: 2 },
    });
    return new EquivalenceLab(ganesha, line, server, mount, directory);
  }

  async close(): Promise<void> {
    await this.#mount.close();
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
    const local = join(this.#directory, `${name}-local`);
    makeTree(remote, seed);
    await this.#warm(name);
    if (process.env.ISTHMUS_STALE !== '0') makeStale(remote, seed);
    cpSync(remote, local, { recursive: true, preserveTimestamps: true });
    const expected = this.#runPlainly(program, seed, local);
    const stop = program.timesMatter || process.env.ISTHMUS_OTHER === '0' ? () => {} : this.#otherClient(remote, seed);
    const [got, statistics] = await this.#runSpeculatively(program, seed, name, remote);
    stop();
    rmSync(remote, { recursive: true, force: true });
    rmSync(local, { recursive: true, force: true });
    return { program: program.name, expected, got, statistics };
  }

  #runPlainly(program: EquivalenceProgram, seed: number, cwd: string): Observation {
    const result = spawnSync('sh', ['-c', program.script(seed)], { cwd, env: this.#env(), timeout: 60_000 });
    return {
      stdout: result.stdout.toString('latin1'),
      stderr: result.stderr.toString('latin1'),
      code: result.status ?? 0,
      signal: result.signal === null ? 0 : 1,
      tree: treeOf(cwd),
    };
  }

  async #runSpeculatively(
    program: EquivalenceProgram,
    seed: number,
    name: string,
    remote: string,
  ): Promise<[Observation, SpeculationStatistics]> {
    const paths = ['out', 'err'].map((each) => join(this.#directory, `${name}-${each}`));
    const [input, out, err] = [openSync('/dev/null', 'r'), openSync(paths[0]!, 'w'), openSync(paths[1]!, 'w')];
    try {
      const { status, statistics } = await this.#mount.run({
        command: ['sh', '-c', program.script(seed)],
        cwd: join(this.#directory, 'mount', name),
        env: this.#env(),
        stdio: [input, out!, err!],
      });
      await this.#mount.view.writeBack.flushAll();
      add(this.total, statistics);
      const [stdout, stderr] = paths.map((path) => readFileSync(path, 'latin1'));
      return [{ stdout: stdout!, stderr: stderr!, ...status, tree: treeOf(remote) }, statistics];
    } finally {
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
    };
  }

  /** Gets the whole tree and its data into the cache. */
  async #warm(name: string): Promise<void> {
    const { view } = this.#mount;
    const caller = { credential: null, thread: 0 };
    await new Lookup(view, caller, view.root, name).perform();
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
    await walk(view.nameOf(view.root, name)!.node!);
  }

  /** Another client that changes times only, so that what a program prints does not depend on when. */
  #otherClient(remote: string, seed: number): () => void {
    const rnd = random(seed ^ 0x0c11e27);
    const files = filesIn(remote);
    const timer = setInterval(
      () => {
        const path = files[Math.floor(rnd() * files.length)]!;
        try {
          utimesSync(path, 1e9 + Math.floor(rnd() * 1e8), 1e9 + Math.floor(rnd() * 1e8));
        } catch {
          // The program has removed it.
        }
      },
      2 + Math.floor(rnd() * 20),
    );
    return () => clearInterval(timer);
  }
}

function makeTree(root: string, seed: number): void {
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
function makeStale(root: string, seed: number): void {
  const rnd = random(seed ^ 0x57a1e);
  const share = rnd() * 0.25;
  for (const path of filesIn(root)) {
    if (rnd() >= share) continue;
    const isSource = path.endsWith('.c') || path.endsWith('Makefile');
    const choice = rnd();
    if (choice < 0.3)
      appendFileSync(
        path,
        isSource
          ? `\n# define later${Math.floor(rnd() * 9)}\n`.replace('# define', path.endsWith('.c') ? '#define' : '#')
          : 'more return\n',
      );
    else if (choice < 0.5 && !isSource) rmSync(path);
    else if (choice < 0.7) writeFileSync(`${path}.new`, 'new return\n');
    else if (choice < 0.85) chmodSync(path, 0o600);
    else utimesSync(path, 1.1e9, 1.2e9);
  }
  if (rnd() < 0.3) mkdirSync(join(root, 'doc/fresh'));
}

function filesIn(root: string): string[] {
  const found: string[] = [];
  for (const entry of readdirSync(root, { withFileTypes: true, recursive: true })) {
    if (entry.isFile()) found.push(join(entry.parentPath ?? entry.path, entry.name));
  }
  return found.sort();
}

/** A line for each object: everything but times and numbers. */
function treeOf(root: string, below = ''): string[] {
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

function add(total: SpeculationStatistics, one: SpeculationStatistics): void {
  const sum = total as unknown as Record<string, number>;
  for (const [key, value] of Object.entries(one)) {
    if (typeof value === 'number') sum[key] = (sum[key] ?? 0) + value;
  }
}
