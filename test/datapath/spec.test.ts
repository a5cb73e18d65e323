/** What `--datapath` says, taken apart and refused. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { openDatapath } from '../../src/datapath/select.ts';
import { parseSpec } from '../../src/datapath/spec.ts';
import { parseTapSpec } from '../../src/datapath/tap/options.ts';

describe('what --datapath says', () => {
  it('is taken apart: kind, text, middleware', () => {
    assert.deepEqual(parseSpec('auto'), { kind: 'auto', text: null, middleware: null });
    assert.deepEqual(parseSpec('memory:x,spin=5'), { kind: 'memory', text: 'x,spin=5', middleware: null });
    assert.deepEqual(parseSpec('tap:t0,10.0.0.1/24,faults=loss:0.01,seed:7,fd00::1/64,pcap=/a:b,trace'), {
      kind: 'tap',
      text: 't0,10.0.0.1/24,fd00::1/64',
      middleware: { faults: { loss: 0.01, seed: 7 }, pcap: '/a:b', trace: true },
    });
    for (const bad of [
      'tap:t,faults=',
      'tap:t,faults=lossy:1',
      'tap:t,faults=loss:2',
      'tap:t,faults=loss:x',
      'tap:t,pcap=',
    ]) {
      assert.throws(() => parseSpec(bad), { code: 'EINVAL' }, bad);
    }
  });

  it('of a tap: name, addresses on both sides, router, MTU', () => {
    assert.deepEqual(parseTapSpec('t0,10.0.0.2/24,fd00::2/64,host=10.0.0.1/24,gateway=10.0.0.1,mtu=9000'), {
      interfaceName: 't0',
      own: [
        { host: '10.0.0.2', prefixLength: 24 },
        { host: 'fd00::2', prefixLength: 64 },
      ],
      host: [{ host: '10.0.0.1', prefixLength: 24 }],
      gateways: ['10.0.0.1'],
      mtu: 9000,
    });
    for (const bad of [
      '',
      't0',
      't0,10.0.0.2',
      't0,10.0.0.2/33',
      't0,x/3',
      't0,10.0.0.2/24,mtu=1',
      'a/b,10.0.0.2/24',
    ]) {
      assert.throws(() => parseTapSpec(bad), { code: 'EINVAL', message: /the form is/ }, bad);
    }
  });

  it('is refused where it means nothing', async () => {
    for (const spec of ['dpdk:x', 'memory:x,trace', 'kernel:x', 'tap:t0']) {
      await assert.rejects(openDatapath(spec), { code: 'EINVAL' }, spec);
    }
  });
});
