import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Gathering } from '../../src/datapath/uring/gathering.ts';

/** Sleeps until the next one that gathers; gives how many did not. */
function plainSleeps(gathering: Gathering): number {
  for (let plain = 0; plain < 10_000; plain++) if (gathering.wanted(200) > 1) return plain;
  return assert.fail('it never gathers again');
}

describe('gathering', () => {
  it('waits for an eighth of those who talk, at most 8, and for nobody where they are few', () => {
    const gathering = new Gathering();
    const wanted = [0, 1, 16, 31, 32, 50, 64, 200, 10_000].map((talking) => gathering.wanted(talking));
    assert.deepEqual(wanted, [1, 1, 1, 1, 4, 6, 8, 8, 8]);
  });

  it('tries less and less often where it is in vain, and again at once where it is not', () => {
    const gathering = new Gathering();
    const plain: number[] = [];
    for (let i = 0; i < 10; i++) {
      plain.push(plainSleeps(gathering));
      gathering.brought(1);
    }
    assert.deepEqual(plain, [0, 1, 3, 7, 15, 31, 63, 127, 255, 255]);
    plainSleeps(gathering);
    gathering.brought(5);
    assert.equal(plainSleeps(gathering), 0);
  });
});
