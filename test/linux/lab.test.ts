/** A lab that other processes find, enter and end. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { describe, it } from 'node:test';
import { endLab, holdLab, labStatus } from '../../src/linux/lab-control.ts';
import { openNamespace } from '../../src/linux/namespace.ts';
import { NetworkSetup } from '../../src/linux/network-setup.ts';
import { NetworkReader } from '../../src/linux/rtnetlink.ts';
import { ipFrame, TCP, tcpSyn } from './frames.ts';
import { labFor, Station } from './lab-support.ts';

describe('a lab', () => {
  it('is found, entered and ended by its name', async (t) => {
    if (labFor(t) === null) return;
    const name = `test-${process.pid}`;
    assert.equal(await labStatus(name), null);
    assert.equal(await endLab(name), false);
    const held = await holdLab(name, { queues: 2 });
    t.after(() => held.close());
    const status = await labStatus(name);
    assert.deepEqual(status, held.status);
    assert.equal(status!.pid, process.pid);
    await assert.rejects(holdLab(name), { code: 'EADDRINUSE', message: /a lab of this name is up/ });
    const inside = openNamespace(status!.client.path);
    const program = `process.stdout.write(Object.values(require('node:os').networkInterfaces()).flat().map((a) => a.address).join())`;
    const addresses = inside.run(() => execFileSync(process.execPath, ['-e', program], { encoding: 'utf8' }));
    inside.close();
    assert.ok(addresses.split(',').includes('10.88.0.2'), addresses);
    assert.ok(addresses.split(',').includes('fd88::2'), addresses);

    const ending = endLab(name);
    await held.ended;
    held.close();
    assert.equal(await ending, true);
    assert.equal(await labStatus(name), null);
  });

  it('leaves room for XDP in front of frames while it is asked to', async (t) => {
    const lab = labFor(t);
    if (lab === null) return;
    const rooms = () =>
      [lab.server, lab.client].map(({ namespace, interfaceName }) => {
        const reader = namespace.run(() => new NetworkReader());
        const { headroom } = reader.link(interfaceName)!;
        reader.close();
        return headroom;
      });
    if (rooms()[0] === -1) return t.skip('this kernel does not tell what headroom a device wants');
    assert.deepEqual(rooms(), [0, 0]);
    try {
      lab.reserveHeadroom(true);
    } catch (error) {
      assert.equal((error as { code?: string }).code, 'EOPNOTSUPP');
      return t.skip('this kernel has no VXLAN or no bridges');
    }
    lab.reserveHeadroom(true);
    assert.deepEqual(rooms(), [256, 256]);
    // An address of its own still talks to the other side's kernel.
    const client = new Station(t, lab.client);
    client.filter.own(lab.client.free4);
    const knock = (): Promise<Uint8Array> => {
      const { namespace, interfaceIndex, mac, address4 } = lab.server;
      const setup = namespace.run(() => new NetworkSetup());
      setup.setNeighbour(interfaceIndex, lab.client.free4, lab.client.mac);
      setup.close();
      const ends = { from: lab.client.free4, to: address4, fromMac: lab.client.mac, toMac: mac };
      client.send(ipFrame(ends, TCP, tcpSyn(ends, 1000, 9)));
      return client.receive((frame) => frame[23] === TCP, 'the kernel refuses the connection');
    };
    assert.equal((await knock())[47]! & 4, 4);
    lab.reserveHeadroom(false);
    assert.deepEqual(rooms(), [0, 0]);
    assert.equal((await knock())[47]! & 4, 4);
  });

  it('has a decent name', async () => {
    await assert.rejects(holdLab('a/b'), TypeError);
    await assert.rejects(labStatus(''), TypeError);
  });
});
