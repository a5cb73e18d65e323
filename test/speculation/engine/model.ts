/**
 * A small world to judge the speculation engine by: deterministic programs that read and write remote files, send to each other,
 * fork and wait, and a server that another client changes too. It may be run plainly or speculatively, from the same seed.
 */

/** One step of a program. Every step mixes what it learnt into the process's one number, so any wrong result shows later. */
export type Step =
  | { readonly do: 'read'; readonly file: number }
  | { readonly do: 'write'; readonly file: number }
  | { readonly do: 'output' }
  | { readonly do: 'send'; readonly pipe: number }
  | { readonly do: 'receive'; readonly pipe: number }
  | { readonly do: 'fork'; readonly program: Program }
  | { readonly do: 'wait'; readonly child: number };

export type Program = readonly Step[];

export interface World {
  readonly seed: number;
  readonly program: Program;
  readonly files: number;
  readonly pipes: number;
}

/** What can be told apart from outside. */
export interface Observed {
  /** Output by process, in order. */
  readonly outputs: Record<string, number[]>;
  readonly exits: Record<string, number>;
  readonly files: readonly number[];
  readonly versions: readonly number[];
}

/** A small generator, good enough to be fair (mulberry32). */
export function random(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

export function mix(...numbers: number[]): number {
  let hash = 0x811c9dc5;
  for (const number of numbers) {
    hash = Math.imul(hash ^ number, 0x01000193);
    hash ^= hash >>> 13;
  }
  return hash >>> 0;
}

/** The remote files. Which file another client changes, and when, depends on the group's own writes only: so runs can be compared. */
export class FileServer {
  readonly seed: number;
  readonly values: number[];
  /** Writes executed, by file. */
  readonly versions: number[];

  constructor({ seed, files }: World) {
    this.seed = seed;
    this.values = Array.from({ length: files }, (_, file) => mix(seed, file));
    this.versions = new Array<number>(files).fill(0);
  }

  read(file: number): number {
    return this.values[file]!;
  }

  /**
   * True: done. A write is refused by what the file holds, so a stale view predicts the refusal wrongly. Another client changes the
   * file just before some writes: what a file holds between two writes is certain, so that a run can be compared.
   */
  write(file: number, value: number): boolean {
    const version = this.versions[file]! + 1;
    if (mix(this.seed, 77, file, version) % 5 === 0) this.values[file] = mix(this.seed, 78, file, version);
    if (refused(this.values[file]!, value)) return false;
    this.values[file] = value;
    this.versions[file] = version;
    return true;
  }
}

/** The server's rule for a write. */
export function refused(present: number, value: number): boolean {
  return (present ^ value) % 9 === 0;
}

/**
 * A random tree of processes. Files belong to one process at a time (a child's come back to the parent that waited for it) and a pipe has
 * one sender and one receiver, so that the plain run has one result only.
 */
export function randomWorld(seed: number): World {
  const rnd = random(seed);
  const int = (n: number) => Math.floor(rnd() * n);
  const files = 2 + int(6);
  let pipes = 0;
  let budget = 12 + int(90);

  function build(own: number[], depth: number, receiveFrom: number[], sendTo: number[]): Program {
    const steps: Step[] = [];
    const live: { child: number; files: number[] }[] = [];
    let children = 0;
    const receives = receiveFrom.flatMap((pipe) => [pipe, pipe]);
    const sends = sendTo.flatMap((pipe) => [pipe, pipe]);
    const length = 4 + int(16);
    for (let i = 0; i < length && budget > 0; i++) {
      budget--;
      const choice = rnd();
      if (choice < 0.35 && own.length > 0) steps.push({ do: 'read', file: own[int(own.length)]! });
      else if (choice < 0.6 && own.length > 0) steps.push({ do: 'write', file: own[int(own.length)]! });
      else if (choice < 0.7) steps.push({ do: 'output' });
      else if (choice < 0.78 && sends.length > 0) steps.push({ do: 'send', pipe: sends.pop()! });
      else if (choice < 0.9 && depth < 3) {
        const given = own.filter(() => rnd() < 0.4);
        own = own.filter((file) => !given.includes(file));
        const toChild = rnd() < 0.4 ? [pipes++] : [];
        const fromChild = rnd() < 0.4 ? [pipes++] : [];
        const child = children++;
        steps.push({ do: 'fork', program: build(given, depth + 1, toChild, fromChild) });
        for (const pipe of toChild) steps.push({ do: 'send', pipe }, { do: 'send', pipe });
        for (const pipe of fromChild) receives.push(pipe, pipe);
        live.push({ child, files: given });
      } else if (live.length > 0 && receives.length === 0) {
        const { child, files: back } = live.splice(int(live.length), 1)[0]!;
        steps.push({ do: 'wait', child });
        own = [...own, ...back];
      }
    }
    for (const pipe of sends) steps.push({ do: 'send', pipe });
    for (const pipe of receives) steps.push({ do: 'receive', pipe });
    for (const { child, files: back } of live) {
      steps.push({ do: 'wait', child });
      own = [...own, ...back];
      if (own.length > 0 && rnd() < 0.5) steps.push({ do: 'read', file: own[int(own.length)]! });
    }
    if (rnd() < 0.7) steps.push({ do: 'output' });
    return steps;
  }

  const program = build(
    Array.from({ length: files }, (_, file) => file),
    0,
    [],
    [],
  );
  return { seed, program, files, pipes };
}

/** The run without speculation: every step waits for its truth. */
export function runPlainly(world: World): Observed {
  const server = new FileServer(world);
  const pipes: number[][] = Array.from({ length: world.pipes }, () => []);
  const outputs: Record<string, number[]> = {};
  const exits: Record<string, number> = {};
  interface Running {
    readonly id: string;
    readonly program: Program;
    at: number;
    value: number;
    children: number;
  }
  const processes: Running[] = [{ id: '0', program: world.program, at: 0, value: world.seed >>> 0, children: 0 }];
  for (let moved = true; moved; ) {
    moved = false;
    for (const process of processes) {
      for (; process.at < process.program.length; process.at++) {
        const step = process.program[process.at]!;
        if (step.do === 'receive' && pipes[step.pipe]!.length === 0) break;
        if (step.do === 'wait' && !(`${process.id}.${step.child}` in exits)) break;
        moved = true;
        if (step.do === 'read') process.value = mix(process.value, server.read(step.file));
        else if (step.do === 'write') {
          const value = mix(process.value, process.at);
          process.value = mix(process.value, server.write(step.file, value) ? 1 : 2);
        } else if (step.do === 'output') {
          outputs[process.id] ??= [];
          outputs[process.id]!.push(process.value);
        } else if (step.do === 'send') pipes[step.pipe]!.push(process.value);
        else if (step.do === 'receive') process.value = mix(process.value, pipes[step.pipe]!.shift()!);
        else if (step.do === 'fork') {
          const id = `${process.id}.${process.children++}`;
          processes.push({ id, program: step.program, at: 0, value: mix(process.value, 5), children: 0 });
        } else process.value = mix(process.value, exits[`${process.id}.${step.child}`]!);
      }
      if (process.at === process.program.length && !(process.id in exits)) {
        exits[process.id] = process.value;
        moved = true;
      }
    }
  }
  return { outputs, exits, files: server.values, versions: server.versions };
}
