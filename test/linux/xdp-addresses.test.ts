/** A filter's addresses: many of them, as they come and go, of several threads, and while the program runs. */
import assert from 'node:assert/strict';
import { describe, it, type TestContext } from 'node:test';
import { Worker } from 'node:worker_threads';
import fc from 'fast-check';
import { testXdpProgram } from '../../src/linux/bpf.ts';
import { Protocol, XdpFilter } from '../../src/linux/xdp-filter.ts';
import { JoinedXdpFilter, shareFilter } from '../../src/linux/xdp-filter-shared.ts';
import { ADDRESS_ENTRY_BYTES, ADDRESS_KEY_BYTES, ADDRESS_SLOTS, AddressWord } from '../../src/linux/xdp-layout.ts';
import { XDP_PASS, XDP_REDIRECT } from '../../src/linux/xdp-program.ts';
import { arpRequest, ipFrame, solicitation, TCP, tcpSyn, udpFrame } from './frames.ts';
import { labFor, Station } from './lab-support.ts';

const SEED = 20262;
const PORT = 7000;
/** Of the program in one call, which takes some 15 ms before it begins. */
const RUNS = 300_000;

/** A filter with a socket on queue 0 and no addresses. */
function filterFor(t: TestContext): XdpFilter | null {
  const lab = labFor(t);
  if (lab === null) return null;
  const filter = lab.server.namespace.run(() => new XdpFilter(lab.server.interfaceIndex, { mode: 'none' }));
  new Station(t, lab.server, { filter });
  return filter;
}

function syn(to: string, port: number): Uint8Array {
  const ends = { from: to.includes(':') ? 'fd88::2' : '10.88.0.2', to };
  return ipFrame(ends, TCP, tcpSyn(ends, 4000, port));
}

function isOurs(filter: XdpFilter, frame: Uint8Array): boolean {
  return testXdpProgram(filter.program, frame).result === XDP_REDIRECT;
}

/** What the filter says of an address: all is ours, the served port is, or nothing. */
function standing(filter: XdpFilter, address: string): 'own' | 'served' | 'nothing' {
  const [port, other] = [isOurs(filter, syn(address, PORT)), isOurs(filter, syn(address, PORT + 1))];
  assert.ok(port || !other, address);
  const ends = { from: address.includes(':') ? 'fd88::2' : '10.88.0.2', to: address };
  assert.equal(isOurs(filter, ends.to.includes(':') ? solicitation(ends) : arpRequest(ends)), other, address);
  return other ? 'own' : port ? 'served' : 'nothing';
}

const address = (i: number): string => (i % 2 === 0 ? `10.3.0.${i}` : `fd03:${i}::${i}`);

describe('the addresses of a filter', () => {
  it('are 64, own or served, each with its own ports', (t) => {
    const filter = filterFor(t);
    if (filter === null) return;
    const known = new Map<string, string>();
    const look = (): void => {
      for (let i = 0; i < ADDRESS_SLOTS + 4; i++) {
        assert.equal(standing(filter, address(i)), known.get(address(i)) ?? 'nothing', address(i));
      }
    };
    const add = (i: number, own: boolean): void => {
      known.set(address(i), own ? 'own' : 'served');
      if (own) filter.own(address(i));
      else filter.serve(address(i), Protocol.TCP, PORT);
    };
    look();
    for (let i = 0; i < ADDRESS_SLOTS; i++) add(i, i % 3 === 0);
    look();
    assert.throws(() => filter.own(address(ADDRESS_SLOTS)), { code: 'ENOSPC' });
    assert.throws(() => filter.slotOf(address(ADDRESS_SLOTS)), { code: 'ENOSPC' });
    for (let i = 0; i < ADDRESS_SLOTS; i += 5) {
      filter.forget(address(i));
      known.delete(address(i));
    }
    look();
    for (let i = 0; i < 4; i++) add(ADDRESS_SLOTS + i, i % 2 === 1);
    look();
  });

  it('are what was said last of each', (t) => {
    const filter = filterFor(t);
    if (filter === null) return;
    const addresses = Array.from({ length: 9 }, (_, i) => address(i));
    const known = new Map<string, string>();
    const step = fc.record({
      one: fc.constantFrom(...addresses),
      what: fc.constantFrom('own', 'serve', 'unserve', 'forget'),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
        for (const { one, what } of steps) {
          const before = known.get(one);
          if (what === 'own') filter.own(one);
          else if (what === 'serve') filter.serve(one, Protocol.TCP, PORT);
          else if (what === 'unserve') filter.unserve(one, Protocol.TCP, PORT);
          else filter.forget(one);
          if (what === 'own' || (what === 'unserve' && before === 'own')) known.set(one, 'own');
          else known.set(one, what === 'serve' ? 'served' : 'nothing');
          for (const each of addresses) assert.equal(standing(filter, each), known.get(each) ?? 'nothing', what);
        }
      }),
      { seed: SEED, numRuns: 60 },
    );
  });

  it('are those of all threads that have joined', (t) => {
    const filter = filterFor(t);
    if (filter === null) return;
    const shared = shareFilter(filter);
    const [one, other] = [new JoinedXdpFilter(shared), new JoinedXdpFilter(shared)];
    t.after(() => {
      one.close();
      other.close();
    });
    one.own(address(0));
    other.own(address(0));
    const slot = one.slotOf(address(1));
    assert.equal(other.slotOf(address(1)), slot);
    assert.notEqual(other.slotOf(address(2)), slot);
    one.setPort(slot, Protocol.TCP, PORT, true);
    other.setPort(slot, Protocol.TCP, PORT, true);
    one.setPort(slot, Protocol.TCP, PORT, false);
    assert.deepEqual(
      [0, 1, 2].map((i) => standing(filter, address(i))),
      ['own', 'served', 'nothing'],
    );
    other.setPort(slot, Protocol.TCP, PORT, false);
    assert.equal(standing(filter, address(1)), 'nothing');
    for (let i = 3; i < ADDRESS_SLOTS; i++) (i % 2 === 0 ? one : other).slotOf(address(i));
    assert.throws(() => one.own(address(ADDRESS_SLOTS)), { code: 'ENOSPC' });
  });

  it('hide nothing behind an entry that is nobody’s, and are not judged by its key', (t) => {
    const filter = filterFor(t);
    if (filter === null) return;
    for (const i of [0, 1, 2]) filter.own(address(i));
    const words = filter.maps.addresses.mapped!.i32;
    const at = (ADDRESS_ENTRY_BYTES + ADDRESS_KEY_BYTES) / 4; // the second entry, in the middle of a change
    words[at] = (words[at]! & ~AddressWord.KIND) + AddressWord.GENERATION;
    assert.deepEqual(
      [0, 1, 2].map((i) => standing(filter, address(i))),
      ['own', 'nothing', 'own'],
    );
  });
});

describe('addresses that change while frames come', () => {
  /** Runs the program over the frame in a thread, and changes meanwhile. Gives the frames that went each way. */
  async function race(
    filter: XdpFilter,
    frame: Uint8Array,
    change: () => void,
  ): Promise<[ours: number, kernel: number]> {
    const module = JSON.stringify(new URL('../../src/linux/bpf.js', import.meta.url).href);
    const state = new Int32Array(new SharedArrayBuffer(8));
    const body = `(async () => {
      const { workerData: { fd, frame, state } } = require('node:worker_threads');
      const { testXdpProgram } = await import(${module});
      for (; Atomics.load(state, 1) === 0; Atomics.add(state, 0, 1)) testXdpProgram({ fd }, frame, ${RUNS});
    })();`;
    const worker = new Worker(body, { eval: true, workerData: { fd: filter.program.fd, frame, state } });
    const exited = new Promise((resolve, reject) => worker.once('exit', resolve).once('error', reject));
    try {
      while (Atomics.load(state, 0) < 20) {
        if (Atomics.load(state, 0) > 0) for (let i = 0; i < 100; i++) change();
        await new Promise((resolve) => setImmediate(resolve));
      }
    } finally {
      Atomics.store(state, 1, 1);
    }
    await exited;
    const { redirected, passed } = filter.counters();
    assert.equal(redirected + passed, Atomics.load(state, 0) * RUNS);
    return [redirected, passed];
  }

  /** Calls one after the other, over and over. */
  function inTurn(...steps: (() => void)[]): () => void {
    let next = 0;
    return () => steps[next++ % steps.length]!();
  }

  it('cost no frame of those that stay', async (t) => {
    const filter = filterFor(t);
    if (filter === null) return;
    filter.own('fd01::1');
    filter.own('10.3.0.1');
    filter.own('fd09::9');
    const [, passed] = await race(
      filter,
      syn('fd09::9', 1),
      inTurn(
        () => filter.forget('fd01::1'),
        () => filter.forget('10.3.0.1'),
        () => filter.serve('10.3.0.2', Protocol.TCP, 1),
        () => filter.own('10.3.0.1'),
        () => filter.forget('10.3.0.2'),
        () => filter.own('fd01::1'),
      ),
    );
    assert.equal(passed, 0);
  });

  it('are never half of one and half of the other', async (t) => {
    const filter = filterFor(t);
    if (filter === null) return;
    const change = inTurn(
      () => filter.own('fd01::1:1'),
      () => filter.forget('fd01::1:1'),
      () => filter.own('fd02::2:2'),
      () => filter.forget('fd02::2:2'),
    );
    const [redirected] = await race(filter, syn('fd02::1:1', 1), change);
    assert.equal(redirected, 0);
  });

  it('never have the ports of the next', async (t) => {
    const filter = filterFor(t);
    if (filter === null) return;
    const change = inTurn(
      () => filter.serve('10.3.0.1', Protocol.UDP, 1),
      () => filter.forget('10.3.0.1'),
      () => filter.serve('10.3.0.2', Protocol.UDP, 2),
      () => filter.forget('10.3.0.2'),
    );
    const frame = udpFrame({ from: '10.88.0.2', to: '10.3.0.1' }, 4000, 2, new Uint8Array(8));
    const [redirected] = await race(filter, frame, change);
    assert.equal(redirected, 0);
    assert.equal(testXdpProgram(filter.program, frame).result, XDP_PASS);
  });
});
