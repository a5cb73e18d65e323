/** Judgement and the gate, by hand-made cases; the random worlds of equivalence.test.ts cover the rest of the engine. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SpeculationEngine } from '../../../src/speculation/engine/engine.ts';
import { Judgement } from '../../../src/speculation/engine/judgement.ts';
import { MutationQueue } from '../../../src/speculation/engine/mutations.ts';

test('speculating pays where the round trip is long and predictions are right', () => {
  const far = new Judgement();
  far.roundTrip(30_000);
  assert.equal(far.pays('getattr', true), true);
  const near = new Judgement();
  near.roundTrip(150);
  assert.equal(near.pays('getattr', true), false);
});

test('a class of predictions that is mostly wrong is given up, tried again now and then, and taken up again', () => {
  const judgement = new Judgement();
  judgement.roundTrip(30_000);
  for (let i = 0; i < 50; i++) judgement.outcome('lookup', false);
  let tried = 0;
  for (let i = 0; i < 640; i++) if (judgement.pays('lookup', true)) tried++;
  assert.equal(tried, 10);
  assert.equal(judgement.pays('getattr', true), true);
  for (let i = 0; i < 50; i++) judgement.outcome('lookup', true);
  assert.equal(judgement.pays('lookup', true), true);
});

test('a checkpoint is weighed against all the predictions that it serves', () => {
  const judgement = new Judgement({ checkpointUs: 800, minimumGainUs: 100 });
  judgement.roundTrip(700);
  assert.equal(judgement.pays('unlink', true), false);
  for (let i = 0; i < 40; i++) {
    judgement.checkpointTaken();
    for (let j = 0; j < 4; j++) judgement.predicted();
  }
  assert.equal(judgement.pays('unlink', true), true);
  for (let i = 0; i < 80; i++) {
    judgement.checkpointTaken();
    judgement.predicted();
  }
  assert.equal(judgement.pays('unlink', true), false);
});

test('what was slow because the machine was busy does not count', () => {
  const judgement = new Judgement();
  for (let i = 0; i < 200; i++) judgement.roundTrip(i % 10 === 0 ? 1000 : 9000);
  assert.equal(judgement.roundTripUs, 1000);
  for (let i = 0; i < 20; i++) judgement.checkpoint(i % 10 === 0 ? 400 : 5000);
  assert.ok(judgement.checkpointUs < 1000);
  // A change lasts: after two windows nothing is left of what was before.
  for (let i = 0; i < 128; i++) judgement.roundTrip(3000);
  assert.equal(judgement.roundTripUs, 3000);
});

test('a chain of mutations of one process goes out as one ordered batch, and what is behind a failure waits again', () => {
  const engine = new SpeculationEngine();
  const queue = new MutationQueue<string>(engine, { ordered: true, operations: 3, bytes: 1000 });
  const process = engine.object('process', 'a');
  const other = engine.object('process', 'b');
  const push = (object: typeof process, name: string) => {
    engine.begin(object, name);
    queue.push({ speculation: engine.speculate(object, 'mutation', name), payload: name, operations: 1, bytes: 1 });
  };
  push(process, 'a1');
  const first = queue.take();
  assert.deepEqual(
    first.map(({ payload }) => payload),
    ['a1'],
  );
  push(process, 'a2');
  push(process, 'a3');
  push(other, 'b1');
  push(process, 'a4');
  assert.deepEqual(queue.take(), [], 'one batch at a time');
  queue.succeeded(first[0]!);
  const second = queue.take();
  assert.deepEqual(
    second.map(({ payload }) => payload),
    ['a2', 'a3', 'b1'],
  );
  queue.failed(second[0]!);
  queue.untouched(second.slice(1));
  const third = queue.take();
  assert.deepEqual(
    third.map(({ payload }) => payload),
    ['b1'],
    'what rested on the failure is gone, the other process only waits again',
  );
  queue.succeeded(third[0]!);
  assert.equal(engine.use.intervals, 0);
});

test('a mutation waits for what was read before it, on any server', () => {
  for (const ordered of [true, false]) {
    const engine = new SpeculationEngine();
    const queue = new MutationQueue<string>(engine, { ordered, operations: 10, bytes: 1000 });
    const process = engine.object('process', 'a');
    engine.begin(process, 0);
    const read = engine.speculate(process, 'read', 'getattr');
    engine.begin(process, 1);
    queue.push({ speculation: engine.speculate(process, 'mutation', 'create'), payload: 'c', operations: 1, bytes: 1 });
    assert.deepEqual(queue.take(), []);
    assert.equal(engine.needsCheckpoint(process), true, 'its intervals are sealed once it waits');
    engine.confirm(read);
    const [create] = queue.take();
    assert.equal(create?.payload, 'c');
    queue.succeeded(create!);
    assert.equal(engine.use.intervals, 0);
  }
});

test('without an order in the server dependent mutations go one after the other, independent ones at once', () => {
  const engine = new SpeculationEngine();
  const queue = new MutationQueue<string>(engine, { ordered: false, operations: 1, bytes: 1 });
  const a = engine.object('process', 'a');
  const b = engine.object('process', 'b');
  for (const object of [a, a, b]) {
    engine.begin(object, 0);
    queue.push({
      speculation: engine.speculate(object, 'mutation', ''),
      payload: object.label,
      operations: 1,
      bytes: 1,
    });
  }
  const first = queue.take();
  assert.deepEqual(
    first.map(({ payload }) => payload),
    ['a', 'b'],
  );
  assert.deepEqual(queue.take(), []);
  queue.succeeded(first[0]!);
  assert.equal(queue.take().length, 1);
});
