/** Affinity, processor time, limits, and the probe: what they say is compared with what Node and /proc say. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { describe, it } from 'node:test';
import { Worker } from 'node:worker_threads';
import {
  getAffinity,
  processCpuNs,
  setAffinity,
  threadCpuNs,
  threadId,
  threadTimes,
} from '../../src/linux/affinity.ts';
import { capabilityNames } from '../../src/linux/capabilities.ts';
import { getLimit, Limit, raiseLimit, residentBytes, setSoftLimit } from '../../src/linux/limits.ts';
import { probe } from '../../src/linux/probe.ts';

const url = (file: string): string => JSON.stringify(new URL(`../../src/linux/${file}.js`, import.meta.url).href);

describe('affinity', () => {
  it('binds the calling thread and no other', async () => {
    const allowed = getAffinity();
    assert.ok(allowed.length > 0);
    assert.equal(threadId(), process.pid);
    const last = allowed.at(-1)!;
    const body = `import(${url('affinity')}).then((a) => {
      a.setAffinity([${last}]);
      require('node:worker_threads').parentPort.postMessage([a.threadId(), a.getAffinity()]); });`;
    const worker = new Worker(body, { eval: true });
    const [tid, cpus] = await new Promise<[number, number[]]>((resolve, reject) =>
      worker.once('message', resolve).once('error', reject),
    );
    assert.notEqual(tid, process.pid);
    assert.deepEqual(cpus, [last]);
    assert.deepEqual(getAffinity(), allowed);
    setAffinity(allowed);
    assert.deepEqual(getAffinity(), allowed);
    assert.throws(() => setAffinity([1023]), { code: 'EINVAL', syscall: 'sched_setaffinity' });
    assert.throws(() => setAffinity([]), { code: 'EINVAL' });
    assert.throws(() => setAffinity([-1]), RangeError);
  });

  it('measures processor time of threads and processes', () => {
    const before = threadCpuNs();
    const processBefore = processCpuNs(process.pid);
    while (threadCpuNs() - before < 5e6);
    const grown = processCpuNs(process.pid) - processBefore;
    assert.ok(grown >= 5e6 && grown < 5e9, `${grown}`);
    const usage = process.cpuUsage();
    assert.ok(Math.abs(processCpuNs(process.pid) - (usage.user + usage.system) * 1000) < 1e9);
    assert.throws(() => processCpuNs(2 ** 22 + 1), { code: 'EINVAL', syscall: 'clock_gettime' });
    const mine = threadTimes(process.pid).find(({ tid }) => tid === process.pid);
    assert.ok(Math.abs(mine!.cpuNs - threadCpuNs()) < 1e9);
    assert.ok(mine!.name.length > 0);
    assert.throws(() => threadTimes(2 ** 30), { errno: -3, syscall: 'open' });
  });
});

describe('limits', () => {
  it('are read, lowered and raised', () => {
    const { soft, hard } = getLimit(Limit.NOFILE);
    const line = /Max open files\s+(\S+)\s+(\S+)/.exec(readFileSync('/proc/self/limits', 'utf8'))!;
    const number = (text: string): number => (text === 'unlimited' ? Infinity : Number(text));
    assert.deepEqual([soft, hard], [number(line[1]!), number(line[2]!)]);
    setSoftLimit(Limit.NOFILE, 256);
    assert.deepEqual(getLimit(Limit.NOFILE), { soft: 256, hard });
    assert.deepEqual(raiseLimit(Limit.NOFILE), { soft: hard, hard });
    setSoftLimit(Limit.NOFILE, soft);
    assert.throws(() => setSoftLimit(Limit.NOFILE, hard + 1), { code: 'EINVAL', syscall: 'setrlimit' });
  });

  it('come with resident memory', () => {
    const resident = residentBytes(process.pid);
    assert.ok(Math.abs(resident - process.memoryUsage.rss()) < 64 << 20);
    assert.throws(() => residentBytes(2 ** 30), { code: 'ESRCH' });
    const { soft } = getLimit(Limit.NOFILE);
    setSoftLimit(Limit.NOFILE, 0);
    try {
      assert.throws(() => residentBytes(process.pid), { code: 'EMFILE' });
    } finally {
      setSoftLimit(Limit.NOFILE, soft);
    }
  });
});

describe('probe', () => {
  it('says what is there, and for what is not, why and what it needs', () => {
    const machine = probe();
    assert.equal(`v${machine.node.slice(1)}`, process.version);
    assert.ok(machine.kernel.major >= 4);
    assert.ok(machine.epoll.available);
    assert.deepEqual(machine.processors.allowed, getAffinity());
    for (const facility of [machine.ioUring, machine.xdp, machine.tun, machine.fuse, machine.epoll]) {
      assert.equal(facility.available, facility.reason === '');
      assert.equal(facility.available, facility.needs === '');
    }
    if (machine.ioUring.available) {
      assert.ok(machine.ioUring.operations.includes('RECV'));
      assert.ok(machine.ioUring.flags.includes('CQSIZE'));
    }
    assert.equal(JSON.parse(JSON.stringify(machine)).architecture, process.arch);
  });

  it('names capabilities', () => {
    assert.deepEqual(capabilityNames('0'), []);
    assert.deepEqual(capabilityNames('0000008000003000'), ['CAP_NET_ADMIN', 'CAP_NET_RAW', 'CAP_BPF']);
  });

  it('explains a process that may do little', {
    skip: process.getuid?.() !== 0 && 'needs root to give root up',
  }, async () => {
    const program = `const { probe } = await import(${url('probe')}); process.setgid(65534); process.setuid(65534);
      const p = probe(); console.log(JSON.stringify([p.capabilities, p.tun, p.xdp, p.epoll.available]));`;
    const output = await new Promise<string>((resolve, reject) => {
      execFile(process.execPath, ['--input-type=module', '-e', program], (error, stdout) =>
        error ? reject(error) : resolve(stdout),
      );
    });
    const [capabilities, tun, xdp, epoll] = JSON.parse(output);
    assert.deepEqual(capabilities, []);
    assert.ok(epoll);
    assert.equal(xdp.available, false);
    assert.match(xdp.reason, /EPERM|EAFNOSUPPORT/);
    assert.match(xdp.needs, /CAP_NET_RAW/);
    assert.equal(tun.available, false);
    assert.match(tun.reason, /EACCES|EPERM|ENOENT|CAP_NET_ADMIN/);
  });
});
