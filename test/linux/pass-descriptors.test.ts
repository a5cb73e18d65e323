/** Descriptors over a Unix socket, and memory files that nobody can shrink. */
import assert from 'node:assert/strict';
import { closeSync, fstatSync, ftruncateSync, openSync, readdirSync } from 'node:fs';
import { describe, it } from 'node:test';
import { createEventfd, drainEventfd, signalEventfd } from '../../src/linux/eventfd.ts';
import { close } from '../../src/linux/libc.ts';
import { createMemoryFile, mapShared } from '../../src/linux/memory.ts';
import {
  PASSED_BYTES,
  peerCredentials,
  receiveDescriptors,
  sendDescriptors,
} from '../../src/linux/pass-descriptors.ts';
import { createSealedMemory, requireSealedMemory } from '../../src/linux/sealed-memory.ts';
import { socketpair } from '../../src/linux/socket.ts';

const SOCK_SEQPACKET = 5;
const open = () => readdirSync('/proc/self/fd').length;

describe('descriptors over a socket', () => {
  it('arrive as duplicates, with the bytes they came with', () => {
    const before = open();
    const [a, b] = socketpair(SOCK_SEQPACKET);
    const event = createEventfd();
    assert.equal(sendDescriptors(a, Buffer.from('two'), [event, event]), 3);
    assert.equal(sendDescriptors(a, Buffer.from('none')), 4);
    const first = receiveDescriptors(b);
    assert.equal(first.result, 3);
    assert.equal(Buffer.from(first.bytes).toString(), 'two');
    assert.equal(first.descriptors.length, 2);
    signalEventfd(first.descriptors[1]!);
    assert.equal(drainEventfd(event), 1, 'it is the same counter');
    const second = receiveDescriptors(b);
    assert.equal(Buffer.from(second.bytes).toString(), 'none');
    assert.deepEqual(second.descriptors, []);
    assert.equal(receiveDescriptors(b).result, -11, 'EAGAIN');
    close(a);
    assert.equal(receiveDescriptors(b).result, 0, 'the end');
    for (const fd of [b, event, ...first.descriptors]) close(fd);
    assert.equal(open(), before);
  });

  it('are few, and their message short', () => {
    const [a, b] = socketpair(SOCK_SEQPACKET);
    assert.throws(() => sendDescriptors(a, new Uint8Array(PASSED_BYTES + 1)), RangeError);
    assert.throws(() => sendDescriptors(a, new Uint8Array(1), [a, a, a, a, a]), RangeError);
    close(a);
    close(b);
  });

  it('come from a process that the kernel names', () => {
    const [a, b] = socketpair(SOCK_SEQPACKET);
    assert.deepEqual(peerCredentials(a), { pid: process.pid, uid: process.geteuid!() });
    close(a);
    close(b);
  });
});

describe('sealed memory', () => {
  it('keeps its size, and is shared by all who map it', () => {
    const fd = createSealedMemory(10_000);
    assert.equal(fstatSync(fd).size, 12_288);
    assert.throws(() => ftruncateSync(fd, 4096), { code: 'EPERM' });
    assert.throws(() => ftruncateSync(fd, 1 << 20), { code: 'EPERM' });
    requireSealedMemory(fd, 12_288);
    assert.throws(() => requireSealedMemory(fd, 12_289), { code: 'EINVAL' });
    const one = mapShared(fd, 12_288);
    const two = mapShared(fd, 12_288);
    one.u8[5000] = 7;
    assert.equal(two.u8[5000], 7);
    one.close();
    two.close();
    close(fd);
  });

  it('is not what can shrink, or is no memory file', () => {
    const unsealed = createMemoryFile(8192);
    assert.throws(() => requireSealedMemory(unsealed, 4096), { code: 'EINVAL' });
    close(unsealed);
    const file = openSync('/proc/self/stat', 'r');
    assert.throws(() => requireSealedMemory(file, 1), { code: 'EINVAL' });
    closeSync(file);
  });
});
