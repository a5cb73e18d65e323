/** epoll and eventfd: readiness, an echo served by them alone, and wake-ups from another thread. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Worker } from 'node:worker_threads';
import { EPOLLIN, EPOLLOUT, EPOLLRDHUP, Epoll } from '../../src/linux/epoll.ts';
import { createEventfd, drainEventfd, signalEventfd } from '../../src/linux/eventfd.ts';
import { close } from '../../src/linux/libc.ts';
import { mapArena } from '../../src/linux/memory.ts';
import { AF_INET } from '../../src/linux/sockaddr.ts';
import * as sys from '../../src/linux/socket.ts';

describe('Epoll', () => {
  it('serves an echo to several clients', () => {
    const arena = mapArena(1 << 14);
    const epoll = new Epoll(16);
    const listener = sys.socket(AF_INET, sys.SOCK_STREAM);
    sys.bind(listener, { host: '127.0.0.1', port: 0 });
    sys.listen(listener, 16);
    assert.equal(epoll.add(listener, EPOLLIN, -1), 0);
    const clients = Array.from({ length: 5 }, () => {
      const fd = sys.socket(AF_INET, sys.SOCK_STREAM);
      assert.equal(sys.connect(fd, sys.getsockname(listener)), -115);
      return fd;
    });
    const servers: number[] = [];
    let echoed = 0;
    let ended = 0;
    let sent = false;
    for (let turns = 0; ended < clients.length; turns++) {
      assert.ok(turns < 1000);
      const ready = epoll.wait(1000);
      assert.ok(ready > 0);
      for (let i = 0; i < ready; i++) {
        if (epoll.data(i) === -1) {
          for (;;) {
            const fd = sys.accept(listener);
            if (fd < 0) break;
            assert.equal(epoll.add(fd, EPOLLIN | EPOLLRDHUP, servers.push(fd) - 1), 0);
          }
          continue;
        }
        assert.ok(epoll.events(i) & EPOLLIN);
        const fd = servers[epoll.data(i)]!;
        const bytes = sys.recv(fd, arena.address, 4096, 0);
        if (bytes === 0) {
          assert.equal(epoll.remove(fd), 0);
          ended++;
        } else {
          assert.equal(sys.send(fd, arena.address, bytes, 0), bytes);
          echoed += bytes;
        }
      }
      if (servers.length === clients.length && !sent) {
        sent = true;
        clients.forEach((fd, i) => {
          arena.u8.fill(i + 1, 8192, 8292);
          assert.equal(sys.send(fd, arena.address + 8192, 100, 0), 100);
        });
      }
      if (echoed === 500) {
        echoed = 0;
        clients.forEach((fd, i) => {
          assert.equal(sys.recv(fd, arena.address + 4096, 200, 0), 100);
          assert.ok(arena.u8.subarray(4096, 4196).every((byte) => byte === i + 1));
          close(fd);
        });
      }
    }
    for (const fd of [...servers, listener]) close(fd);
    epoll.close();
    epoll.close();
    arena.close();
  });

  it('tells of room to write only when asked', () => {
    const [a, b] = sys.socketpair();
    const epoll = new Epoll();
    epoll.add(a, EPOLLIN, 5);
    assert.equal(epoll.wait(0), 0);
    assert.equal(epoll.modify(a, EPOLLIN | EPOLLOUT, 0x7fffffff), 0);
    assert.equal(epoll.wait(0), 1);
    assert.equal(epoll.data(0), 0x7fffffff);
    assert.equal(epoll.events(0), EPOLLOUT);
    assert.equal(epoll.add(a, EPOLLIN, 5), -17);
    assert.equal(epoll.modify(b, EPOLLIN, 5), -2);
    close(a);
    close(b);
    epoll.close();
  });
});

describe('eventfd', () => {
  it('counts, and is empty after a drain', () => {
    const fd = createEventfd();
    assert.equal(drainEventfd(fd), 0);
    assert.equal(signalEventfd(fd), 8);
    assert.equal(signalEventfd(fd), 8);
    assert.equal(drainEventfd(fd), 2);
    assert.equal(drainEventfd(fd), 0);
    close(fd);
    assert.equal(signalEventfd(fd), -9);
  });

  it('wakes a thread that sleeps in epoll', async () => {
    const fd = createEventfd();
    const epoll = new Epoll();
    epoll.add(fd, EPOLLIN, 1);
    const module = new URL('../../src/linux/eventfd.js', import.meta.url).href;
    const worker = new Worker(`import(${JSON.stringify(module)}).then((m) => m.signalEventfd(${fd}));`, { eval: true });
    const exited = new Promise((resolve, reject) => worker.once('exit', resolve).once('error', reject));
    await exited;
    assert.equal(epoll.wait(5000), 1);
    assert.equal(drainEventfd(fd), 1);
    epoll.close();
    close(fd);
  });
});
