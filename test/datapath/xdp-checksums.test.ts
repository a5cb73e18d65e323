/** Checksums on a veth that nobody computes: the xdp datapath with the host's TCP/IP and with itself, and what a capture shows. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { setOffload } from '../../src/linux/ethtool.ts';
import type { LabSide } from '../../src/linux/lab.ts';
import { Direction } from '../../src/net/middleware/pcap.ts';
import { partialChecksum } from '../../src/net/wire/partial.ts';
import { labFor } from '../linux/lab-support.ts';
import { readPcapng } from '../net/middleware/pcapng.ts';
import { viewOf } from '../net/view.ts';
import { ask, echoing, echoingDatagrams, exchange, type Party, past, pattern, portOf, through } from './xdp-support.ts';

const BYTES = pattern(300_000);
const FAMILIES = [
  ['free4', '0.0.0.0'],
  ['free6', '::'],
] as const;

function own({ free4, free6 }: LabSide): string {
  return `,own=${free4}/24,own=${free6}/64`;
}

/** TCP and UDP of both families between a server of `own` addresses and a client, byte by byte. */
async function talk(server: Party, client: Party): Promise<void> {
  for (const [which, any] of FAMILIES) {
    const host = server.side[which];
    const connection = await client.connect(host, portOf(echoing(server.listen(any))));
    assert.deepEqual(await exchange(connection, BYTES), BYTES);
    connection.close();
    const port = portOf(echoingDatagrams(server.udp(any)));
    const socket = client.udp(any);
    for (const length of [0, 1, 2, 63, 1400, 1473, 9001]) {
      assert.deepEqual(await ask(socket, host, port, pattern(length)), pattern(length), `${length} bytes to ${host}`);
    }
  }
}

function refused({ datapath }: ReturnType<typeof past>): number {
  return datapath.tcp.counters.badChecksum + (datapath.observe()['drop.udpChecksum'] ?? 0);
}

describe('checksums on a veth', () => {
  for (const [off, what] of [
    [[], 'left to the device by both ends'],
    [['server'], 'computed at our end'],
    [['client'], "computed at the host's end"],
    [['server', 'client'], 'computed by both'],
  ] as const) {
    it(`are right for the host, ${what}`, async (t) => {
      const lab = labFor(t);
      if (lab === null) return;
      for (const name of off) {
        const { namespace, interfaceName } = lab[name];
        namespace.run(() => setOffload(interfaceName, 'transmitChecksum', false));
      }
      const server = past(t, lab.server, own(lab.server));
      assert.deepEqual(server.datapath.link.device.offloads, { receivePartial: true, transmitPartial: true });
      await talk(server, through(t, lab.client));
      assert.equal(refused(server), 0);
      assert.equal(server.datapath.link.observe()['transmitInvalid'], 0);
    });
  }

  it('are partial between two of us, in native mode too', async (t) => {
    for (const mode of ['generic', 'native']) {
      const lab = labFor(t);
      if (lab === null) return;
      const server = past(t, lab.server, `${own(lab.server)},mode=${mode}`);
      const client = past(t, lab.client, `${own(lab.client)},mode=${mode}`);
      await talk(server, client);
      assert.equal(refused(server) + refused(client), 0);
    }
  });

  it('cost no copy of a frame', async (t) => {
    const lab = labFor(t);
    if (lab === null) return;
    const server = past(t, lab.server, own(lab.server));
    const client = through(t, lab.client);
    for (const [which, any] of FAMILIES) {
      const connection = await client.connect(lab.server[which], portOf(echoing(server.listen(any))));
      for (let i = 0; i < 50; i++) await exchange(connection, pattern(64, i));
      connection.close();
    }
    assert.equal(server.datapath.link.observe()['copied'], 0);
  });

  it('are shown by a capture as they are: partial', async (t) => {
    const lab = labFor(t);
    if (lab === null) return;
    const blocks: Uint8Array[] = [];
    const server = past(t, lab.server, own(lab.server), { middleware: { pcap: (bytes) => blocks.push(bytes) } });
    const port = portOf(echoing(server.listen('0.0.0.0')));
    const connection = await through(t, lab.client).connect(lab.server.free4, port);
    await exchange(connection, pattern(1000));
    connection.close();
    const { records } = readPcapng(Buffer.concat(blocks));
    // The host's resets are whole.
    const segments = records.filter(({ bytes }) => bytes[12] === 8 && bytes[23] === 6 && bytes.length > 100);
    for (const direction of [Direction.IN, Direction.OUT]) {
      const those = segments.filter((record) => record.direction === direction);
      assert.ok(those.length > 0);
      assert.ok(those.every(({ bytes }) => partialChecksum(viewOf(bytes), 0, bytes.length) !== 0));
    }
  });

  it('are whole where faults corrupt frames: no wrong byte gets through', async (t) => {
    const lab = labFor(t);
    if (lab === null) return;
    const more = { middleware: { faults: { seed: 7, corruption: 0.05 } }, tcp: { minRtoMs: 20 } };
    const server = past(t, lab.server, own(lab.server), more);
    const port = portOf(echoing(server.listen('0.0.0.0')));
    const connection = await through(t, lab.client).connect(lab.server.free4, port);
    assert.deepEqual(await exchange(connection, BYTES), BYTES);
    connection.close();
    assert.ok(refused(server) > 0);
  });
});
