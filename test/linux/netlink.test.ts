/** netlink and namespaces: what is read is what was set, changes are told, errors say why. */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { networkInterfaces } from 'node:os';
import { describe, it, type TestContext } from 'node:test';
import { Worker } from 'node:worker_threads';
import fc from 'fast-check';
import { activeQueues, driverName, offload, setOffload } from '../../src/linux/ethtool.ts';
import { createNamespace, currentNamespace, type NetworkNamespace, openNamespace } from '../../src/linux/namespace.ts';
import { NetlinkMessage, readAttributes, readBytes, readNumber, readText } from '../../src/linux/netlink.ts';
import { NetworkSetup, parseMac } from '../../src/linux/network-setup.ts';
import { NeighbourState, NetworkMonitor, NetworkReader } from '../../src/linux/rtnetlink.ts';
import { watchDescriptor } from '../../src/linux/watch.ts';
import { labFor } from './lab-support.ts';

function emptyNamespace(t: TestContext): NetworkNamespace | null {
  if (labFor(t) === null) return null;
  const namespace = createNamespace();
  t.after(() => namespace.close());
  return namespace;
}

function setupIn(t: TestContext, namespace: NetworkNamespace): NetworkSetup {
  const setup = namespace.run(() => new NetworkSetup());
  t.after(() => setup.close());
  return setup;
}

describe('netlink messages', () => {
  it('read back what was written', () => {
    const attribute = fc.record({ type: fc.integer({ min: 0, max: 0x3fff }), bytes: fc.uint8Array({ maxLength: 50 }) });
    fc.assert(
      fc.property(fc.array(attribute, { maxLength: 20 }), (attributes) => {
        const message = new NetlinkMessage(1).u32(0);
        for (const { type, bytes } of attributes) message.attribute(type, bytes);
        message.finish(1, 0);
        const read = readAttributes(new DataView(message.bytes.buffer, 0, message.length), 20);
        const last = new Map(attributes.map(({ type, bytes }) => [type, bytes]));
        assert.deepEqual([...read.keys()].sort(), [...last.keys()].sort());
        for (const [type, bytes] of last) assert.deepEqual(readBytes(read.get(type)!), bytes);
      }),
    );
  });

  it('nest, and read nothing but what is there', () => {
    const message = new NetlinkMessage(1).attribute(3, (inner) => inner.attribute(7, 'name').attribute(8, 0xfffffffe));
    const outer = readAttributes(new DataView(message.bytes.buffer, 16, message.length - 16));
    const inner = readAttributes(outer.get(3)!);
    assert.equal(readText(inner.get(7)), 'name');
    assert.equal(readNumber(inner.get(8), 0), 0xfffffffe);
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 64 }), (bytes) => {
        for (const view of readAttributes(new DataView(bytes.buffer, bytes.byteOffset, bytes.length)).values()) {
          assert.ok(view.byteOffset + view.byteLength <= bytes.byteOffset + bytes.length);
          readNumber(view, 0);
          readText(view);
        }
      }),
    );
    assert.throws(() => new NetlinkMessage(1).attribute(1, new Uint8Array(5000)), RangeError);
  });
});

describe('reading the network', () => {
  it('agrees with Node about this machine', () => {
    const reader = new NetworkReader();
    const links = new Map(reader.links().map((link) => [link.index, link]));
    const read = reader
      .addresses()
      .map(({ interfaceIndex, address }) => `${links.get(interfaceIndex)?.name} ${address}`);
    reader.close();
    for (const [name, list] of Object.entries(networkInterfaces())) {
      for (const { address, mac } of list!) {
        assert.ok(read.includes(`${name} ${address}`), `${name} ${address} in ${read.join()}`);
        assert.equal([...links.values()].find((link) => link.name === name)?.mac, mac);
      }
    }
  });

  it('gives back what was set', (t) => {
    const namespace = emptyNamespace(t);
    if (namespace === null) return;
    const setup = setupIn(t, namespace);
    assert.deepEqual(
      setup.links().map(({ name, up }) => `${name} ${up}`),
      ['lo false'],
    );
    setup.createVeth({ name: 'one', mac: '02:00:00:00:00:0a' }, { name: 'two' }, { queues: 3, mtu: 3000 });
    const one = setup.link('one')!;
    const two = setup.link('two')!;
    for (const { index } of [one, two]) setup.setLink(index, { up: true });
    assert.deepEqual(
      [one.mac, one.mtu, one.kind, one.receiveQueues, one.parent],
      ['02:00:00:00:00:0a', 3000, 'veth', 3, two.index],
    );
    setup.setLink(one.index, { mtu: 1400, mac: '02:00:00:00:00:0b' });
    setup.addAddress(one.index, '10.1.2.3', 24);
    setup.addAddress(one.index, 'fd01::3', 64);
    setup.addRoute('10.9.0.0', 16, { gateway: '10.1.2.1' });
    setup.addRoute('::', 0, { gateway: 'fd01::1' });
    setup.addRoute('10.8.0.0', 16, { interfaceIndex: two.index });
    setup.setNeighbour(one.index, '10.1.2.1', '02:00:00:00:00:0c');
    setup.setNeighbour(one.index, 'fd01::1', '02:00:00:00:00:0d');

    const now = setup.link(one.index)!;
    assert.deepEqual([now.mtu, now.mac, now.up, now.xdp], [1400, '02:00:00:00:00:0b', true, null]);
    const addresses = setup.addresses().filter(({ address }) => !address.startsWith('fe80'));
    assert.deepEqual(
      addresses.map(({ family, address, prefixLength, tentative }) => [family, address, prefixLength, tentative]),
      [
        [4, '10.1.2.3', 24, false],
        [6, 'fd01::3', 64, false],
      ],
    );
    const routes = setup.routes().filter(({ table, destination }) => table === 254 && !destination.startsWith('fe80'));
    const text = routes.map(
      (r) => `${r.destination}/${r.prefixLength} ${r.gateway} ${r.interfaceIndex} ${r.preferredSource}`,
    );
    const index = one.index;
    assert.deepEqual(text.sort(), [
      `10.1.2.0/24 null ${index} 10.1.2.3`,
      `10.8.0.0/16 null ${two.index} null`,
      `10.9.0.0/16 10.1.2.1 ${index} null`,
      `::/0 fd01::1 ${index} null`,
      `fd01::/64 null ${index} null`,
    ]);
    const neighbours = setup.neighbours().filter(({ state }) => state === NeighbourState.PERMANENT);
    assert.deepEqual(neighbours.map(({ address, mac }) => `${address} ${mac}`).sort(), [
      '10.1.2.1 02:00:00:00:00:0c',
      'fd01::1 02:00:00:00:00:0d',
    ]);
    setup.removeAddress(one.index, '10.1.2.3', 24);
    assert.equal(
      setup.addresses().some(({ family }) => family === 4),
      false,
    );
    setup.deleteLink(one.index);
    assert.deepEqual(
      setup.links().map(({ name }) => name),
      ['lo'],
    );
  });

  it('says why something was refused', (t) => {
    const namespace = emptyNamespace(t);
    if (namespace === null) return;
    const setup = setupIn(t, namespace);
    assert.throws(() => setup.setLink(77, { up: true }), {
      code: 'ENODEV',
      syscall: 'netlink',
      message: /interface 77/,
    });
    setup.createVeth({ name: 'one' }, { name: 'two' });
    const { index } = setup.link('one')!;
    assert.throws(() => setup.setLink(index, { mtu: 1e6 }), { code: 'EINVAL', message: /mtu greater than device max/ });
    setup.addAddress(1, '10.0.0.1', 8);
    assert.throws(() => setup.addAddress(1, '10.0.0.1', 8), { code: 'EEXIST' });
    assert.throws(() => setup.addRoute('10.3.0.0', 16, { gateway: '192.168.7.7' }), { code: 'ENETUNREACH' });
    assert.throws(() => setup.addAddress(1, 'localhost', 8), TypeError);
    assert.throws(() => parseMac('1:2:3:4:5:6'), TypeError);
    setup.close();
    assert.throws(() => setup.links(), { code: 'EBADF' });
  });

  it('reads a list longer than one answer', (t) => {
    const namespace = emptyNamespace(t);
    if (namespace === null) return;
    const setup = setupIn(t, namespace);
    for (let i = 1; i < 1000; i++) setup.addAddress(1, `10.${i >> 8}.${i & 255}.1`, 32);
    assert.equal(new Set(setup.addresses().map(({ address }) => address)).size, 999);
  });
});

describe('changes of the network', () => {
  it('wake a watch and say what happened', async (t) => {
    const namespace = emptyNamespace(t);
    if (namespace === null) return;
    const setup = setupIn(t, namespace);
    const monitor = namespace.run(() => new NetworkMonitor());
    t.after(() => monitor.close());
    assert.deepEqual(monitor.changes(), []);
    const told: string[] = [];
    const done = new Promise<void>((resolve) => {
      const watch = watchDescriptor(monitor.fd, () => {
        for (const change of monitor.changes()) {
          if (change.kind === 'address') told.push(`${change.removed ? '-' : '+'}${change.address.address}`);
          if (change.kind === 'neighbour') told.push(`${change.neighbour.address} ${change.neighbour.mac}`);
          if (change.kind === 'link') told.push(`${change.removed ? '-' : '+'}${change.link.name}`);
        }
        if (!told.includes('-one')) return;
        watch.close();
        resolve();
      });
    });
    setup.createVeth({ name: 'one' }, { name: 'two' });
    const { index } = setup.link('one')!;
    setup.setLink(index, { up: true });
    setup.addAddress(index, '10.1.2.3', 24);
    setup.setNeighbour(index, '10.1.2.4', '02:00:00:00:00:04');
    setup.removeAddress(index, '10.1.2.3', 24);
    setup.deleteLink(index);
    await done;
    for (const one of ['+one', '+10.1.2.3', '10.1.2.4 02:00:00:00:00:04', '-10.1.2.3', '-one']) {
      assert.ok(told.includes(one), `${one} in ${told.join(', ')}`);
    }
  });

  it('that were lost are said to be', (t) => {
    const namespace = emptyNamespace(t);
    if (namespace === null) return;
    const setup = setupIn(t, namespace);
    const monitor = namespace.run(() => new NetworkMonitor());
    t.after(() => monitor.close());
    let lost = false;
    for (let i = 0; i < 6000 && !lost; i++) {
      setup.addAddress(1, '10.0.0.1', 32);
      setup.removeAddress(1, '10.0.0.1', 32);
      if (i % 1000 === 999) lost = monitor.changes().some(({ kind }) => kind === 'lost');
    }
    assert.ok(lost);
  });
});

describe('a namespace', () => {
  it('is left again, whatever happens inside, and children and workers of inside stay', async (t) => {
    const namespace = emptyNamespace(t);
    if (namespace === null) return;
    const home = currentNamespace();
    t.after(() => home.close());
    const where = (): number => {
      const here = currentNamespace();
      here.close();
      return here.inode;
    };
    assert.equal(namespace.run(where), namespace.inode);
    assert.equal(where(), home.inode);
    assert.throws(
      () =>
        namespace.run(() => {
          throw new Error('inside');
        }),
      /inside/,
    );
    assert.equal(where(), home.inode);
    assert.throws(() => namespace.run(async () => {}), TypeError);
    assert.equal(
      namespace.run(() => home.run(() => namespace.run(where))),
      namespace.inode,
    );
    const program = `require('node:worker_threads').parentPort.postMessage(require('node:fs').readlinkSync('/proc/thread-self/ns/net'))`;
    const worker = namespace.run(() => new Worker(program, { eval: true }));
    const told = await new Promise((resolve) => worker.once('message', resolve));
    assert.equal(told, `net:[${namespace.inode}]`);
    await worker.terminate();
    assert.throws(() => openNamespace('/proc/self/ns/nothing'), { code: 'ENOENT' });
    const wrong = openNamespace('/proc/self/ns/uts');
    assert.throws(() => wrong.run(where), { code: 'EINVAL' });
    wrong.close();
  });

  it('of a lab has both ends up, without segmentation offload', (t) => {
    const lab = labFor(t, { queues: 2 });
    if (lab === null) return;
    for (const { namespace, interfaceName, interfaceIndex, path, mac } of [lab.server, lab.client]) {
      assert.ok(existsSync(path));
      namespace.run(() => {
        assert.equal(driverName(interfaceName), 'veth');
        assert.deepEqual(activeQueues(interfaceName), { receive: 2, transmit: 2 });
        assert.equal(offload(interfaceName, 'segmentation'), false);
        assert.equal(offload(interfaceName, 'transmitChecksum'), true);
        setOffload(interfaceName, 'transmitChecksum', false);
        assert.equal(offload(interfaceName, 'transmitChecksum'), false);
        assert.throws(() => setOffload('nothing', 'segmentation', true), { code: 'ENODEV' });
        assert.equal(activeQueues('nothing'), null);
      });
      const reader = namespace.run(() => new NetworkReader());
      const link = reader.link(interfaceIndex)!;
      reader.close();
      assert.deepEqual([link.name, link.up, link.carrier, link.mac], [interfaceName, true, true, mac]);
    }
  });
});
