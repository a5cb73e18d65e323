/** Kernels in processes of their own: how they end, and what they are told where something is not allowed. */
import assert from 'node:assert/strict';
import { type ChildProcess, fork } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import type { IpAddress } from '../../src/address/sockaddr.ts';
import { uringRefusal } from '../../src/linux/uring.ts';
import { need } from '../support/need.ts';
import { dial, once, until } from './conformance/world.ts';

const CHILDREN = new URL(`./fixtures/children${import.meta.url.endsWith('.ts') ? '.ts' : '.js'}`, import.meta.url);

function start(...args: string[]): { child: ChildProcess; said: unknown[]; ended: Promise<number | null> } {
  const child = fork(CHILDREN, args, { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
  const said: unknown[] = [];
  child.on('message', (message) => said.push(message));
  const timer = setTimeout(() => child.kill('SIGKILL'), 30_000);
  const ended = new Promise<number | null>((resolve) =>
    child.once('exit', (code) => {
      clearTimeout(timer);
      resolve(code);
    }),
  );
  return { child, said, ended };
}

for (const datapath of ['kernel', 'uring', 'simulated']) {
  const missing = datapath === 'uring' ? uringRefusal() : null;
  const reason = missing?.message ?? '';

  describe(`processes with the ${datapath} datapath`, () => {
    it('ends by itself when everything is closed', async (t) => {
      if (!need(t, missing === null, reason)) return;
      const { said, ended } = start('ends', datapath);
      assert.equal(await ended, 0);
      assert.deepEqual(said, ['ping']);
    });

    if (datapath === 'simulated') return;

    it('lives until a slow peer has read what was pushed before close', async (t) => {
      if (!need(t, missing === null, reason)) return;
      const { said, ended } = start('flushes', datapath);
      await until(() => said.length === 1, 'the child listens');
      const socket = await dial(said[0] as IpAddress);
      socket.pause();
      // Long enough for the child to be done with everything but its backlog.
      await new Promise((resolve) => setTimeout(resolve, 150));
      let got = 0;
      socket.on('data', (part) => {
        got += part.length;
      });
      socket.resume();
      await once(socket, 'end');
      assert.equal(got, 64 * 65536);
      assert.equal(await ended, 0);
    });

    it('ends although a peer whose bytes it did not read stays, and the reply arrives', async (t) => {
      if (!need(t, missing === null, reason)) return;
      const { said, ended } = start('lingers', datapath);
      await until(() => said.length === 1, 'the child listens');
      const socket = await dial(said[0] as IpAddress, { allowHalfOpen: true });
      socket.on('error', () => {}); // in the end it may be reset
      const reply = once(socket, 'data');
      socket.write(Buffer.alloc(1 << 20));
      assert.equal(String(await reply), 'enough');
      assert.equal(await ended, 0);
      socket.destroy();
    });

    it('says EACCES for a privileged port and a forbidden directory', async (t) => {
      if (!need(t, missing === null, reason)) return;
      const firstFree = Number(readFileSync('/proc/sys/net/ipv4/ip_unprivileged_port_start', 'utf8'));
      if (!need(t, process.getuid?.() === 0 && firstFree > 1, 'only root can become nobody')) return;
      const directory = mkdtempSync(join(tmpdir(), 'isthmus-forbidden-'));
      const path = join(directory, 'it.sock');
      const { said, ended } = start('forbidden', datapath, '1', path);
      assert.equal(await ended, 0);
      const errno = -13;
      const syscall = 'bind';
      assert.deepEqual(said, [
        [
          { code: 'EACCES', errno, syscall, message: 'EACCES: permission denied, bind 127.0.0.1:1' },
          { code: 'EACCES', errno, syscall, message: `EACCES: permission denied, bind ${path}` },
        ],
      ]);
      rmSync(directory, { recursive: true });
    });

    it('has no descriptors left: accept says so, without spinning, and goes on when there are some', async (t) => {
      if (!need(t, missing === null, reason)) return;
      const { child, said, ended } = start('fullOfDescriptors', datapath);
      await until(() => said.length === 1, 'the child listens');
      const address = said.shift() as IpAddress;
      const report = async () => {
        child.send('report');
        await until(() => said.length === 1, 'the child reports');
        return said.shift() as { codes: string[]; accepted: number; cpu: NodeJS.CpuUsage };
      };
      const sockets = await Promise.all(Array.from({ length: 110 }, () => dial(address)));
      let now = await report();
      while (now.codes.length === 0) now = await report();
      assert.ok(
        now.codes.every((code) => code === 'EMFILE' || code === 'ENFILE'),
        String(now.codes),
      );
      assert.ok(now.accepted < sockets.length);
      const before = await report();
      await new Promise((resolve) => setTimeout(resolve, 300));
      const after = await report();
      const busyUs = after.cpu.user + after.cpu.system - before.cpu.user - before.cpu.system;
      assert.ok(busyUs < 150_000, `${busyUs} µs of processor time in 300 ms`);
      for (const socket of sockets) socket.destroy();
      const socket = await dial(address);
      const reply = once(socket, 'data');
      socket.write('still there?');
      assert.equal(String(await reply), 'still there?');
      socket.destroy();
      child.send('end');
      assert.equal(await ended, 0);
    });
  });
}

it('names the datapaths there are when asked for another', async () => {
  const { said, ended } = start('refuses', 'dpdk');
  assert.equal(await ended, 0);
  const [{ code, message }] = said as [{ code: string; message: string }];
  assert.equal(code, 'EINVAL');
  assert.match(message, /'dpdk'.*auto, kernel, uring, simulated/);
});
