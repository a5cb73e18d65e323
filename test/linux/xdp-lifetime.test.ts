/** Nothing is left behind: programs, maps, links, namespaces and devices end with what made them, also by SIGKILL. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { describe, it, type TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';
import { createNamespace, openNamespace } from '../../src/linux/namespace.ts';
import { NetworkReader } from '../../src/linux/rtnetlink.ts';
import { xdpRefusal } from '../../src/linux/xdp-probe.ts';
import { hasCommand, need } from '../support/need.ts';
import { type FilterObjects, labFor, present, Station, until } from './lab-support.ts';

const OWNER = fileURLToPath(new URL('./xdp-owner.js', import.meta.url));
const NAMES = '/run/netns';

/** Namespaces that have a name in the file system, for all to see. Ours must add none. */
function visible(): string[] {
  const mounts = readFileSync('/proc/mounts', 'latin1').split('\n');
  const named = existsSync(NAMES) ? readdirSync(NAMES) : [];
  return [...mounts.filter((line) => line.split(' ')[2] === 'nsfs'), ...named];
}

async function start(t: TestContext, args: string[], command = process.execPath): Promise<[ChildProcess, unknown]> {
  const child = spawn(command, args, { stdio: ['pipe', 'pipe', 'inherit'] });
  t.after(() => child.kill('SIGKILL'));
  const [line] = (await once(createInterface(child.stdout!), 'line')) as [string];
  return [child, JSON.parse(line)];
}

interface Made extends FilterObjects {
  readonly mode: string;
}

describe('what XDP leaves behind', () => {
  it('is nothing after close', async (t) => {
    const lab = labFor(t);
    if (lab === null) return;
    const { namespace, interfaceIndex } = lab.server;
    const reader = namespace.run(() => new NetworkReader());
    t.after(() => reader.close());
    const station = new Station(t, lab.server);
    const { filter } = station;
    const maps = Object.values(filter.maps).map(({ id }) => id);
    const made = { mode: '', link: filter.linkId, program: filter.program.id, maps };
    assert.equal(present(made).length, 7);
    assert.deepEqual(reader.link(interfaceIndex)!.xdp, { mode: 'native', programId: made.program });
    station.close();
    filter.close();
    assert.equal(reader.link(interfaceIndex)!.xdp, null);
    await until(() => present(made).length === 0, 'programs and maps gone');
    const again = new Station(t, lab.server, { mode: 'generic' }); // the interface and the queue are free again
    assert.deepEqual(reader.link(interfaceIndex)!.xdp?.mode, 'generic');
    again.close();
  });

  it('is nothing after the owner was killed', async (t) => {
    const lab = labFor(t);
    if (lab === null) return;
    const { namespace, interfaceIndex } = lab.server;
    const reader = namespace.run(() => new NetworkReader());
    t.after(() => reader.close());
    const starting = namespace.run(() => ({ started: start(t, [OWNER, 'filter', `${interfaceIndex}`]) })).started;
    const [child, told] = await starting;
    const made = told as Made;
    assert.equal(made.mode, 'native');
    assert.equal(reader.link(interfaceIndex)!.xdp?.programId, made.program);
    assert.equal(present(made).length, 7);
    child.kill('SIGKILL');
    await once(child, 'exit');
    await until(() => reader.link(interfaceIndex)!.xdp === null, 'program off the interface');
    await until(() => present(made).length === 0, 'programs and maps gone');
  });

  it('is no namespace after the maker of a lab was killed', async (t) => {
    if (labFor(t) === null) return;
    const before = visible();
    const own = createNamespace();
    t.after(() => own.close());
    const reader = own.run(() => new NetworkReader());
    t.after(() => reader.close());
    const [child, told] = await start(t, [OWNER, 'lab', `/proc/${process.pid}/fd/${own.fd}`]);
    const { server } = told as { server: string };
    assert.deepEqual(visible(), before);
    const inside = openNamespace(server);
    const links = inside.run(() => {
      const there = new NetworkReader();
      const names = there.links().map(({ name }) => name);
      there.close();
      return names;
    });
    inside.close();
    assert.deepEqual(links.sort(), ['lab-server', 'lo', 'to-witness']);
    assert.notEqual(reader.link('witness'), null);
    child.kill('SIGKILL');
    await once(child, 'exit');
    // The other end of this pair was in the lab: it goes when the lab's namespace goes, and only then.
    await until(() => reader.link('witness') === null, 'the namespace of the lab gone');
    assert.deepEqual(visible(), before);
  });
});

describe('capabilities', () => {
  it('three are enough to use AF_XDP', async (t) => {
    const lab = labFor(t);
    if (lab === null || !need(t, hasCommand('setpriv'), 'setpriv is not installed')) return;
    const { namespace, interfaceIndex } = lab.server;
    const only = '--bounding-set=-all,+net_raw,+net_admin,+bpf';
    const args = [only, process.execPath, OWNER, 'filter', `${interfaceIndex}`];
    const [, told] = await namespace.run(() => ({ started: start(t, args, 'setpriv') })).started;
    assert.equal((told as Made).mode, 'native');
  });

  it('without CAP_IPC_LOCK the UMEM is bounded by ulimit -l, and that is said', async (t) => {
    const lab = labFor(t);
    if (lab === null || !need(t, hasCommand('setpriv'), 'setpriv is not installed')) return;
    const bytes = 4 << 20;
    const limited = `ulimit -l 1024 && exec setpriv --bounding-set=-all,+net_raw,+net_admin,+bpf "$@"`;
    const args = ['-c', limited, 'sh', process.execPath, OWNER, 'lock', `${bytes}`];
    const [, told] = await lab.server.namespace.run(() => ({ started: start(t, args, 'sh') })).started;
    const { message, refusal } = told as { message: string; refusal: string };
    assert.match(message, /^ENOBUFS: .*UMEM of 4194304 bytes \(more locked memory than ulimit -l allows/);
    assert.equal(
      refusal,
      'ENOBUFS: AF_XDP needs 4194304 bytes of locked memory and the limit is 1048576: ulimit -l 4096, or CAP_IPC_LOCK',
    );
  });

  it('what is missing is said in one line', () => {
    const all = ['CAP_NET_RAW', 'CAP_NET_ADMIN', 'CAP_BPF'];
    const line = (capabilities: string[]): string => xdpRefusal({ capabilities })?.message ?? '';
    assert.equal(
      line(['CAP_NET_ADMIN', 'CAP_BPF']),
      'EPERM: AF_XDP needs CAP_NET_RAW (to open AF_XDP sockets): run as root, or setcap cap_net_raw+ep on a copy of node',
    );
    assert.match(
      line([]),
      /^EPERM: AF_XDP needs CAP_NET_RAW \(.*\), CAP_NET_ADMIN \(.*\), CAP_BPF or CAP_SYS_ADMIN \(.*\): /,
    );
    assert.doesNotMatch(line(['CAP_NET_RAW', 'CAP_NET_ADMIN', 'CAP_SYS_ADMIN']), /AF_XDP needs/);
    assert.doesNotMatch(line(all), /AF_XDP needs/);
    const locked = xdpRefusal({ capabilities: all, umemBytes: 2 ** 50 });
    if (process.getuid?.() === 0)
      assert.match(`${locked?.code} ${locked?.message}`, /^ENOBUFS .*ulimit -l 1099511627776/);
  });
});
