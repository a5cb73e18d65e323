/** A short soak: half a million messages leave nothing behind. `npm run soak` sends 10 million. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { datapathRefusal } from '../../src/cli/datapaths.ts';
import { need } from '../support/need.ts';
import { soak } from './soak.ts';

const MIB = 2 ** 20;

// Each has processes of its own, and nothing is timed.
describe('500,000 messages through echo', { concurrency: 2 }, () => {
  for (const datapath of ['kernel', 'uring']) {
    it(`on ${datapath}: no memory grows`, async (t) => {
      const refusal = await datapathRefusal(datapath);
      if (!need(t, refusal === null, refusal ?? '')) return;
      const { messages, warm, last, rssGrowth, heapGrowth } = await soak({
        messages: 500_000,
        slices: 4,
        datapath,
        say: (line) => t.diagnostic(line),
      });
      assert.ok(messages >= 500_000);
      // Two bytes for each message are more than the noise of V8's own pages.
      assert.ok(heapGrowth < MIB, `the V8 heap grew by ${heapGrowth} bytes`);
      assert.ok(rssGrowth < 8 * MIB, `resident memory grew by ${rssGrowth} bytes`);
      for (const what of ['buffers', 'operations', 'coroutines', 'queues'] as const) {
        assert.equal(last[what], warm[what], `${what} in use`);
      }
    });
  }
});
