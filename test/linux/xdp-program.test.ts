/** What the XDP program does with each kind of frame, run by the kernel itself over frames of ours (BPF_PROG_TEST_RUN). */
import assert from 'node:assert/strict';
import { describe, it, type TestContext } from 'node:test';
import fc from 'fast-check';
import { testXdpProgram } from '../../src/linux/bpf.ts';
import { Protocol, XdpFilter } from '../../src/linux/xdp-filter.ts';
import { addressKey } from '../../src/linux/xdp-layout.ts';
import { XDP_PASS, XDP_REDIRECT } from '../../src/linux/xdp-program.ts';
import {
  arpRequest,
  type Ends,
  ethernet,
  fragment6,
  icmp,
  icmp6,
  ipFrame,
  ipv4,
  ipv6,
  solicitation,
  TCP,
  tcpSyn,
  UDP,
  udp,
  udpFrame,
} from './frames.ts';
import { labFor, Station } from './lab-support.ts';
import { XdpModel } from './xdp-model.ts';

const SHARED4 = '10.88.0.1';
const SHARED6 = 'fd88::1';
const OWN4 = '10.88.0.9';
const OWN6 = 'fd88::9';
const PEER4 = '10.88.0.2';
const PEER6 = 'fd88::2';
const DATA = new Uint8Array(40).fill(7);
const SEED = 20261;

const to = (address: string, more: Partial<Ends> = {}): Ends => ({
  from: address.includes(':') ? PEER6 : PEER4,
  to: address,
  ...more,
});
const back = (address: string): Ends => ({ from: address, to: address.includes(':') ? PEER6 : PEER4 });

/** A filter with a socket on queue 0, serving TCP 7000 and UDP 7001 of the shared addresses. */
function filterFor(t: TestContext, vlan = 0): XdpFilter | null {
  const lab = labFor(t);
  if (lab === null) return null;
  const filter = lab.server.namespace.run(() => new XdpFilter(lab.server.interfaceIndex, { vlan, mode: 'none' }));
  new Station(t, lab.server, { filter });
  for (const address of [SHARED4, SHARED6]) {
    filter.serve(address, Protocol.TCP, 7000);
    filter.serve(address, Protocol.UDP, 7001);
  }
  filter.own(OWN4);
  filter.own(OWN6);
  return filter;
}

const verdict = (filter: XdpFilter, frame: Uint8Array): string => {
  const { result } = testXdpProgram(filter.program, frame);
  return result === XDP_REDIRECT ? 'ours' : result === XDP_PASS ? 'kernel' : `verdict ${result}`;
};

const syn = (ends: Ends, port: number): Uint8Array => ipFrame(ends, TCP, tcpSyn(ends, 4000, port));
const datagram = (ends: Ends, port: number): Uint8Array => udpFrame(ends, 4000, port, DATA);

/** An ICMP error about a packet that went from `about` and `port`. */
function icmpError(type: number, protocol: number, port: number, about = SHARED4, outer = about): Uint8Array {
  const quoted = ipv4(back(about), protocol, udp(back(about), port, 4000, DATA)).subarray(0, 28);
  const rest = new Uint8Array(4 + quoted.length);
  rest.set(quoted, 4);
  return ipFrame(to(outer), 1, icmp(type, 4, rest));
}

function icmp6Error(type: number, protocol: number, port: number, about = SHARED6, outer = about): Uint8Array {
  const quoted = ipv6(back(about), protocol, udp(back(about), port, 4000, DATA));
  const rest = new Uint8Array(4 + quoted.length);
  rest.set(quoted, 4);
  return ipFrame(to(outer), 58, icmp6(to(outer), type, 0, rest));
}

function fragmentOf6(id: number, offset: number): Uint8Array {
  return ipFrame(to(SHARED6), 44, fragment6(UDP, id, offset, true, udp(to(SHARED6), 1, 7001, DATA)));
}

describe('the XDP program', () => {
  const cases: [name: string, frame: () => Uint8Array, expected: 'ours' | 'kernel'][] = [
    ['TCP to a served port', () => syn(to(SHARED4), 7000), 'ours'],
    ['TCP to a served port, IPv6', () => syn(to(SHARED6), 7000), 'ours'],
    ['UDP to a served port', () => datagram(to(SHARED4), 7001), 'ours'],
    ['UDP to a served port, IPv6', () => datagram(to(SHARED6), 7001), 'ours'],
    ['UDP to the port that is served for TCP', () => datagram(to(SHARED4), 7000), 'kernel'],
    ['TCP to the port that is served for UDP', () => syn(to(SHARED6), 7001), 'kernel'],
    ['ssh', () => syn(to(SHARED4), 22), 'kernel'],
    ['ssh, IPv6', () => syn(to(SHARED6), 22), 'kernel'],
    ['a served port of another address', () => syn(to('10.88.0.3'), 7000), 'kernel'],
    ['a served port by broadcast', () => datagram(to('10.88.0.255'), 7001), 'kernel'],
    ['an echo request to a served address', () => ipFrame(to(SHARED4), 1, icmp(8, 0, DATA)), 'kernel'],
    ['an echo request, IPv6', () => ipFrame(to(SHARED6), 58, icmp6(to(SHARED6), 128, 0, DATA)), 'kernel'],
    ['another protocol to a served address', () => ipFrame(to(SHARED4), 132, DATA), 'kernel'],
    ['ARP for a served address', () => arpRequest(to(SHARED4)), 'kernel'],
    ['a solicitation for a served address', () => solicitation(to(SHARED6)), 'kernel'],
    ['any port of an own address', () => syn(to(OWN4), 22), 'ours'],
    ['any port of an own address, IPv6', () => datagram(to(OWN6), 53), 'ours'],
    ['an echo request to an own address', () => ipFrame(to(OWN4), 1, icmp(8, 0, DATA)), 'ours'],
    ['an echo request to an own address, IPv6', () => ipFrame(to(OWN6), 58, icmp6(to(OWN6), 128, 0, DATA)), 'ours'],
    ['another protocol to an own address', () => ipFrame(to(OWN4), 132, DATA), 'ours'],
    ['an extension header to an own address', () => ipFrame(to(OWN6), 0, DATA), 'ours'],
    ['ARP for an own address', () => arpRequest(to(OWN4)), 'ours'],
    ['a solicitation for an own address', () => solicitation(to(OWN6)), 'ours'],
    ['a solicitation for another address', () => solicitation(to('fd88::7')), 'kernel'],
    ['multicast', () => datagram(to('224.0.0.251'), 7001), 'kernel'],
    ['multicast, IPv6', () => datagram(to('ff02::fb'), 7001), 'kernel'],
    [
      'IPv4 options before a served port',
      () => ipFrame(to(SHARED4), TCP, tcpSyn(to(SHARED4), 1, 7000), { options: 12 }),
      'ours',
    ],
    [
      'IPv4 options before another port',
      () => ipFrame(to(SHARED4), TCP, tcpSyn(to(SHARED4), 1, 22), { options: 40 }),
      'kernel',
    ],
    ['"too big" about a served port', () => icmpError(3, TCP, 7000), 'ours'],
    ['"time exceeded" about a served port', () => icmpError(11, UDP, 7001), 'ours'],
    ['"too big" about another port', () => icmpError(3, TCP, 22), 'kernel'],
    ['an echo reply that looks like an error', () => icmpError(0, TCP, 7000), 'kernel'],
    ['an error about a packet of somebody else', () => icmpError(3, TCP, 7000, '10.88.0.3', SHARED4), 'kernel'],
    ['ICMPv6 "too big" about a served port', () => icmp6Error(2, TCP, 7000), 'ours'],
    ['ICMPv6 "unreachable" about another port', () => icmp6Error(1, UDP, 53), 'kernel'],
    ['an ICMPv6 error about somebody else', () => icmp6Error(1, TCP, 7000, 'fd88::3', SHARED6), 'kernel'],
    ['a neighbour advertisement to a served address', () => icmp6Error(136, TCP, 7000), 'kernel'],
    ['an extension header to a served address', () => ipFrame(to(SHARED6), 0, tcpSyn(to(SHARED6), 1, 7000)), 'kernel'],
    ['a fragment to an own address', () => ipFrame(to(OWN4), UDP, DATA, { offset: 1480, more: true }), 'ours'],
    [
      'a later fragment whose first nobody saw',
      () => ipFrame(to(SHARED4), UDP, DATA, { id: 999, offset: 8 }),
      'kernel',
    ],
    [
      'a first fragment to a served port',
      () => ipFrame(to(SHARED4), UDP, udp(to(SHARED4), 1, 7001, DATA), { id: 998, more: true }),
      'ours',
    ],
    ['a first fragment to a served port, IPv6', () => fragmentOf6(998, 0), 'ours'],
    ['a later fragment whose first nobody saw, IPv6', () => fragmentOf6(999, 8), 'kernel'],
    ['ICMPv6 "parameter problem" about a served port', () => icmp6Error(4, UDP, 7001), 'ours'],
    ['an ICMPv6 type that is no error yet', () => icmp6Error(5, UDP, 7001), 'kernel'],
    ['the priority tag', () => syn(to(SHARED4, { tag: 0xe000 }), 7000), 'ours'],
    ['a frame of a VLAN', () => syn(to(SHARED4, { tag: 5 }), 7000), 'kernel'],
    ['two tags', () => ethernet(0x8100, to(SHARED4, { tag: 0 }), DATA), 'kernel'],
    ['another kind of frame', () => ethernet(0x88cc, to(SHARED4), DATA), 'kernel'],
    ['IPv6 that says it is IPv4', () => ethernet(0x0800, to(SHARED6), ipv6(to(SHARED6), TCP, DATA)), 'kernel'],
  ];

  it('gives each kind of frame to whom it belongs', (t) => {
    const filter = filterFor(t);
    if (filter === null) return;
    const told = cases.map(([name, frame]) => `${name}: ${verdict(filter, frame())}`);
    assert.deepEqual(
      told,
      cases.map(([name, , expected]) => `${name}: ${expected}`),
    );
    const ours = cases.filter(([, , expected]) => expected === 'ours').length;
    assert.deepEqual(filter.counters(), { redirected: ours, passed: cases.length - ours, noSocket: 0, fragments: 0 });
  });

  it('leaves every frame that is cut short to the kernel, or reads only what is there', (t) => {
    const filter = filterFor(t);
    if (filter === null) return;
    for (const [name, frame, expected] of cases) {
      const whole = frame();
      let decided = false;
      for (let length = 14; length <= whole.length; length++) {
        const got = verdict(filter, whole.slice(0, length));
        assert.ok(got === 'kernel' || got === expected, `${name}, ${length} bytes: ${got}`);
        assert.ok(!decided || got === expected, `${name}: ${length} bytes change the verdict back`);
        decided = got === 'ours';
      }
    }
  });

  it('has later fragments follow their first', (t) => {
    const filter = filterFor(t);
    if (filter === null) return;
    const first = (id: number, port: number): Uint8Array =>
      ipFrame(to(SHARED4), UDP, udp(to(SHARED4), 1, port, DATA), { id, more: true });
    const later = (id: number, from = PEER4): Uint8Array =>
      ipFrame(to(SHARED4, { from }), UDP, DATA, { id, offset: 48 });
    assert.equal(verdict(filter, later(50)), 'kernel');
    assert.equal(verdict(filter, first(50, 7001)), 'ours');
    assert.equal(verdict(filter, later(50)), 'ours');
    assert.equal(verdict(filter, later(51)), 'kernel');
    assert.equal(verdict(filter, later(50, '10.88.0.5')), 'kernel');
    assert.equal(verdict(filter, first(52, 53)), 'kernel');
    assert.equal(verdict(filter, later(52)), 'kernel');
    const six = (id: number, offset: number, port: number): Uint8Array =>
      ipFrame(to(SHARED6), 44, fragment6(UDP, id, offset, offset === 0, udp(to(SHARED6), 1, port, DATA)));
    assert.equal(verdict(filter, six(50, 48, 7001)), 'kernel');
    assert.equal(verdict(filter, six(50, 0, 7001)), 'ours');
    assert.equal(verdict(filter, six(50, 48, 53)), 'ours');
    assert.equal(verdict(filter, six(51, 0, 53)), 'kernel');
    assert.equal(filter.counters().fragments, 2);
  });

  it('takes the frames of one VLAN only', (t) => {
    const filter = filterFor(t, 5);
    if (filter === null) return;
    const tags: [tag: number | undefined, expected: string][] = [
      [undefined, 'kernel'],
      [0, 'kernel'],
      [5, 'ours'],
      [0x3005, 'ours'],
      [6, 'kernel'],
    ];
    for (const [tag, expected] of tags) {
      const ends = tag === undefined ? to(SHARED6) : to(SHARED6, { tag });
      assert.equal(verdict(filter, syn(ends, 7000)), expected, `tag ${tag}`);
      assert.equal(verdict(filter, arpRequest({ ...ends, from: PEER4, to: OWN4 })), expected, `tag ${tag}, ARP`);
    }
  });

  it('judges damaged frames as its description says', (t) => {
    const filter = filterFor(t);
    if (filter === null) return;
    const shared = new Set([SHARED4, SHARED6]);
    const served = new Set([...shared].flatMap((address) => [`${address} ${TCP} 7000`, `${address} ${UDP} 7001`]));
    const model = new XdpModel({ own: new Set([OWN4, OWN6]), shared, served });
    const damage = fc.record({
      at: fc.integer({ min: 12, max: 100 }),
      bit: fc.integer({ min: 0, max: 7 }),
    });
    const broken = fc.record({
      whole: fc.constantFrom(...cases.map(([, frame]) => frame())),
      damages: fc.array(damage, { maxLength: 3 }),
      length: fc.oneof(fc.constant(4000), fc.constant(4000), fc.integer({ min: 14, max: 120 })),
      more: fc.boolean(),
    });
    const ours = { yes: 0, no: 0 };
    fc.assert(
      fc.property(broken, ({ whole, damages, length, more }) => {
        const frame = whole.slice(0, length);
        for (const { at, bit } of damages) if (at < frame.length) frame[at]! ^= 1 << bit;
        if (more && frame[12] === 8 && frame[13] === 0 && frame.length > 20) frame[20]! |= 0x20;
        const expected = model.isOurs(frame) ? 'ours' : 'kernel';
        assert.equal(verdict(filter, frame), expected, Buffer.from(frame).toString('hex'));
        ours[expected === 'ours' ? 'yes' : 'no']++;
      }),
      { seed: SEED, numRuns: 20_000 },
    );
    assert.ok(ours.yes > 2000 && ours.no > 2000, JSON.stringify(ours));
  });

  it('serves exactly the ports that are set, as they come and go', (t) => {
    const filter = filterFor(t);
    if (filter === null) return;
    const served = new Set<string>();
    const hosts = ['10.1.0.1', '10.1.0.2', 'fd01::1'];
    const step = fc.record({
      host: fc.constantFrom(...hosts),
      protocol: fc.constantFrom(TCP, UDP),
      port: fc.oneof(fc.constantFrom(0, 7, 8, 65535), fc.integer({ min: 0, max: 65535 })),
      what: fc.constantFrom('serve', 'serve', 'unserve', 'forget', 'look'),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        for (const { host, protocol, port, what } of steps) {
          const name = `${host} ${protocol} ${port}`;
          if (what === 'serve') {
            filter.serve(host, protocol as Protocol, port);
            served.add(name);
          } else if (what === 'unserve') {
            filter.unserve(host, protocol as Protocol, port);
            served.delete(name);
          } else if (what === 'forget') {
            filter.forget(host);
            for (const one of served) if (one.startsWith(`${host} `)) served.delete(one);
          }
          const frame = protocol === TCP ? syn(to(host), port) : datagram(to(host), port);
          assert.equal(verdict(filter, frame), served.has(name) ? 'ours' : 'kernel', `${what} ${name}`);
        }
      }),
      { seed: SEED, numRuns: 60 },
    );
  });

  it('leaves all to the kernel where the queue has no socket, and counts that', (t) => {
    const lab = labFor(t);
    if (lab === null) return;
    const filter = lab.server.namespace.run(() => new XdpFilter(lab.server.interfaceIndex, { mode: 'none' }));
    t.after(() => filter.close());
    filter.own(OWN4);
    assert.equal(verdict(filter, syn(to(OWN4), 1)), 'kernel');
    assert.deepEqual(filter.counters(), { redirected: 0, passed: 0, noSocket: 1, fragments: 0 });
  });

  it('has room for 64 addresses, and says so', (t) => {
    const filter = filterFor(t);
    if (filter === null) return;
    for (let i = 2; i < 62; i++) filter.serve(`10.2.0.${i}`, Protocol.TCP, 1); // it has four
    assert.throws(() => filter.serve('10.2.0.99', Protocol.TCP, 1), { code: 'ENOSPC' });
    filter.forget('10.2.0.2');
    filter.serve('10.2.0.99', Protocol.TCP, 1);
    assert.equal(verdict(filter, syn(to('10.2.0.99'), 1)), 'ours');
    assert.equal(verdict(filter, syn(to('10.2.0.2'), 1)), 'kernel');
    assert.throws(() => addressKey('localhost'), TypeError);
    assert.throws(() => filter.setPort(64, Protocol.TCP, 1, true), RangeError);
    assert.throws(() => filter.setPort(0, Protocol.TCP, 65536, true), RangeError);
  });
});
