/** What `xdp:…` says, and what is wrong with it. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { DEFAULT_SPIN_US, parseXdpSpec } from '../../src/datapath/xdp/options.ts';

describe('xdp:…', () => {
  it('has an interface, and everything else by default', () => {
    assert.deepEqual(parseXdpSpec('eth0'), {
      interfaceName: 'eth0',
      own: [],
      gateways: [],
      queues: 0,
      mode: 'auto',
      copy: false,
      spinUs: DEFAULT_SPIN_US,
    });
  });

  it('has addresses of its own, routers, queues and a mode', () => {
    const spec = parseXdpSpec(
      'enp1s0f0np0,own=10.0.0.9/24,own=fd00::9/64,gateway=10.0.0.1,gateway=fe80::1,queues=4,mode=native,copy,spin=0',
    );
    assert.deepEqual(spec, {
      interfaceName: 'enp1s0f0np0',
      own: [
        { host: '10.0.0.9', prefixLength: 24 },
        { host: 'fd00::9', prefixLength: 64 },
      ],
      gateways: ['10.0.0.1', 'fe80::1'],
      queues: 4,
      mode: 'native',
      copy: true,
      spinUs: 0,
    });
  });

  for (const [text, message] of [
    ['', /'' names no interface/],
    ['a/b', /'a\/b' names no interface/],
    ['averyveryverylongname', /names no interface/],
    ['eth0,own=10.0.0.9', /own=10\.0\.0\.9 needs the length of its prefix, e\.g\. own=10\.0\.0\.9\/24/],
    ['eth0,own=10.0.0.9/33', /'own=10\.0\.0\.9\/33' is not a number from 0 to 32/],
    ['eth0,own=10.0.0/24', /has no IP address/],
    ['eth0,gateway=10.0.0.1', /needs an own= address of its family/],
    ['eth0,own=10.0.0.9/24,gateway=10.0.0.1,gateway=10.0.0.2', /one gateway of each family at most/],
    ['eth0,queues=0', /'queues=0' is not a number from 1 to 64/],
    ['eth0,queues=two', /is not a number/],
    ['eth0,mode=fast', /'mode=fast' is not understood; the form is xdp:IF/],
    ['eth0,copy=yes', /'copy=yes' is not understood/],
  ] as const) {
    it(`refuses '${text}'`, () => {
      assert.throws(() => parseXdpSpec(text), { code: 'EINVAL', message });
    });
  }
});
