import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { AddressIndex } from '../../../src/net/ip/address-index.ts';
import { Destination, LocalAddresses } from '../../../src/net/ip/local-addresses.ts';
import { PATH_MTU_LIFE_MS, PathMtu } from '../../../src/net/ip/path-mtu.ts';
import { MAX_ROUTES, Routes } from '../../../src/net/ip/routes.ts';
import { TokenBucket } from '../../../src/net/ip/token-bucket.ts';
import { type IpWords, linkLocalOf, maskWord, textOfWords, wordsOfText } from '../../../src/net/ip/words.ts';

const word = fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 });

function text({ family, w0, w1, w2, w3 }: IpWords): string {
  return textOfWords(family, w0, w1, w2, w3);
}

test('addresses as words are those of the text', () => {
  for (const literal of ['10.1.2.3', '255.255.255.255', 'fe80::1', '2001:db8::ff00:42:8329', '::']) {
    assert.equal(text(wordsOfText(literal)), literal);
  }
  assert.throws(() => wordsOfText('example.org'), RangeError);
  // RFC 4291 appendix A: 34-56-78-9A-BC-DE gives an identifier that begins with 36.
  assert.equal(text(linkLocalOf(0x3456, 0x789abcde)), 'fe80::3656:78ff:fe9a:bcde');
});

test('masks', () => {
  assert.deepEqual(
    [0, 1, 2, 3].map((i) => maskWord(6, 70, i) >>> 0),
    [0xffffffff, 0xffffffff, 0xfc000000, 0],
  );
  assert.deepEqual(
    [0, 1, 2, 3].map((i) => maskWord(4, 8, i) >>> 0),
    [0, 0, 0, 0xff000000],
  );
  assert.equal(maskWord(4, 0, 3), 0);
  assert.equal(maskWord(4, 32, 3), -1);
  assert.equal(maskWord(6, 128, 3), -1);
});

test('routes: the longest prefix that fits, as a model finds it', () => {
  const prefix = fc.record({ w3: word, length: fc.integer({ min: 0, max: 32 }) });
  fc.assert(
    fc.property(fc.array(prefix, { maxLength: 20 }), fc.array(word, { maxLength: 10 }), (list, targets) => {
      const routes = new Routes();
      for (const { w3, length } of list) routes.add({ family: 4, w0: 0, w1: 0, w2: 0, w3 }, length);
      for (const target of [...targets, ...list.map(({ w3 }) => w3 ^ 1)]) {
        const best = Math.max(
          -1,
          ...list
            .filter(({ w3, length }) => ((w3 ^ target) & maskWord(4, length, 3)) === 0)
            .map(({ length }) => length),
        );
        assert.equal(routes.find(4, 0, 0, 0, target)?.prefixLength ?? -1, best);
        assert.equal(routes.find(6, 0, 0, 0, target), null);
      }
    }),
  );
});

test('routes are bounded, replaced by prefix, and taken away', () => {
  const routes = new Routes();
  const gateway = wordsOfText('10.0.0.254');
  routes.add(wordsOfText('10.1.0.0'), 16);
  routes.add(wordsOfText('10.1.2.3'), 16, { gateway });
  assert.equal(routes.list.length, 1);
  assert.equal(routes.find(4, 0, 0, 0, wordsOfText('10.1.9.9').w3)?.gateway, gateway);
  assert.equal(routes.remove(wordsOfText('10.1.0.0'), 16), true);
  assert.equal(routes.remove(wordsOfText('10.1.0.0'), 16), false);
  for (let i = 0; i < MAX_ROUTES; i++) routes.add(wordsOfText(`10.0.${i}.0`), 24);
  assert.throws(() => routes.add(wordsOfText('11.0.0.0'), 24), RangeError);
  assert.throws(() => routes.add(wordsOfText('::'), 129), RangeError);
  assert.throws(() => routes.add(wordsOfText('::'), 0, { gateway }), RangeError);
});

test('our addresses: whom a destination means, and which one packets come from', () => {
  const own = new LocalAddresses();
  own.add(wordsOfText('10.0.0.1'), 24);
  own.add(wordsOfText('172.16.0.1'), 31);
  own.add(wordsOfText('192.168.3.1'), 16);
  own.add(wordsOfText('2001:db8::1'), 64);
  own.add(wordsOfText('fe80::1'), 64);
  const kind = (literal: string): number => {
    const { family, w0, w1, w2, w3 } = wordsOfText(literal);
    return family === 4 ? own.kind4(w3) : own.kind6(w0, w1, w2, w3);
  };
  const { OTHER, UNICAST, BROADCAST, MULTICAST } = Destination;
  assert.equal(kind('10.0.0.1'), UNICAST);
  assert.equal(kind('10.0.0.2'), OTHER);
  assert.equal(kind('10.0.0.255'), BROADCAST);
  assert.equal(kind('192.168.255.255'), BROADCAST);
  assert.equal(kind('172.16.0.1'), UNICAST);
  assert.equal(kind('172.16.0.0'), OTHER);
  assert.equal(kind('255.255.255.255'), BROADCAST);
  assert.equal(kind('224.0.0.1'), MULTICAST);
  assert.equal(kind('224.0.0.251'), OTHER);
  own.join(wordsOfText('224.0.0.251'));
  assert.equal(kind('224.0.0.251'), MULTICAST);
  own.leave(wordsOfText('224.0.0.251'));
  assert.equal(kind('224.0.0.251'), OTHER);
  assert.equal(kind('ff02::1'), MULTICAST);
  assert.equal(kind('ff02::1:ff00:1'), MULTICAST);
  assert.equal(kind('ff02::1:ff00:2'), OTHER);
  assert.equal(kind('ff05::1'), OTHER);
  const source = (literal: string): string => {
    const { family, w0, w1, w2, w3 } = wordsOfText(literal);
    return text(own.sourceFor(family, w0, w1, w2, w3)!);
  };
  assert.equal(source('192.168.9.9'), '192.168.3.1');
  assert.equal(source('8.8.8.8'), '10.0.0.1');
  assert.equal(source('2001:db8:7::7'), '2001:db8::1');
  assert.equal(source('fe80::7'), 'fe80::1');
  assert.equal(new LocalAddresses().sourceFor(4, 0, 0, 0, 1), null);
});

test('the index by address behaves as a map of bounded size', () => {
  const action = fc.record({ add: fc.boolean(), key: fc.integer({ min: 0, max: 40 }) });
  fc.assert(
    fc.property(fc.array(action, { maxLength: 300 }), word, (actions, key) => {
      const index = new AddressIndex(16, key);
      const model = new Map<number, number>();
      for (const step of actions) {
        const family = step.key & 1 ? 4 : 6;
        const ends = [family, step.key >> 4, 0, step.key >> 2, step.key] as const;
        const slot = index.find(...ends);
        assert.equal(slot, model.get(step.key) ?? -1);
        if (step.add && slot < 0) {
          const fresh = index.insert(...ends);
          assert.equal(fresh < 0, model.size === 16);
          if (fresh >= 0) model.set(step.key, fresh);
        } else if (!step.add && slot >= 0) {
          index.remove(slot);
          model.delete(step.key);
        }
        assert.equal(index.size, model.size);
        assert.equal(new Set(model.values()).size, model.size);
      }
    }),
  );
});

test('path MTU: lowered by what can be true, forgotten in time, bounded', () => {
  const paths = new PathMtu(7, 4);
  const get = (now: number, w3 = 1): number => paths.get(now, 4, 0, 0, 0, w3, 1500);
  const lower = (claimed: number, size = 1500, w3 = 1, now = 0, family = 4): number =>
    paths.lower(now, family, 0, 0, 0, w3, claimed, size, family === 4 ? get(now, w3) : 1500);
  assert.equal(get(0), 1500);
  assert.equal(lower(1500), 0, 'nothing new');
  assert.equal(lower(1400, 1200), 0, 'the packet would have fitted');
  assert.equal(lower(40), 0, 'less than any link');
  assert.equal(lower(1400), 1400);
  assert.equal(get(0), 1400);
  assert.equal(lower(1450), 0, 'no way up');
  // A router that does not say (RFC 1191 5): the next plateau below the packet.
  assert.equal(lower(0, 1400), 1006);
  assert.equal(lower(100), 552, 'not below the floor');
  assert.equal(get(PATH_MTU_LIFE_MS - 1), 552);
  assert.equal(get(PATH_MTU_LIFE_MS), 1500);
  assert.equal(paths.size, 0);
  assert.equal(lower(1279, 1500, 1, 0, 6), 0, 'IPv6 has no link so small');
  assert.equal(lower(1280, 1500, 1, 0, 6), 1280);
  for (let w3 = 10; w3 < 30; w3++) assert.equal(lower(1300, 1500, w3), 1300);
  assert.equal(paths.size, 4);
});

test('a token bucket gives its burst and then its rate', () => {
  const bucket = new TokenBucket(10, 5, 0);
  const taken = (now: number): number => {
    let count = 0;
    while (bucket.take(now)) count++;
    return count;
  };
  assert.equal(taken(0), 5);
  assert.equal(taken(99), 0);
  assert.equal(taken(100), 1);
  assert.equal(taken(50), 0, 'a clock that goes back');
  assert.equal(taken(400), 3);
  assert.equal(taken(1_000_000), 5);
});
