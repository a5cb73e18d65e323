/** When the event loop is kept awake for a reply, and that it sleeps again. It touches the event loop only. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BusyPoll } from '../../../src/remote/rpc/busy-poll.ts';

const turns = (): boolean => process.getActiveResourcesInfo().includes('Immediate');
const turn = () => new Promise<void>((resolve) => setImmediate(resolve));

/** Runs calls that take so long when slept through or polled for; gives the part that was polled for. */
function drive(poll: BusyPoll, calls: number, sleptMs: number, polledMs: number): number {
  let polled = 0;
  for (let i = 0; i < calls; i++) {
    const took = poll.polling ? polledMs : sleptMs;
    if (poll.polling) polled++;
    poll.sent(0);
    poll.received(took);
  }
  return polled / calls;
}

test('it polls where that is faster, now and then tries the other way, and turns when the machine does', () => {
  const poll = new BusyPoll(0.1);
  const part = drive(poll, 10_000, 0.08, 0.04);
  assert.ok(part > 0.85 && part < 1, `${part}`);
  drive(poll, 1000, 0.08, 0.3);
  assert.ok(drive(poll, 10_000, 0.08, 0.3) < 0.15);
  drive(poll, 1000, 0.08, 0.04);
  assert.ok(drive(poll, 10_000, 0.08, 0.04) > 0.85);
});

test('a gain of a few percent is not worth a processor, a far server is never polled for, and 0 is never', () => {
  assert.ok(drive(new BusyPoll(0.1), 10_000, 0.08, 0.075) < 0.15);
  assert.equal(drive(new BusyPoll(0.1), 10_000, 1, 0.5), 0);
  assert.equal(drive(new BusyPoll(0), 10_000, 0.01, 0.001), 0);
});

test('the loop turns from the request to the reply, and no longer than its patience', async () => {
  const poll = new BusyPoll(60_000);
  while (!poll.polling) drive(poll, 1, 1, 1);
  poll.sent(performance.now());
  for (let i = 0; i < 5; i++) await turn();
  assert.ok(turns());
  poll.received(performance.now());
  for (let i = 0; i < 2; i++) await turn();
  assert.ok(!turns());
  poll.sent(performance.now() - 200_000);
  for (let i = 0; i < 2; i++) await turn();
  assert.ok(!turns());
});
