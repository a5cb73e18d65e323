/**
 * Questions that are under way together with a change of ours: of an answer that may be of before it or of after it, and does not
 * say which, nothing is kept. In simulated time, on an in-memory server whose answers take as long as the test says.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { OpenFile } from '../../../src/remote/view/files.ts';
import type { ViewNode } from '../../../src/remote/view/node.ts';
import type { Mutation, ViewOperation } from '../../../src/remote/view/operation.ts';
import { Link, Make } from '../../../src/remote/view/operations/making.ts';
import { Remove, Rename } from '../../../src/remote/view/operations/moving.ts';
import { Readdir } from '../../../src/remote/view/operations/readdir.ts';
import { Getattr } from '../../../src/remote/view/operations/reading.ts';
import { Flush, Setattr, Write } from '../../../src/remote/view/operations/writing.ts';
import { UndoLog } from '../../../src/remote/view/undo.ts';
import { openView, type View } from '../../../src/remote/view/view.ts';
import { MemoryServer } from '../memory-server.ts';
import { SimulatedClock } from '../simulated-clock.ts';

const CALLER = { credential: null, thread: 0 };
const FILE = { kind: 'create', mode: 0o644, exclusive: false, truncate: true } as const;
const DELAY_MS = 5;

interface World {
  readonly clock: SimulatedClock;
  readonly view: View;
  /** A file of two names, `a` and `c`; beside them there is `b`. */
  readonly file: ViewNode;
  /** Milliseconds that the next requests and answers take, in the order in which they leave. */
  readonly delays: number[];
  done<Answer>(operation: ViewOperation<Answer>): Promise<Answer>;
  /** Assumes the change and sends it; it is settled when the answer comes. */
  send(mutation: Mutation): Promise<void>;
}

async function world(): Promise<World> {
  const clock = new SimulatedClock();
  const delays: number[] = [];
  const server = new MemoryServer({ clock, maxBatch: 100, delay: () => delays.shift() ?? DELAY_MS });
  const view = await clock.until(openView(server, clock));
  const done = async <Answer>(operation: ViewOperation<Answer>): Promise<Answer> => {
    const outcome = await clock.until(operation.perform());
    assert.equal(outcome.errno, 0);
    return outcome.answer!;
  };
  const make = async (name: string) => (await done(new Make(view, CALLER, view.root, name, FILE))).node!;
  const file = await make('a');
  await make('b');
  await done(new Link(view, CALLER, file, view.root, 'c'));
  assert.equal(file.attributes.linkCount, 2);
  await clock.pass(100);
  return {
    clock,
    view,
    file,
    delays,
    done,
    send: async (mutation) => {
      const undo = new UndoLog();
      mutation.assume(undo);
      const results = await view.server.batch(mutation.steps((node) => node.handle!));
      assert.equal(mutation.settle(results).errno, 0);
      undo.clear();
    },
  };
}

const CHANGES: readonly (readonly [name: string, change: (view: View) => Mutation])[] = [
  ['rename', (view) => new Rename(view, CALLER, view.root, 'b', view.root, 'c')],
  ['unlink', (view) => new Remove(view, CALLER, 'unlink', view.root, 'c')],
];

for (const [name, change] of CHANGES) {
  test(`a listing of before a ${name} that comes after it gives no link back`, async () => {
    const { clock, view, file, delays, done, send } = await world();
    // The listing is executed first, and its answer comes last.
    const listing = new Readdir(view, CALLER, view.root).perform();
    await clock.pass(1);
    delays.push(DELAY_MS, 4 * DELAY_MS);
    await clock.until(send(change(view)));
    assert.equal(file.attributes.linkCount, 1);
    await clock.until(listing);
    assert.equal(file.attributes.linkCount, 1);
    const { attributes } = await done(new Getattr(view, CALLER, file));
    assert.equal(attributes.linkCount, 1);
    assert.ok(view.attributesMs(file) > 0, 'what is asked for later is kept');
  });

  test(`a listing of after a ${name} that comes before its answer takes no second link`, async () => {
    const { clock, view, file, delays, send } = await world();
    delays.push(DELAY_MS, DELAY_MS + 1);
    const sent = send(change(view));
    const listing = new Readdir(view, CALLER, view.root).perform();
    delays.push(8 * DELAY_MS, DELAY_MS);
    await clock.until(listing);
    assert.equal(file.assumed, 1, 'the change is still under way');
    assert.equal(file.attributes.linkCount, 1);
    await clock.until(sent);
    assert.equal(file.attributes.linkCount, 1);
  });
}

test('who asks for attributes meanwhile is given what the server says, and nothing is kept of it', async () => {
  const { clock, view, file, delays, send } = await world();
  view.expire(file);
  const asked = new Getattr(view, CALLER, file).perform();
  await clock.pass(1);
  delays.push(DELAY_MS, 4 * DELAY_MS);
  await clock.until(send(new Rename(view, CALLER, view.root, 'b', view.root, 'c')));
  const { answer } = await clock.until(asked);
  assert.equal(answer!.attributes.linkCount, 2);
  assert.equal(answer!.validMs, 0);
  assert.equal(file.attributes.linkCount, 1);
  assert.equal(view.attributesMs(file), 0);
});

test('data read while a cut is assumed is not there again when the file grows', async () => {
  const { clock, view, file, done } = await world();
  const open = new OpenFile(file, 1, null);
  await done(new Write(view, open, 0, new Uint8Array(8).fill(7)));
  await done(new Flush(view, open));
  file.data!.dropClean();
  const assumed = [3, 8].map((size) => {
    const setattr = new Setattr(view, CALLER, file, { size });
    const undo = new UndoLog();
    setattr.assume(undo);
    return { setattr, undo };
  });
  await clock.until(view.loader.load(file, 0, 8, null, true));
  for (const { setattr, undo } of assumed) {
    const results = await clock.until(view.server.batch(setattr.steps((node) => node.handle!)));
    assert.equal(setattr.settle(results).errno, 0);
    undo.clear();
  }
  await clock.until(view.loader.load(file, 0, 8, null, true));
  assert.deepEqual([...file.data!.slice(0, 8)], [7, 7, 7, 0, 0, 0, 0, 0]);
});
