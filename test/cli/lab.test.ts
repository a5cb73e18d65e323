/** `isthmus lab` as people use it: made, shown, used and ended by commands of their own; gone after a kill as well. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { describe, it, type TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';
import { bpfObjectIds } from '../../src/linux/bpf.ts';
import { labStatus } from '../../src/linux/lab-control.ts';
import { createNamespace, openNamespace } from '../../src/linux/namespace.ts';
import { NetworkSetup } from '../../src/linux/network-setup.ts';
import { NetworkReader } from '../../src/linux/rtnetlink.ts';
import { until } from '../datapath/conformance/world.ts';
import { labRefusal } from '../linux/lab-support.ts';
import { startIsthmus } from '../support/child-server.ts';
import { need } from '../support/need.ts';

const MAIN = fileURLToPath(new URL('../../src/cli/main.js', import.meta.url));
const ROOT = process.geteuid?.() === 0;

interface Ended {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

function isthmus(args: readonly string[], uid?: number): Promise<Ended> {
  return new Promise((resolve) => {
    const child = execFile(
      process.execPath,
      [MAIN, ...args],
      { timeout: 30_000, ...(uid !== undefined && { uid }) },
      (_, out, err) => resolve({ code: child.exitCode ?? -1, out, err }),
    );
  });
}

/** A lab of a test's own: its name, and the command on it. */
function ownLab(what: string): { name: string; lab: (...args: string[]) => Promise<Ended> } {
  const name = `test-${process.pid}-${what}`;
  const lab = (...args: string[]): Promise<Ended> => {
    const end = args.indexOf('--');
    const at = end < 0 ? args.length : end;
    return isthmus(['lab', ...args.slice(0, at), '--name', name, ...args.slice(at)]);
  };
  return { name, lab };
}

/** Whether a process runs. One that nobody has waited for yet has ended: when its parent looks is no affair of ours. */
function alive(pid: number): boolean {
  try {
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'latin1'));
  } catch {
    return false;
  }
}

/** The XDP program of a namespace, and whether the namespace lives: then one end of a pair is in it, and the other here. */
function watchNamespace(t: TestContext, path: string): { programId: number; witness: () => boolean } {
  const here = createNamespace();
  t.after(() => here.close());
  const there = openNamespace(path);
  const setup = there.run(() => new NetworkSetup());
  setup.createVeth({ name: 'to-witness' }, { name: 'witness', namespaceFd: here.fd });
  const { programId } = setup.link('lab-server')!.xdp!;
  setup.close();
  there.close();
  const reader = here.run(() => new NetworkReader());
  t.after(() => reader.close());
  return { programId, witness: () => reader.link('witness') !== null };
}

describe('isthmus lab', { concurrency: 2 }, () => {
  it('is made, shown, used from both sides, and ended', async (t) => {
    if (!need(t, ROOT, 'a lab needs root')) return;
    const { lab } = ownLab('used');
    assert.equal((await lab('status')).code, 1);
    const up = await lab('up', '--json');
    assert.equal(up.code, 0, up.err);
    const { pid, server } = JSON.parse(up.out);
    try {
      const again = await lab('up');
      assert.equal(again.code, 1);
      assert.match(again.err, /^isthmus lab: lab test-\d+-used is up already: .*\n$/);
      const shown = await lab('status');
      assert.equal(shown.code, 0);
      assert.match(shown.out, new RegExp(`held by process ${pid}\\n`));
      assert.match(shown.out, new RegExp(server.address4));
      // Node itself shows where it is: the interfaces of the other side are none of its.
      const node = [process.execPath, '-e'];
      const show = 'console.log(Object.keys(os.networkInterfaces()).sort().join())';
      const [inServer, inClient, seven, none] = await Promise.all([
        lab('run', 'server', '--', ...node, show),
        lab('run', 'client', '--', ...node, show),
        lab('run', 'client', '--', ...node, 'process.exit(7)'),
        lab('run', 'client', '--', '/no/such/program'),
      ]);
      assert.deepEqual(inServer, { code: 0, out: 'lab-server,lo\n', err: '' });
      assert.deepEqual(inClient, { code: 0, out: 'lab-client,lo\n', err: '' });
      assert.equal(seven.code, 7);
      assert.equal(none.code, 1);
      assert.match(none.err, /ENOENT/);
      assert.equal((await lab('down')).code, 0);
    } finally {
      await until(() => !alive(pid), 'the holder has ended').catch(() => process.kill(pid, 'SIGKILL'));
    }
    assert.equal((await lab('run', 'client', '--', 'true')).code, 1);
  });

  it('is gone when its holder is killed', async (t) => {
    if (!need(t, ROOT, 'a lab needs root')) return;
    const { name, lab } = ownLab('killed');
    const { pid, server } = JSON.parse((await lab('up', '--json')).out);
    process.kill(pid, 'SIGKILL');
    await until(() => !existsSync(server.path), 'the namespace is gone');
    assert.equal(await labStatus(name), null);
    const second = await lab('up', '--json');
    assert.equal(second.code, 0, second.err);
    assert.equal((await lab('down')).code, 0);
    await until(() => !alive(JSON.parse(second.out).pid), 'the holder has ended');
  });

  it('leaves nothing when its holder is killed, and then what still ran in it', async (t) => {
    const why = labRefusal();
    if (!need(t, why === '', why)) return;
    const { name, lab } = ownLab('busy');
    const { pid, server } = JSON.parse((await lab('up', '--json')).out);
    t.after(() => lab('down'));
    const run = ['lab', 'run', 'server', '--name', name, '--'];
    const echo = [process.execPath, MAIN, 'echo', '--datapath', 'xdp:lab-server', '--host', server.address4];
    const running = await startIsthmus([...run, ...echo, '--port', '7000']);
    t.after(() => running.stop());
    // The run has turned into the command: what is done to the one is done to the other.
    assert.ok(readFileSync(`/proc/${running.pid}/cmdline`, 'latin1').includes('\0echo\0'));
    const ask = `const s = require('net').connect(7000, '${server.address4}', () => s.write('past the kernel'));
      s.on('data', (d) => { console.log(String(d)); process.exit(); });`;
    assert.equal((await lab('run', 'client', '--', process.execPath, '-e', ask)).out, 'past the kernel\n');

    const { programId, witness } = watchNamespace(t, `/proc/${running.pid}/ns/net`);
    assert.ok(bpfObjectIds('program').includes(programId));
    process.kill(pid, 'SIGKILL');
    await until(() => !alive(pid), 'the holder has ended');
    assert.equal((await lab('status')).code, 1);
    assert.ok(witness(), 'who runs in a namespace keeps it');
    process.kill(running.pid, 'SIGKILL');
    await until(() => !bpfObjectIds('program').includes(programId), 'the XDP program is gone');
    await until(() => !witness(), 'the namespace is gone');
  });

  it('has a slow way, where asked, beside the fast one', async (t) => {
    if (!need(t, ROOT && existsSync('/dev/net/tun'), 'a slow way needs root and /dev/net/tun')) return;
    const { lab } = ownLab('slow');
    const up = await lab('up', '--delay', '20ms', '--json');
    assert.equal(up.code, 0, up.err);
    const { pid, server } = JSON.parse(up.out);
    try {
      assert.deepEqual(server.slow, { interfaceName: 'lab-slow', address4: '10.88.1.1' });
      // One echo of a datagram: no sooner than there and back. Later is no fault of the line.
      const echo = `const s = require('dgram').createSocket('udp4');
        s.on('message', (m, from) => s.send(m, from.port, from.address, () => s.close()));
        s.bind(9, '10.88.1.1', () => setInterval(() => {}, 1e6).unref());`;
      const ask = `const s = require('dgram').createSocket('udp4'); let start;
        s.on('message', () => { console.log(performance.now() - start); process.exit(); });
        setInterval(() => { start ??= performance.now(); s.send('x', 9, '10.88.1.1'); }, 50);`;
      const serving = lab('run', 'server', '--', process.execPath, '-e', echo);
      const { out } = await lab('run', 'client', '--', process.execPath, '-e', ask);
      assert.ok(Number(out) >= 40, out);
      await serving;
    } finally {
      await lab('down');
    }
    await until(() => !alive(pid), 'the holder has ended');
  });

  it('leaves room for XDP, where asked', async (t) => {
    if (!need(t, ROOT, 'a lab needs root')) return;
    const { lab } = ownLab('room');
    const up = await lab('up', '--headroom', '--json');
    if (/EOPNOTSUPP/.test(up.err)) return t.skip('this kernel has no VXLAN or no bridges');
    assert.equal(up.code, 0, up.err);
    const { pid, headroom } = JSON.parse(up.out);
    try {
      assert.equal(headroom, true);
      assert.match((await lab('status')).out, /headroom for XDP/);
      const { out } = await lab('run', 'client', '--', 'cat', '/proc/net/dev');
      assert.match(out, /^ *headroom:/m);
    } finally {
      await lab('down');
    }
    await until(() => !alive(pid), 'the holder has ended');
  });

  it('says in one line that it needs root, and what is wrong with a command line', async (t) => {
    const cases = [
      [['sideways'], /ACTION is up, down, status, run, not 'sideways'/],
      [['run', 'middle', '--', 'true'], /SIDE is server or client/],
      [['run', 'server'], /COMMAND is missing/],
      [['down', '--queues', '2'], /--queues is for lab up/],
      [['status', '--headroom'], /--headroom is for lab up/],
      [['up', 'server'], /unexpected argument 'server'/],
      [['up', '--name', 'a b'], /--name is/],
    ] as const;
    const ends = await Promise.all(cases.map(([args]) => isthmus(['lab', ...args])));
    for (const [i, { code, err }] of ends.entries()) {
      assert.equal(code, 2, err);
      assert.match(err, cases[i]![1]);
    }
    if (!need(t, ROOT, 'only root can become somebody else')) return;
    const { code, err } = await isthmus(['lab', 'up', '--name', ownLab('nobody').name], 65534);
    assert.equal(code, 1);
    assert.match(err, /^isthmus lab: a lab needs root \(.*\n$/);
  });
});
