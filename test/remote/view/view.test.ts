/**
 * The view against a plain tree: random programs must see the same, and leave the same behind, whatever the server's delays,
 * its order of execution and its restarts. All of it in simulated time.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { ViewOptions } from '../../../src/remote/view/view.ts';
import type { MemoryServerOptions } from '../memory-server.ts';
import { MemoryTree } from '../memory-tree.ts';
import { ModelRunner, type Step, steps, ViewRunner } from './programs.ts';
import { makeWorld, type World } from './world.ts';

/** Of a server of small pages and requests, so that there are many. */
function smallWorld(
  server: Omit<Partial<MemoryServerOptions>, 'clock'> = {},
  view: Partial<ViewOptions> = {},
): Promise<World> {
  return makeWorld(view, { pageEntries: 3, maxRead: 1000, maxWrite: 700, ...server });
}

/** Numbers from a seed (mulberry32). */
function random(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let x = Math.imul(state ^ (state >>> 15), state | 1);
    x ^= x + Math.imul(x ^ (x >>> 7), x | 61);
    return ((x ^ (x >>> 14)) >>> 0) / 2 ** 32;
  };
}

async function compare(world: World, program: readonly Step[], between: (i: number) => void = () => {}): Promise<void> {
  const { clock, server, view } = world;
  const model = new MemoryTree();
  const ours = new ViewRunner(world.driver, '', async (ms) => void clock.after(ms, () => {}));
  const theirs = new ModelRunner(model, '');
  for (const [i, step] of program.entries()) {
    between(i);
    const seen = await clock.until(ours.step(step));
    if (step.kind === 'wait') await clock.pass(step.n * 20);
    assert.equal(seen, await theirs.step(step), `step ${i}: ${JSON.stringify(step)}`);
  }
  await clock.until(ours.end());
  await theirs.end();
  await clock.until(view.writeBack.flushAll());
  assert.deepEqual(server.tree.describe(), model.describe());
  assert.equal(view.writeBack.unwrittenBytes, 0);
}

const RUNS = Number(process.env['ISTHMUS_VIEW_RUNS'] ?? 200);

test('a program sees on the view what it would see on a plain tree', async () => {
  await fc.assert(
    fc.asyncProperty(steps(60), async (program) => compare(await smallWorld(), program)),
    { numRuns: RUNS },
  );
});

test('the same with a tiny cache, without vouched changes of directories, and with a coarse clock', async () => {
  const property = fc.asyncProperty(steps(60), async (program) => {
    const tree = new MemoryTree();
    tree.operationsPerTick = 5;
    const world = await smallWorld({ tree, vouches: false }, { dataBytes: 4096, unwrittenBytes: 2000, names: 4 });
    await compare(world, program);
  });
  await fc.assert(property, { numRuns: RUNS });
});

test('a server that loses uncommitted data again and again loses nothing that was closed', async () => {
  const property = fc.asyncProperty(steps(60), fc.integer(), async (program, seed) => {
    const next = random(seed);
    const world = await smallWorld({ delay: () => next() * 20 });
    const trouble = (): void => {
      if (next() < 0.2) world.clock.after(next() * 40, () => world.server.restart());
    };
    await compare(world, program, trouble);
  });
  await fc.assert(property, { numRuns: RUNS });
});

test('programs side by side, whose requests the server executes in any order', async () => {
  const property = fc.asyncProperty(
    fc.array(steps(25), { minLength: 2, maxLength: 4 }),
    fc.integer(),
    async (all, seed) => {
      const next = random(seed);
      const { clock, server, view, driver } = await smallWorld({ delay: () => next() * 30 });
      const model = new MemoryTree();
      const run = async (program: readonly Step[], number: number): Promise<void> => {
        const root = `/p${number}`;
        await driver.make(root, { kind: 'mkdir', mode: 0o755 });
        const ours = new ViewRunner(
          driver,
          root,
          () => new Promise((resolve) => void clock.after(next() * 5000, resolve)),
        );
        model.add(model.root, `p${number}`, 2, { mode: 0o755 });
        const theirs = new ModelRunner(model, root);
        for (const step of program) assert.equal(await ours.step(step), await theirs.step(step), JSON.stringify(step));
        await ours.end();
        await theirs.end();
      };
      await clock.until(Promise.all(all.map(run)));
      await clock.until(view.writeBack.flushAll());
      assert.deepEqual(server.tree.describe(), model.describe());
    },
  );
  await fc.assert(property, { numRuns: RUNS });
});
