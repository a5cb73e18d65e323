/** The xdp datapath leaves nothing behind: not after a kill, and not after the end of the worker that had it. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface, type Interface } from 'node:readline';
import { describe, it, type TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { LabSide } from '../../src/linux/lab.ts';
import { NetworkReader } from '../../src/linux/rtnetlink.ts';
import { type FilterObjects, labFor, present, until } from '../linux/lab-support.ts';
import { echoing, exchange, pattern, portOf, through } from './xdp-support.ts';

const PROGRAM = fileURLToPath(new URL('./fixtures/xdp-process.js', import.meta.url));
const DEADLINE_MS = 30_000;

async function start(t: TestContext, side: LabSide, how: string): Promise<[ChildProcess, Interface, FilterObjects]> {
  const child = side.namespace.run(() =>
    spawn(process.execPath, [PROGRAM, how, side.interfaceName], { stdio: ['pipe', 'pipe', 'inherit'] }),
  );
  t.after(() => child.kill('SIGKILL'));
  const lines = createInterface(child.stdout!);
  const [line] = (await once(lines, 'line')) as [string];
  return [child, lines, JSON.parse(line) as FilterObjects];
}

describe('what the xdp datapath leaves behind', () => {
  it('is nothing after SIGKILL, and the host has its ports and addresses again', async (t) => {
    const lab = labFor(t);
    if (lab === null) return;
    const { server } = lab;
    const client = through(t, lab.client);
    const [child, , made] = await start(t, server, 'main');
    assert.equal(present(made).length, 7);
    const connection = await client.connect(server.address4, 7000);
    assert.deepEqual(await exchange(connection, pattern(5000)), pattern(5000));
    child.kill('SIGKILL');
    await once(child, 'exit');
    await until(() => present(made).length === 0, 'everything is gone', DEADLINE_MS);
    const reader = server.namespace.run(() => new NetworkReader());
    assert.equal(reader.link(server.interfaceIndex)!.xdp, null);
    reader.close();
    // The host resets what it does not know, and then serves the port itself.
    const host = through(t, server);
    assert.equal(portOf(echoing(host.listen('0.0.0.0', 7000))), 7000);
    const again = await client.connect(server.address4, 7000);
    assert.deepEqual(await exchange(again, pattern(5000)), pattern(5000));
    again.close();
    connection.close();
  });

  it('is nothing after the end of its worker, in a process that goes on', async (t) => {
    const lab = labFor(t);
    if (lab === null) return;
    const [child, lines, made] = await start(t, lab.server, 'worker');
    assert.equal(present(made).length, 7);
    const ended = once(lines, 'line');
    child.stdin!.write('end\n');
    assert.deepEqual(JSON.parse((await ended)[0] as string), { ended: true });
    await until(() => present(made).length === 0, 'everything is gone', DEADLINE_MS);
    assert.equal(child.exitCode, null);
  });
});
