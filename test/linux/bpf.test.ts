/** Maps, and what is said of a program that the kernel's verifier refuses. */
import assert from 'node:assert/strict';
import { describe, it, type TestContext } from 'node:test';
import fc from 'fast-check';
import { BpfMap, BpfVerifierError, bpfObjectIds, linkXdp, loadXdpProgram, MapType } from '../../src/linux/bpf.ts';
import { BpfAssembler } from '../../src/linux/bpf-assembler.ts';
import { xdpRefusal } from '../../src/linux/xdp-probe.ts';
import { need } from '../support/need.ts';
import { labFor, until } from './lab-support.ts';

function can(t: TestContext): boolean {
  const refusal = xdpRefusal();
  return need(t, refusal === null, refusal?.message ?? '');
}

describe('eBPF maps', () => {
  it('keep what a hash map of JavaScript keeps', (t) => {
    if (!can(t)) return;
    const map = new BpfMap({ type: MapType.HASH, keyBytes: 4, valueBytes: 4, maxEntries: 16, name: 'test_hash' });
    t.after(() => map.close());
    const model = new Map<number, number>();
    const step = fc.record({ key: fc.nat(7), value: fc.nat(), remove: fc.boolean() });
    fc.assert(
      fc.property(fc.array(step), (steps) => {
        for (const { key, value, remove } of steps) {
          if (remove) assert.equal(map.delete(key), model.delete(key));
          else {
            map.update(key, value);
            model.set(key, value);
          }
        }
        for (let key = 0; key < 8; key++) {
          const got = map.lookup(key);
          assert.equal(got === null ? undefined : new Int32Array(got.buffer)[0], model.get(key));
        }
        const keys = map.keys().map((key) => new Int32Array(key.buffer)[0]!);
        assert.deepEqual(keys.sort(), [...model.keys()].sort());
      }),
    );
  });

  it('say when they are full, and refuse what does not fit', (t) => {
    if (!can(t)) return;
    const map = new BpfMap({ type: MapType.HASH, keyBytes: 4, valueBytes: 2, maxEntries: 1, name: 'test_small' });
    t.after(() => map.close());
    map.update(1, new Uint8Array(2));
    assert.throws(() => map.update(2, new Uint8Array(2)), { code: 'E7' });
    assert.throws(() => map.update(1, new Uint8Array(3)), RangeError);
    assert.throws(() => map.update(1, 5), TypeError);
    assert.throws(
      () => new BpfMap({ type: MapType.HASH, keyBytes: 4, valueBytes: 4, maxEntries: 1, name: 'a b' }),
      TypeError,
    );
    assert.throws(() => new BpfMap({ type: MapType.HASH, keyBytes: 0, valueBytes: 4, maxEntries: 1, name: 'x' }), {
      code: 'EINVAL',
      syscall: 'bpf',
    });
    map.close();
    map.close();
    assert.throws(() => map.lookup(1), { code: 'EBADF' });
  });
});

describe('programs that the verifier refuses', () => {
  it('are refused with the place, the reason and the whole log', (t) => {
    if (!can(t)) return;
    const code = new BpfAssembler()
      .load('u32', 'r2', 'r1', 0)
      .label('careless')
      .move('r0', 2)
      .load('u8', 'r3', 'r2', 13) // without having looked whether the frame is so long
      .exit()
      .assemble();
    assert.throws(
      () => loadXdpProgram('careless', code),
      (error) => {
        assert.ok(error instanceof BpfVerifierError);
        assert.equal(error.code, 'EACCES');
        assert.match(
          error.message,
          /^EACCES: the kernel's verifier refused program careless at instruction 2 \(careless\+1\): /,
        );
        assert.match(error.message, /R2 offset is outside of the packet$/);
        assert.match(error.log, /invalid access to packet, off=13 size=1/);
        assert.ok(!error.message.includes('\n'));
        return true;
      },
    );
  });

  it('and those whose map is missing', (t) => {
    if (!can(t)) return;
    const code = new BpfAssembler().loadMap('r1', 'nothing').move('r0', 2).exit().assemble();
    assert.throws(() => loadXdpProgram('lacking', code), /program lacking has no map nothing/);
  });
});

describe('an XDP link', () => {
  it('is the only one of its interface, and gone when closed', async (t) => {
    const lab = labFor(t);
    if (lab === null) return;
    const program = loadXdpProgram('pass_all', new BpfAssembler().move('r0', 2).exit().assemble());
    const { namespace, interfaceIndex } = lab.server;
    const link = namespace.run(() => linkXdp(program, interfaceIndex, 'native'));
    assert.ok(bpfObjectIds('link').includes(link.id));
    assert.throws(() => namespace.run(() => linkXdp(program, interfaceIndex, 'native')), {
      code: 'EBUSY',
      message: /has an XDP program already/,
    });
    assert.throws(() => namespace.run(() => linkXdp(program, 99, 'native')), {
      code: 'EINVAL',
      message: /no such interface/,
    });
    link.close();
    link.close();
    program.close();
    await until(() => !bpfObjectIds('link').includes(link.id), 'link gone');
    await until(() => !bpfObjectIds('program').includes(program.id), 'program gone');
  });
});
