/** A lab that other processes find, enter and end. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { describe, it } from 'node:test';
import { endLab, holdLab, labStatus } from '../../src/linux/lab-control.ts';
import { openNamespace } from '../../src/linux/namespace.ts';
import { labFor } from './lab-support.ts';

describe('a lab', () => {
  it('is found, entered and ended by its name', async (t) => {
    if (labFor(t) === null) return;
    const name = `test-${process.pid}`;
    assert.equal(await labStatus(name), null);
    assert.equal(await endLab(name), false);
    const held = await holdLab(name, { queues: 2 });
    t.after(() => held.close());
    const status = await labStatus(name);
    assert.deepEqual(status, held.status);
    assert.equal(status!.pid, process.pid);
    await assert.rejects(holdLab(name), { code: 'EADDRINUSE', message: /a lab of this name is up/ });
    const inside = openNamespace(status!.client.path);
    const program = `process.stdout.write(Object.values(require('node:os').networkInterfaces()).flat().map((a) => a.address).join())`;
    const addresses = inside.run(() => execFileSync(process.execPath, ['-e', program], { encoding: 'utf8' }));
    inside.close();
    assert.ok(addresses.split(',').includes('10.88.0.2'), addresses);
    assert.ok(addresses.split(',').includes('fd88::2'), addresses);

    const ending = endLab(name);
    await held.ended;
    held.close();
    assert.equal(await ending, true);
    assert.equal(await labStatus(name), null);
  });

  it('has a decent name', async () => {
    await assert.rejects(holdLab('a/b'), TypeError);
    await assert.rejects(labStatus(''), TypeError);
  });
});
