/**
 * Runs a model world speculatively in simulated time: predictions from a stale cache, replies in any order, batches, rollbacks.
 * It plays the part of the process backend and of the file client towards the engine, from a seed.
 */
import assert from 'node:assert/strict';
import { type EngineCounters, SpeculationEngine } from '../../../src/speculation/engine/engine.ts';
import type { Rollback, SpeculativeObject } from '../../../src/speculation/engine/interval.ts';
import { DEFAULT_LIMITS, type SpeculationLimits } from '../../../src/speculation/engine/limits.ts';
import { MutationQueue } from '../../../src/speculation/engine/mutations.ts';
import { Sink } from '../../../src/speculation/engine/sink.ts';
import { FileServer, mix, type Observed, type Program, random, refused, type World } from './model.ts';

export interface RunOptions {
  readonly seed: number;
  /** Share of cache entries that are wrong from the start. */
  readonly stale: number;
  /** The server keeps the order in a batch (v4.1) or not (v3). */
  readonly ordered: boolean;
  readonly limits?: Partial<SpeculationLimits>;
}

interface State {
  readonly at: number;
  readonly value: number;
  readonly children: number;
}

interface Running {
  readonly id: string;
  readonly program: Program;
  readonly object: SpeculativeObject;
  state: State;
  /** Waits for a reply; a rollback makes the reply stale. */
  busy: boolean;
  epoch: number;
  exit: number | null;
  /** The next step waits for the truth: its prediction has just been wrong. */
  truth: boolean;
}

interface Message {
  readonly value: number;
  readonly object: SpeculativeObject;
}

interface Write {
  readonly file: number;
  readonly value: number;
  readonly process: Running;
}

export interface RunResult {
  readonly observed: Observed;
  readonly counters: EngineCounters;
  readonly batches: number;
}

export function runSpeculatively(world: World, options: RunOptions): RunResult {
  const rnd = random(options.seed);
  const limits = { ...DEFAULT_LIMITS, ...options.limits };
  const server = new FileServer(world);
  const cache = server.values.map((value, file) => (rnd() < options.stale ? mix(options.seed, 9, file) : value));
  const processes = new Map<string, Running>();
  const pipes: Message[][] = Array.from({ length: world.pipes }, () => []);
  const outputs: Record<string, number[]> = {};
  const said: number[] = [];
  const sink = new Sink('terminal');
  const timers: { at: number; run: () => void }[] = [];
  let now = 0;
  let batches = 0;
  let sequence = 0;

  const engine = new SpeculationEngine({ rolledBack }, limits);
  const nodes = cache.map((_, file) => engine.object('node', `file ${file}`));
  const queue = new MutationQueue<Write>(engine, { ordered: options.ordered, operations: 5, bytes: 1 << 20 });

  function later(run: () => void): void {
    timers.push({ at: now + 1 + Math.floor(rnd() * 20), run });
  }

  function rolledBack({ restorations, orphaned }: Rollback): void {
    assert.equal(orphaned.length, 0, 'a mutation was executed and then undone');
    for (const { object, to } of restorations) {
      if (object.kind !== 'process') continue;
      const process = processes.get(object.label)!;
      process.epoch++;
      process.busy = false;
      process.exit = null;
      if (to.checkpoint === null) processes.delete(object.label);
      else {
        process.state = to.checkpoint as State;
        process.truth = true;
      }
    }
  }

  function start(id: string, program: Program, value: number, object: SpeculativeObject): void {
    assert(!processes.has(id));
    const state = { at: 0, value, children: 0 };
    processes.set(id, { id, program, object, state, busy: false, epoch: 0, exit: null, truth: false });
  }

  /** Gives the process a checkpoint if it needs one for this; false: it may not have one now. */
  function checkpoint(process: Running, from?: SpeculativeObject): boolean {
    if (engine.full({ speculations: 1, undoBytes: 8 }) !== null) return false;
    if (!engine.needsCheckpoint(process.object, from)) return true;
    if (!engine.mayCheckpoint(process.object)) return false;
    engine.begin(process.object, process.state);
    return true;
  }

  function definite(object: SpeculativeObject): boolean {
    return object.log.length === 0;
  }

  function advance(process: Running, learnt: number | null): void {
    const { at, value, children } = process.state;
    process.state = { at: at + 1, value: learnt === null ? value : mix(value, learnt), children };
    process.truth = false;
  }

  /** Lets the process learn the state of an object; false: not now. */
  function learn(process: Running, from: SpeculativeObject): boolean {
    if (definite(from)) return true;
    if (!checkpoint(process, from)) return false;
    engine.absorb(process.object, from);
    return true;
  }

  /** One step; false where the process must wait. */
  function step(process: Running): boolean {
    const { at, value, children } = process.state;
    if (at === process.program.length) {
      process.exit = value;
      engine.end(process.object);
      return true;
    }
    const next = process.program[at]!;
    const guess = !process.truth && rnd() < 0.9;
    const { epoch } = process;
    if (next.do === 'read') {
      const node = nodes[next.file]!;
      if (!definite(node)) {
        if (!guess || !learn(process, node)) return false;
        advance(process, cache[next.file]!);
        return true;
      }
      if (guess && checkpoint(process)) {
        const predicted = cache[next.file]!;
        const speculation = engine.speculate(process.object, 'read', `read ${next.file}`);
        advance(process, predicted);
        later(() => {
          const truth = server.read(next.file);
          later(() => {
            if (truth === predicted) engine.confirm(speculation);
            else if (engine.refute(speculation) !== null) cache[next.file] = truth;
          });
        });
        return true;
      }
      process.busy = true;
      later(() => {
        const truth = server.read(next.file);
        later(() => {
          if (process.epoch !== epoch) return;
          process.busy = false;
          cache[next.file] = truth;
          advance(process, truth);
        });
      });
      return true;
    }
    if (next.do === 'write') {
      const node = nodes[next.file]!;
      const written = mix(value, at);
      if (guess && !refused(cache[next.file]!, written) && learn(process, node)) {
        // A mutation has an interval of its own: what came before it must not be undone with it.
        if (!engine.mayCheckpoint(process.object) || engine.full({ speculations: 1, undoBytes: 8 }) !== null)
          return false;
        engine.begin(process.object, process.state);
        const speculation = engine.speculate(process.object, 'mutation', `write ${next.file}`);
        const old = cache[next.file]!;
        engine.touch(node, process.object, () => cache.splice(next.file, 1, old), 8);
        cache[next.file] = written;
        queue.push({ speculation, payload: { file: next.file, value: written, process }, operations: 1, bytes: 4 });
        advance(process, 1);
        return true;
      }
      if (!definite(process.object) || !definite(node)) return false;
      process.busy = true;
      later(() => {
        const done = server.write(next.file, written);
        const truth = server.read(next.file);
        later(() => {
          process.busy = false;
          cache[next.file] = truth;
          advance(process, done ? 1 : 2);
        });
      });
      return true;
    }
    if (next.do === 'output') {
      if (!(definite(process.object) && sink.empty) && engine.full({ outputBytes: 4 }) !== null) return false;
      const order = ++sequence;
      engine.withhold(process.object, sink, 4, () => {
        outputs[process.id] ??= [];
        outputs[process.id]!.push(value);
        said.push(order);
      });
      advance(process, null);
      return true;
    }
    if (next.do === 'send') {
      if (!definite(process.object) && !checkpointRoom()) return false;
      const pipe = pipes[next.pipe]!;
      const message = { value, object: engine.born('pipe', `pipe ${next.pipe}`, process.object) };
      pipe.push(message);
      engine.record(process.object, () => assert.equal(pipe.pop(), message), 4);
      advance(process, null);
      return true;
    }
    if (next.do === 'receive') {
      const pipe = pipes[next.pipe]!;
      if (pipe.length === 0 || !learn(process, pipe[0]!.object)) return false;
      const message = pipe.shift()!;
      engine.record(process.object, () => pipe.unshift(message), 4);
      advance(process, message.value);
      return true;
    }
    if (next.do === 'fork') {
      if (!definite(process.object) && !checkpointRoom()) return false;
      const id = `${process.id}.${children}`;
      start(id, next.program, mix(value, 5), engine.born('process', id, process.object));
      process.state = { at: at + 1, value, children: children + 1 };
      return true;
    }
    const child = processes.get(`${process.id}.${next.child}`)!;
    if (child.exit === null || !learn(process, child.object)) return false;
    advance(process, child.exit);
    return true;
  }

  function checkpointRoom(): boolean {
    return engine.full({ intervals: 1, undoBytes: 8 }) === null;
  }

  /** Sends what may go; the server executes each request when it arrives, an ordered batch as one. */
  function send(): void {
    const batch = queue.take();
    if (batch.length === 0) return;
    batches++;
    const requests = options.ordered ? [batch] : batch.map((mutation) => [mutation]);
    for (const request of requests) {
      later(() => {
        const results: { done: boolean; truth: number }[] = [];
        for (const { payload } of request) {
          const done = server.write(payload.file, payload.value);
          results.push({ done, truth: server.read(payload.file) });
          if (!done) break;
        }
        later(() => {
          for (const [i, mutation] of request.entries()) {
            const result = results[i];
            if (result === undefined) {
              queue.untouched(request.slice(i));
              break;
            }
            assert.equal(mutation.speculation.state, 'pending', 'a mutation on its way was undone');
            if (result.done) queue.succeeded(mutation);
            else {
              queue.failed(mutation);
              cache[mutation.payload.file] = result.truth;
            }
          }
        });
      });
    }
  }

  start('0', world.program, world.seed >>> 0, engine.object('process', '0'));
  for (let turns = 0; ; turns++) {
    assert(turns < 200_000, 'it never ends');
    const able = [...processes.values()].filter((process) => !process.busy && process.exit === null);
    let moved = false;
    if (able.length > 0 && rnd() < 0.8) {
      const first = Math.floor(rnd() * able.length);
      for (let i = 0; i < able.length && !moved; i++) moved = step(able[(first + i) % able.length]!);
    }
    if (rnd() < 0.5 || !moved) send();
    if (moved) continue;
    if (timers.length > 0) {
      timers.sort((a, b) => a.at - b.at);
      const timer = timers.shift()!;
      now = Math.max(now, timer.at);
      timer.run();
    } else if (able.length === 0 && queue.waiting === 0) break;
    else if (able.every((process) => !step(process)) && queue.waiting === 0 && timers.length === 0) {
      assert.fail(`nothing can move: ${able.map(({ id, state, program }) => `${id} at ${program[state.at]?.do}`)}`);
    }
  }
  assert.deepEqual(
    engine.use,
    { speculations: 0, intervals: 0, undoBytes: 0, outputBytes: 0 },
    'something stays undecided',
  );
  assert.deepEqual(
    said,
    [...said].sort((a, b) => a - b),
    'output left in another order than it was said',
  );
  const exits = Object.fromEntries([...processes.values()].map(({ id, exit }) => [id, exit!]));
  return {
    observed: { outputs, exits, files: server.values, versions: server.versions },
    counters: engine.counters,
    batches,
  };
}
