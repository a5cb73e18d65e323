/** What the kernel is told of a frame to be sent: the bytes before it, a kernel that knows none, and what arrives. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { setOffload } from '../../src/linux/ethtool.ts';
import { METADATA_BYTES, requestChecksum, TRANSMIT_METADATA } from '../../src/linux/xdp-metadata.ts';
import { partialChecksum } from '../../src/net/wire/partial.ts';
import { leavePartial } from '../net/frames.ts';
import { viewOf } from '../net/view.ts';
import { type Ends, udpFrame } from './frames.ts';
import { labFor, Station } from './lab-support.ts';

describe('metadata of frames to be sent', () => {
  it('is struct xsk_tx_metadata, at any byte', () => {
    for (const at of [METADATA_BYTES, METADATA_BYTES + 3]) {
      const bytes = new Uint8Array(32).fill(0xee);
      requestChecksum(new DataView(bytes.buffer), at, 34 | (16 << 16));
      // A u64 of flags with XDP_TXMD_FLAGS_CHECKSUM, csum_start, csum_offset; the rest is not read.
      const told = [2, 0, 0, 0, 0, 0, 0, 0, 34, 0, 16, 0];
      assert.deepEqual([...bytes.subarray(at - METADATA_BYTES, at - 4)], told);
      assert.ok(bytes.subarray(0, at - METADATA_BYTES).every((byte) => byte === 0xee));
      assert.ok(bytes.subarray(at - 4).every((byte) => byte === 0xee));
    }
  });

  it('has the kernel complete a checksum, where its device does not', async (t) => {
    const lab = labFor(t);
    if (lab === null) return;
    const { client, server } = lab;
    const from = new Station(t, client, { metadataBytes: METADATA_BYTES });
    const to = new Station(t, server);
    assert.equal(from.socket.metadataBytes, METADATA_BYTES);
    to.filter.own(server.free4);
    const ends: Ends = { from: client.free4, to: server.free4, fromMac: client.mac, toMac: server.mac };
    const whole = udpFrame(
      ends,
      5000,
      53,
      Uint8Array.from({ length: 999 }, (_, i) => i & 255),
    );
    const partial = whole.slice();
    leavePartial(partial);
    const send = (frame: Uint8Array): Promise<Uint8Array> => {
      const at = from.free.pop()! + METADATA_BYTES;
      from.memory.u8.set(frame, at);
      const place = partialChecksum(viewOf(frame), 0, frame.length);
      if (place !== 0) requestChecksum(new DataView(from.memory.u8.buffer, from.memory.u8.byteOffset), at, place);
      from.socket.transmit(at, frame.length, place === 0 ? 0 : TRANSMIT_METADATA);
      from.socket.submit();
      return to.receive((got) => got.length === frame.length, 'the frame');
    };
    // The veth leaves it to whoever receives.
    assert.deepEqual(await send(partial), partial);
    client.namespace.run(() => setOffload(client.interfaceName, 'transmitChecksum', false));
    assert.deepEqual(await send(partial), whole);
    assert.deepEqual(await send(whole), whole);
    assert.equal(from.socket.statistics().transmitInvalid, 0);
  });

  it('needs its place before every frame', (t) => {
    const lab = labFor(t);
    if (lab === null) return;
    const { socket } = new Station(t, lab.client, { metadataBytes: METADATA_BYTES });
    assert.throws(() => socket.transmit(2048, 60), RangeError);
    assert.throws(() => socket.transmit(2048 + METADATA_BYTES - 1, 60), RangeError);
    socket.transmit(2048 + METADATA_BYTES, 60);
    assert.equal(socket.submit(), 0);
    assert.equal(socket.statistics().transmitInvalid, 0);
  });

  it('is done without where the kernel does not know it', (t) => {
    const lab = labFor(t);
    if (lab === null) return;
    // Refused by a kernel that knows metadata as by one that does not: with EINVAL.
    const { socket } = new Station(t, lab.client, { metadataBytes: 12 });
    assert.equal(socket.metadataBytes, 0);
    socket.transmit(2048, 60);
    assert.equal(socket.submit(), 0);
    assert.equal(socket.statistics().transmitInvalid, 0);
  });
});
