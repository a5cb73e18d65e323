/** Our own TCP/IP on a tap against the sockets of the kernel, in small: the same trials as test/interop/run.ts. */
import { after, before, describe, it } from 'node:test';
import { openTap } from '../../src/datapath/tap.ts';
import { createNamespace } from '../../src/linux/namespace.ts';
import { Ground } from '../interop/ground.ts';
import * as trials from '../interop/trials.ts';
import { need } from '../support/need.ts';

/** Why there can be no tap here; empty where there can. */
function refusal(): string {
  try {
    const namespace = createNamespace();
    try {
      namespace.run(() => openTap('t0,10.9.0.2/24')).dispose();
    } finally {
      namespace.close();
    }
    return '';
  } catch (error) {
    return (error as Error).message;
  }
}

const why = refusal();

describe('tap against the kernel', { timeout: 120_000 }, () => {
  let ground: Ground | null = null;
  before(() => {
    if (why === '') ground = new Ground({ link: 'tap' });
  });
  after(() => ground?.close());

  function trial(name: string, body: (ground: Ground) => Promise<void>): void {
    it(name, async (t) => {
      if (!need(t, why === '', why)) return;
      await body(ground!);
      await trials.settle(ground!);
    });
  }

  for (const role of ['server', 'client'] as const) {
    for (const family of [0, 1] as const) {
      const where = `as ${role}, IPv${family === 0 ? 4 : 6}`;
      trial(`carries bulk both ways, byte for byte, ${where}`, (g) => trials.bulk(g, role, family, 6_000_000));
      trial(`holds 200 connections at once, ${where}`, (g) => trials.many(g, role, family, 200));
      trial(`makes 300 short connections, ${where}`, (g) => trials.short(g, role, family, 300, 16));
      trial(`echoes datagrams, in fragments too, ${where}`, (g) =>
        trials.datagrams(g, role, family, [1, 64, 0, 1400, 1472, 1473, 9000, 60_000]),
      );
    }
  }
  for (const family of [0, 1] as const) {
    const where = `IPv${family === 0 ? 4 : 6}`;
    trial(`refuses and is refused, ${where}`, (g) => trials.refusals(g, family));
    trial(`resets and is reset, ${where}`, (g) => trials.resets(g, family));
    trial(`answers a half-closed connection, ${where}`, (g) => trials.halfClose(g, family));
  }
});

describe('tap with faults against the kernel', { timeout: 120_000 }, () => {
  it('is byte-exact with frames lost, doubled, out of order and corrupted', async (t) => {
    if (!need(t, why === '', why)) return;
    const faults = 'faults=loss:0.02,duplication:0.02,reordering:0.02,corruption:0.01,seed:7';
    const ground = new Ground({ link: 'tap', middleware: faults });
    try {
      await trials.bulk(ground, 'server', 0, 500_000);
      await trials.bulk(ground, 'client', 1, 500_000);
      await trials.settle(ground);
    } finally {
      await ground.close();
    }
  });
});
