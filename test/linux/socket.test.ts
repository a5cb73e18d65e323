/** Sockets by direct calls: three address families, datagrams in batches, and errors that read as Node's do. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import type { Address } from '../../src/address/ip.ts';
import { close } from '../../src/linux/libc.ts';
import { mapArena } from '../../src/linux/memory.ts';
import { MessageBatch } from '../../src/linux/message.ts';
import { AF_INET, AF_INET6, AF_UNIX, interfaceIndex, readSockaddr, writeSockaddr } from '../../src/linux/sockaddr.ts';
import * as sys from '../../src/linux/socket.ts';

const directory = mkdtempSync(join(tmpdir(), 'isthmus-'));
const arena = mapArena(1 << 16);
const hasIp6 = (() => {
  try {
    interfaceIndex('lo');
    const fd = sys.socket(AF_INET6, sys.SOCK_DGRAM);
    sys.bind(fd, { host: '::1', port: 0 });
    close(fd);
    return true;
  } catch {
    return false;
  }
})();
after(() => {
  rmSync(directory, { recursive: true });
  arena.close();
});

/** Blocking sockets: connect, accept, bytes both ways, the end of the stream. */
function conversation(family: number, address: Address): void {
  const listener = sys.socket(family, sys.SOCK_STREAM, 0);
  sys.bind(listener, address);
  sys.listen(listener, 8);
  const bound = sys.getsockname(listener);
  const client = sys.socket(family, sys.SOCK_STREAM, 0);
  assert.equal(sys.connect(client, bound), 0);
  const server = sys.accept(listener);
  assert.ok(server > 0);
  const peer = sys.lastAccepted();
  assert.deepEqual(peer, sys.getsockname(client));
  assert.deepEqual(sys.getpeername(client), bound);

  assert.equal(sys.recv(server, arena.address, 64, 0), -11);
  arena.u8.set(Buffer.from('ping'), 1024);
  assert.equal(sys.send(client, arena.address + 1024, 4, 0), 4);
  assert.equal(sys.recv(server, arena.address, 64, sys.MSG_WAITALL & 0), 4);
  assert.equal(Buffer.from(arena.u8.slice(0, 4)).toString(), 'ping');
  assert.equal(sys.shutdown(client, sys.SHUT_WR), 0);
  assert.equal(sys.recv(server, arena.address, 64, 0), 0);
  for (const fd of [listener, client, server]) assert.equal(close(fd), 0);
  assert.equal(close(server), -9);
}

describe('stream sockets', () => {
  it('speak over IPv4', () => conversation(AF_INET, { host: '127.0.0.1', port: 0 }));
  it('speak over IPv6', { skip: !hasIp6 }, () => conversation(AF_INET6, { host: '::1', port: 0 }));
  it('speak over a Unix path', () => conversation(AF_UNIX, { path: join(directory, 'a.sock') }));
  it('speak over an abstract name', () => conversation(AF_UNIX, { path: `\0isthmus-${process.pid}` }));

  it('come in pairs', () => {
    const [a, b] = sys.socketpair();
    assert.deepEqual(sys.getsockname(a), { path: '' });
    assert.equal(sys.send(a, arena.address, 10, 0), 10);
    assert.equal(sys.recv(b, arena.address, 100, 0), 10);
    close(a);
    assert.equal(sys.send(b, arena.address, 10, 0), -32);
    close(b);
  });
});

describe('options', () => {
  it('are set and read back', () => {
    const fd = sys.socket(AF_INET, sys.SOCK_STREAM);
    sys.setsockopt(fd, sys.IPPROTO_TCP, sys.TCP_NODELAY, 1);
    assert.equal(sys.getsockopt(fd, sys.IPPROTO_TCP, sys.TCP_NODELAY), 1);
    assert.equal(sys.getsockopt(fd, sys.SOL_SOCKET, sys.SO_TYPE), sys.SOCK_STREAM);
    assert.equal(sys.getLinger(fd), -1);
    sys.setLinger(fd, 3);
    assert.equal(sys.getLinger(fd), 3);
    assert.throws(() => sys.setsockopt(fd, 6, 9999, 1), { code: 'ENOPROTOOPT', syscall: 'setsockopt' });
    close(fd);
  });
});

describe('errors', () => {
  it('of a port in use are those of node:net', async () => {
    const server = createServer().listen(0, '127.0.0.1');
    await new Promise((resolve) => server.once('listening', resolve));
    const { port } = server.address() as { port: number };
    const fd = sys.socket(AF_INET, sys.SOCK_STREAM);
    const second = createServer().listen(port, '127.0.0.1');
    const theirs = await new Promise<NodeJS.ErrnoException>((resolve) => second.once('error', resolve));
    let ours: unknown;
    try {
      sys.bind(fd, { host: '127.0.0.1', port });
      sys.listen(fd, 8);
    } catch (error) {
      ours = error;
    }
    const { code, errno, message } = ours as NodeJS.ErrnoException;
    assert.deepEqual({ code, errno }, { code: theirs.code, errno: theirs.errno });
    assert.equal((ours as NodeJS.ErrnoException).syscall, 'bind');
    assert.equal(message, `EADDRINUSE: address already in use, bind 127.0.0.1:${port}`);
    close(fd);
    await new Promise((resolve) => server.close(resolve));
  });

  it('name what is wrong with an address', () => {
    const fd = sys.socket(AF_INET, sys.SOCK_STREAM);
    assert.throws(() => sys.bind(fd, { host: 'localhost', port: 1 }), { code: 'EINVAL', message: /node:dns/ });
    assert.throws(() => sys.bind(fd, { host: '127.0.0.1', port: 65536 }), { code: 'EINVAL', message: /65535/ });
    assert.throws(() => sys.bind(fd, { host: '192.0.2.1', port: 0 }), { code: 'EADDRNOTAVAIL' });
    assert.throws(() => sys.connect(fd, { host: 'fe80::1%no-such-if', port: 1 }), { code: 'ENODEV' });
    assert.throws(() => sys.bind(fd, { path: 'x'.repeat(200) }), { code: 'ENAMETOOLONG' });
    assert.throws(() => sys.bind(fd, { path: '' }), { code: 'EINVAL' });
    assert.throws(() => sys.bind(fd, { path: 'a\0b' }), { code: 'EINVAL' });
    close(fd);
    const unix = sys.socket(AF_UNIX, sys.SOCK_STREAM);
    assert.equal(sys.connect(unix, { path: join(directory, 'nobody') }), -2);
    close(unix);
    assert.throws(() => sys.socket(AF_INET, 77), { code: 'EINVAL', syscall: 'socket' });
  });

  it('of a refused connect are told by the socket', async () => {
    const taken = sys.socket(AF_INET, sys.SOCK_STREAM);
    sys.bind(taken, { host: '127.0.0.1', port: 0 }); // bound and not listening: refuses
    const fd = sys.socket(AF_INET, sys.SOCK_STREAM);
    const now = sys.connect(fd, sys.getsockname(taken));
    assert.ok(now === -115 || now === -111);
    if (now === -115) assert.equal(sys.takeSocketError(fd), -111);
    close(fd);
    close(taken);
  });
});

describe('packed addresses', () => {
  it('come back as they went in', () => {
    const bytes = new Uint8Array(256);
    const index = interfaceIndex('lo');
    for (const [address, expected] of [
      [{ host: '10.1.2.3', port: 65535 }],
      [{ host: '2001:db8::7', port: 443 }],
      [
        { host: 'fe80::1%lo', port: 9 },
        { host: `fe80::1%${index}`, port: 9 },
      ],
      [{ host: `fe80::1%${index}`, port: 9 }],
      [{ path: '/tmp/ä.sock' }],
      [{ path: `/${'x'.repeat(106)}` }],
      [{ path: '\0abstract' }],
    ] as [Address, Address?][]) {
      const length = writeSockaddr(address, bytes, 64, 'bind');
      assert.deepEqual(readSockaddr(bytes, 64, length), expected ?? address);
    }
  });
});

describe('datagrams', () => {
  for (const [family, host] of [[AF_INET, '127.0.0.1'], ...(hasIp6 ? ([[AF_INET6, '::1']] as const) : [])] as const) {
    it(`go and come in batches with their addresses (${host})`, () => {
      const a = sys.socket(family, sys.SOCK_DGRAM);
      const b = sys.socket(family, sys.SOCK_DGRAM);
      sys.bind(a, { host, port: 0 });
      sys.bind(b, { host, port: 0 });
      const out = new MessageBatch(8, 2);
      const into = new MessageBatch(16);
      for (let i = 0; i < 8; i++) {
        arena.u8.fill(i + 1, i * 16, i * 16 + 16);
        out.setVector(i, 0, arena.addressHigh, i * 16, i + 1);
        out.setVector(i, 1, arena.addressHigh, 100, 1);
        out.setVectorCount(i, 2);
        out.setNameLength(i, writeSockaddr(sys.getsockname(b), out.memory.u8, out.nameOffset(i), 'send'));
      }
      for (let i = 0; i < 16; i++) {
        into.setVector(i, 0, arena.addressHigh, 4096 + i * 64, 4);
        into.setNameLength(i, 32);
      }
      assert.equal(out.send(a, 0, 8, 0), 8);
      assert.equal(into.receive(b, 16, 0), 8);
      for (let i = 0; i < 8; i++) {
        assert.equal(into.length(i), Math.min(4, i + 2));
        assert.equal((into.flags(i) & sys.MSG_TRUNC) !== 0, i + 2 > 4);
        assert.equal(arena.u8[4096 + i * 64], i + 1);
        assert.deepEqual(readSockaddr(into.memory.u8, into.nameOffset(i), into.nameLength(i)), sys.getsockname(a));
      }
      assert.equal(into.receive(b, 16, 0), -11);

      // one at a time, to a packed address
      const room = 8192;
      arena.i32[room >> 2] = 32;
      const to = into.memory.address + into.nameOffset(0);
      assert.equal(sys.sendto(b, arena.address, 5, 0, to, into.nameLength(0)), 5);
      assert.equal(sys.recvfrom(a, arena.address + 256, 64, 0, arena.address + room + 64, arena.address + room), 5);
      assert.deepEqual(readSockaddr(arena.u8, room + 64, arena.i32[room >> 2]!), sys.getsockname(b));
      assert.equal(sys.connectTo(a, arena.address + room + 64, arena.i32[room >> 2]!), 0);
      out.setNameLength(0, 0);
      assert.equal(sys.sendmsg(a, out.headerAddress(0), 0), 2);
      assert.equal(sys.recvmsg(b, into.headerAddress(0), 0), 2);
      for (const fd of [a, b]) close(fd);
      out.close();
      into.close();
    });
  }
});
