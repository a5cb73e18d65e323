/** Addresses as text and bytes, compared with what Node itself accepts and prints. Pure. */
import assert from 'node:assert/strict';
import { isIP, SocketAddress } from 'node:net';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { formatIp, parseIp } from '../../src/address/ip.ts';

const hexGroup = fc.oneof(
  fc.constant('0'),
  fc.integer({ min: 0, max: 0xffff }).map((n) => n.toString(16)),
  fc.constantFrom('', '00000', 'g', 'FFFF', '0db8'),
);
const decimal = fc.oneof(
  fc.integer({ min: 0, max: 300 }).map(String),
  fc.constantFrom('', '00', '01', '0', '255', '256', '1e1', ' 1', '-1'),
);
const ip4ish = fc.array(decimal, { minLength: 3, maxLength: 5 }).map((parts) => parts.join('.'));
const ip6ish = fc
  .tuple(
    fc.array(hexGroup, { maxLength: 8 }),
    fc.constantFrom(':', '::'),
    fc.array(hexGroup, { maxLength: 8 }),
    fc.oneof(fc.constant(''), ip4ish),
    fc.constantFrom('', '', '%eth0', '%7', '%', '%a b', '%a-b.c'),
  )
  .map(([head, gap, tail, ip4, zone]) => head.join(':') + gap + [...tail, ...(ip4 ? [ip4] : [])].join(':') + zone);

describe('parseIp', () => {
  it('accepts exactly what node:net accepts', () => {
    const text = fc.oneof(
      ip4ish,
      ip6ish,
      fc.ipV4(),
      fc.ipV6(),
      fc.string({ unit: fc.constantFrom(...'0123456789abf:.%') }),
    );
    fc.assert(
      fc.property(text, (candidate) => {
        assert.equal(parseIp(candidate)?.family ?? 0, isIP(candidate), JSON.stringify(candidate));
      }),
      { numRuns: 5000, seed: 1 },
    );
  });

  it('gives the bytes in network order and the zone', () => {
    assert.deepEqual(parseIp('127.0.0.1'), { family: 4, bytes: Uint8Array.of(127, 0, 0, 1) });
    assert.deepEqual([...parseIp('1:203::4:5.6.7.8')!.bytes], [0, 1, 2, 3, 0, 0, 0, 0, 0, 0, 0, 4, 5, 6, 7, 8]);
    assert.deepEqual(parseIp('fe80::1%eth0')?.zone, 'eth0');
    assert.equal(parseIp('fe80::1%eth0')?.scope, undefined);
    assert.equal(parseIp('fe80::1%3')?.scope, 3);
  });
});

describe('formatIp', () => {
  it('is undone by parseIp and reads as RFC 5952 says', () => {
    const bytes = fc.array(fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 255 })), {
      minLength: 16,
      maxLength: 16,
    });
    fc.assert(
      fc.property(bytes, (list) => {
        const ip = Uint8Array.from(list);
        const text = formatIp(ip);
        assert.deepEqual(parseIp(text)?.bytes, ip);
        assert.equal(text, text.toLowerCase());
      }),
      { seed: 2 },
    );
    for (const [bytesText, text] of [
      ['0:0:0:0:0:0:0:0', '::'],
      ['0:0:0:0:0:0:0:1', '::1'],
      ['2001:DB8:0:0:1:0:0:1', '2001:db8::1:0:0:1'],
      ['2001:db8:0:1:1:1:1:1', '2001:db8:0:1:1:1:1:1'],
      ['0:0:1:0:0:0:2:0', '0:0:1::2:0'],
      ['1:0:0:0:0:0:0:0', '1::'],
      ['::ffff:1.2.3.4', '::ffff:1.2.3.4'],
    ] as const) {
      assert.equal(formatIp(parseIp(bytesText)!.bytes), text);
      assert.equal(new SocketAddress({ address: bytesText, family: 'ipv6' }).address, text);
    }
    assert.equal(formatIp(Uint8Array.of(10, 0, 0, 255)), '10.0.0.255');
    assert.equal(formatIp(parseIp('fe80::1')!.bytes, 'eth0'), 'fe80::1%eth0');
    assert.throws(() => formatIp(new Uint8Array(5)), RangeError);
  });
});
