/**
 * What is assumed is told to the kernel as nothing that it may keep, and the truth of a change is compared with what was assumed
 * of it. In simulated time, on an in-memory server that runs batches in order.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { BatchResult, ChangeResult, Operation, WriteResult } from '../../../src/remote/server.ts';
import { OpenFile } from '../../../src/remote/view/files.ts';
import type { ViewNode } from '../../../src/remote/view/node.ts';
import type { Mutation, ViewOperation } from '../../../src/remote/view/operation.ts';
import { Lookup } from '../../../src/remote/view/operations/lookup.ts';
import { Make } from '../../../src/remote/view/operations/making.ts';
import { Remove, Rename } from '../../../src/remote/view/operations/moving.ts';
import { Readdir } from '../../../src/remote/view/operations/readdir.ts';
import { Getattr, Open } from '../../../src/remote/view/operations/reading.ts';
import { Flush, Setattr, Write } from '../../../src/remote/view/operations/writing.ts';
import { UndoLog } from '../../../src/remote/view/undo.ts';
import { openView, type View } from '../../../src/remote/view/view.ts';
import { MemoryServer } from '../memory-server.ts';
import { SimulatedClock } from '../simulated-clock.ts';

const CALLER = { credential: null, thread: 0 };
const FILE = { kind: 'create', mode: 0o644, exclusive: false, truncate: true } as const;

interface World {
  readonly clock: SimulatedClock;
  readonly view: View;
  done<Answer>(operation: ViewOperation<Answer>): Promise<Answer>;
  make(name: string): Promise<ViewNode>;
  nameMs(name: string): number;
  send(mutation: Mutation, change?: (results: BatchResult[]) => void): Promise<number>;
}

async function world(): Promise<World> {
  const clock = new SimulatedClock();
  const view = await clock.until(openView(new MemoryServer({ clock, maxBatch: 100 }), clock));
  const done = async <Answer>(operation: ViewOperation<Answer>): Promise<Answer> => {
    const outcome = await clock.until(operation.perform());
    assert.equal(outcome.errno, 0);
    return outcome.answer!;
  };
  return {
    clock,
    view,
    done,
    make: async (name) => (await done(new Make(view, CALLER, view.root, name, FILE))).node!,
    nameMs: (name) => new Lookup(view, CALLER, view.root, name).lookLocal()!.answer!.nameMs,
    send: async (mutation, change = () => {}) => {
      const results = await clock.until(view.server.batch(mutation.steps((node) => node.handle!)));
      change(results);
      return mutation.settle(results).errno;
    },
  };
}

test('the kernel may keep a name again when the change that made it is sure', async () => {
  const { view, make, done, nameMs } = await world();
  await make('a');
  await done(new Readdir(view, CALLER, view.root));
  assert.ok(nameMs('a') > 0 && nameMs('b') > 0);
  for (const keep of [false, true]) {
    const undo = new UndoLog();
    const rename = new Rename(view, CALLER, view.root, 'a', view.root, 'b');
    assert.equal(rename.predict()?.outcome.errno, 0);
    rename.assume(undo);
    assert.deepEqual([nameMs('a'), nameMs('b')], [0, 0]);
    if (keep) undo.clear();
    else undo.run();
    // What is undone makes the directory doubtful; asked again, it can be kept.
    await done(new Lookup(view, CALLER, view.root, keep ? 'b' : 'a'));
    await done(new Readdir(view, CALLER, view.root));
    assert.ok(nameMs('a') > 0 && nameMs('b') > 0);
  }
});

test('attributes with an assumed change are not for the kernel to keep', async () => {
  const { view, make } = await world();
  const node = await make('a');
  const validMs = (each: ViewNode): number => new Getattr(view, CALLER, each).predict()!.outcome.answer!.validMs;
  assert.ok(validMs(node) > 0 && validMs(view.root) > 0);
  const undo = new UndoLog();
  new Make(view, CALLER, view.root, 'b', FILE).assume(undo);
  assert.equal(validMs(view.root), 0);
  assert.ok(validMs(node) > 0);
});

test('the change time that our own rename gives a file is not taken for somebody else’s change', async () => {
  const { clock, view, make, send } = await world();
  const node = await make('a');
  const { epoch } = node;
  await clock.pass(10);
  const undo = new UndoLog();
  const rename = new Rename(view, CALLER, view.root, 'a', view.root, 'b');
  rename.assume(undo);
  assert.equal(await send(rename), 0);
  undo.clear();
  assert.equal(node.epoch, epoch);
  for (const make of [() => new Getattr(view, CALLER, node), () => new Open(view, CALLER, node, [1])]) {
    const operation = make() as ViewOperation;
    const { outcome, invented } = operation.predict()!;
    assert.equal(invented, false);
    view.expire(node);
    assert.equal(operation.agrees(outcome, await clock.until(operation.perform())), true, operation.kind);
  }
});

test('what the server did not tell of our own change is not predicted', async () => {
  const { view, make, done } = await world();
  const node = await make('a');
  await done(new Make(view, CALLER, view.root, 'other', FILE));
  await done(new Rename(view, CALLER, view.root, 'a', view.root, 'b'));
  assert.equal(new Getattr(view, CALLER, node).predict()!.invented, true);
  assert.equal(new Open(view, CALLER, node, [1]).predict()!.invented, true);
  await done(new Getattr(view, CALLER, node));
  assert.equal(new Getattr(view, CALLER, node).predict()!.invented, false);
});

test('attributes that are set otherwise than assumed are a wrong prediction', async () => {
  const { view, make, send } = await world();
  const node = await make('a');
  for (const dropped of [0, 0o2000]) {
    const undo = new UndoLog();
    const setattr = new Setattr(view, CALLER, node, { mode: 0o2755 });
    setattr.assume(undo);
    const errno = await send(setattr, (results) => {
      const { value } = results.at(-1) as { value: { wcc: { after: { mode: number } } } & ChangeResult };
      value.wcc.after.mode &= ~dropped;
    });
    assert.equal(errno === 0, dropped === 0);
    if (errno === 0) undo.clear();
    else undo.run();
  }
  assert.equal(node.attributes.mode, 0o2755);
});

test('a WRITE that falls short stops the batch, or nothing may be behind it', async () => {
  const { view, make, send } = await world();
  const node = await make('a');
  const file = new OpenFile(node, 1, null);
  const flush = (offset: number, undo: UndoLog): { operation: Flush; steps: Operation[] } => {
    new Write(view, file, offset, new Uint8Array(100).fill(7)).assume(undo);
    const operation = new Flush(view, file);
    assert.equal(operation.predict()?.outcome.errno, 0);
    operation.assume(undo);
    return { operation, steps: [...operation.steps((each) => each.handle!)] };
  };
  const first = new UndoLog();
  const extending = flush(0, first);
  assert.deepEqual(
    extending.steps.map((step) => [step.op, step.op === 'verify' ? step.size : 0]),
    [
      ['write', 0],
      ['verify', 100],
    ],
  );
  assert.equal(extending.operation.mayFallShort, false);
  extending.operation.settle([]);
  assert.equal(await send(extending.operation), 0);
  first.clear();

  const second = new UndoLog();
  const inside = flush(0, second);
  assert.deepEqual(
    inside.steps.map(({ op }) => op),
    ['write'],
  );
  assert.equal(inside.operation.mayFallShort, true);
  inside.operation.settle([]);
  const errno = await send(inside.operation, (results) => {
    const { value } = results[0] as { value: { count: number } & WriteResult };
    (value as { count: number }).count = 50;
  });
  assert.notEqual(errno, 0);
  second.run();
});

test('an unlinked name of a file with another one leaves its attributes unsaid', async () => {
  const { view, make, done } = await world();
  const node = await make('a');
  await done(new Remove(view, CALLER, 'unlink', view.root, 'a'));
  assert.equal(node.unsaid, true);
});
