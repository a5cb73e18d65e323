/** The outbox against a plain model: random pushes, sends, withdrawals, of several sockets over one pool. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { type Backlog, Outbox } from '../../src/datapath/sockets/outbox.ts';
import { Heap, heapBytes } from '../../src/ring/heap.ts';
import { localRegion } from '../../src/ring/region.ts';

const CLASSES = [{ bytes: 64, count: 4096 }];

interface Piece {
  readonly at: number;
  readonly bytes: number;
  readonly owner: number;
}

/** What the outbox should hold: pieces in order, as (offset, length, owner). */
class Model implements Backlog {
  outHead = -1;
  outTail = -1;
  unsent = 0;
  begun = false;
  pieces: Piece[] = [];
}

const step = fc.oneof(
  { weight: 4, arbitrary: fc.record({ do: fc.constant('push'), bytes: fc.array(fc.nat(64), { maxLength: 5 }) }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('send'), share: fc.double({ min: 0, max: 1, noNaN: true }) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('withdraw'), which: fc.nat(20) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('drop') }) },
);

describe('the outbox', () => {
  it('holds what a list would hold', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.nat(2), step), { maxLength: 200 }), (steps) => {
        const heap = new Heap(localRegion(heapBytes(CLASSES)), { sizeClasses: CLASSES });
        const outbox = new Outbox();
        const backlogs = [new Model(), new Model(), new Model()];
        let token = 0;
        for (const [which, action] of steps) {
          const backlog = backlogs[which]!;
          if ('bytes' in action) {
            token++;
            for (const bytes of action.bytes) {
              const buffer = heap.alloc(bytes);
              outbox.append(backlog, buffer, token);
              backlog.pieces.push({ at: buffer.offset, bytes, owner: token });
            }
          } else if ('share' in action) {
            const bytes = Math.floor(backlog.unsent * action.share);
            outbox.consume(backlog, bytes);
            send(backlog, bytes);
          } else if ('which' in action) {
            const owner = token - action.which;
            const count = backlog.pieces.filter((piece) => piece.owner === owner).length;
            const begun = backlog.begun && backlog.pieces[0]?.owner === owner;
            outbox.withdraw(backlog, owner, count);
            if (!begun) backlog.pieces = backlog.pieces.filter((piece) => piece.owner !== owner);
          } else {
            outbox.dropAll(backlog);
            backlog.pieces = [];
          }
          for (const each of backlogs) assert.deepEqual(contents(outbox, each), each.pieces);
        }
        const held = backlogs.reduce((sum, { pieces }) => sum + pieces.length, 0);
        assert.equal(heap.inUse, held, 'each descriptor holds one buffer');
      }),
      { seed: 20, numRuns: 200 },
    );
  });

  it('keeps a push whole that has been sent in part, and takes back one that has not', () => {
    const heap = new Heap(localRegion(heapBytes(CLASSES)), { sizeClasses: CLASSES });
    const outbox = new Outbox();
    const backlog = new Model();
    for (const owner of [1, 1, 2]) outbox.append(backlog, heap.alloc(10), owner);
    outbox.consume(backlog, 10);
    outbox.withdraw(backlog, 1, 2);
    assert.equal(backlog.unsent, 20, 'the first piece of push 1 is gone, so its second must follow');
    outbox.withdraw(backlog, 2, 1);
    assert.equal(backlog.unsent, 10);
    outbox.dropAll(backlog);
    assert.equal(heap.inUse, 0);
  });

  it('grows to its bound, and says how much room is left', () => {
    const heap = new Heap(localRegion(heapBytes(CLASSES)), { sizeClasses: CLASSES });
    const outbox = new Outbox();
    outbox.withNames();
    const backlog = new Model();
    const before = outbox.room;
    const buffer = heap.alloc(1);
    for (let i = 0; i < 5000; i++) outbox.append(backlog, buffer.retain(), -1);
    assert.equal(outbox.room, before - 5000);
    assert.ok(outbox.names!.length >= 5000 * 8);
    outbox.dropAll(backlog);
    buffer.release();
    assert.equal(outbox.room, before);
    assert.equal(heap.inUse, 0);
  });
});

/** As a stream: whole pieces leave, then part of one; empty ones leave with what is before them. */
function send(backlog: Model, bytes: number): void {
  while (backlog.pieces.length > 0) {
    const { at, bytes: length, owner } = backlog.pieces[0]!;
    if (length > bytes) {
      backlog.pieces[0] = { at: at + bytes, bytes: length - bytes, owner };
      return;
    }
    bytes -= length;
    backlog.pieces.shift();
  }
}

function contents(outbox: Outbox, backlog: Backlog): Piece[] {
  const pieces: Piece[] = [];
  let bytes = 0;
  let last = -1;
  for (let node = backlog.outHead; node >= 0; node = outbox.next[node]!) {
    pieces.push({ at: outbox.at[node]!, bytes: outbox.length[node]!, owner: outbox.owner[node]! });
    bytes += outbox.length[node]!;
    last = node;
  }
  assert.equal(backlog.outTail, last);
  assert.equal(backlog.unsent, bytes);
  return pieces;
}
