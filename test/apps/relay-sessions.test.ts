/** The relay's session table against a plain map, over random clients, uses and removals. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { encodeSockaddr, SOCKADDR_BYTES } from '../../src/address/sockaddr.ts';
import { SessionTable } from '../../src/apps/relay-sessions.ts';

type Step =
  | { readonly do: 'use'; readonly client: number }
  | { readonly do: 'remove'; readonly client: number }
  | { readonly do: 'expire' };

const client = fc.integer({ min: 0, max: 11 });
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 4, arbitrary: fc.record({ do: fc.constant('use' as const), client }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('remove' as const), client }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('expire' as const) }) },
);

/** Twelve clients: same host and different ports, same port and different hosts, both families. */
function addressOf(id: number): { bytes: Uint8Array; length: number } {
  const bytes = new Uint8Array(SOCKADDR_BYTES + 1);
  const host = id % 3 === 0 ? '127.0.0.1' : id % 3 === 1 ? `10.0.0.${id}` : `fe80::${id}`;
  return { bytes, length: encodeSockaddr({ host, port: 4000 + Math.floor(id / 3) }, bytes, 1) };
}

describe('SessionTable', () => {
  it('behaves as a map in order of last use', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 120 }), fc.integer(), (steps, seed) => {
        const table = new SessionTable(8, seed);
        const slots = new Map<number, number>();
        for (const [now, action] of steps.entries()) {
          if (action.do === 'expire') {
            const oldest = [...slots.keys()][0];
            assert.equal(table.oldest, oldest === undefined ? -1 : slots.get(oldest));
            if (oldest === undefined) continue;
            table.remove(slots.get(oldest)!);
            slots.delete(oldest);
            continue;
          }
          const { bytes, length } = addressOf(action.client);
          let slot = table.find(bytes, 1, length);
          assert.equal(slot, slots.get(action.client) ?? -1);
          if (action.do === 'remove') {
            if (slot >= 0) table.remove(slot);
            slots.delete(action.client);
          } else {
            if (slot < 0) slot = table.insert(bytes, 1, length, now);
            assert.equal(slot < 0, slots.size === 8 && !slots.has(action.client));
            if (slot < 0) continue;
            table.touch(slot, now);
            assert.equal(table.usedAt(slot), now);
            slots.delete(action.client);
            slots.set(action.client, slot);
            const back = new Uint8Array(SOCKADDR_BYTES);
            assert.equal(table.writeAddress(slot, back, 0), length);
            assert.deepEqual(back.subarray(0, length), bytes.subarray(1, 1 + length));
          }
          assert.equal(table.size, slots.size);
        }
      }),
      { numRuns: 200, seed: 3 },
    );
  });

  it('refuses a bad capacity', () => {
    for (const capacity of [0, -1, 1.5, 2 ** 21]) assert.throws(() => new SessionTable(capacity), RangeError);
  });
});
