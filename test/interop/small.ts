/**
 * The trials of run.ts in small, as tests: what each link must do with the kernel's TCP every time the suite runs.
 * It makes a ground for the length of a suite; where the machine does not allow the link, each test is skipped.
 */
import { after, before, describe, it } from 'node:test';
import { need } from '../support/need.ts';
import { Ground, type LinkKind, refusalOf } from './ground.ts';
import * as trials from './trials.ts';

const FAMILIES = [0, 1] as const;
/** Who listens, and over which family: IPv4, IPv6. */
export type Case = readonly [role: trials.Role, family: 0 | 1];
/** Of every kind, so that each byte of the stream has seen all of them. */
const FAULTS = 'faults=loss:0.02,duplication:0.02,reordering:0.02,corruption:0.01,seed:7';

export function smallTrials(link: LinkKind, cases: readonly Case[]): void {
  const why = refusalOf(link);
  describe(`${link} against the kernel`, { timeout: 120_000 }, () => {
    let ground: Ground | null = null;
    before(() => {
      if (why === '') ground = new Ground({ link });
    });
    after(() => ground?.close());

    function trial(name: string, body: (ground: Ground) => Promise<void>): void {
      it(name, async (t) => {
        if (!need(t, why === '', why)) return;
        await body(ground!);
        await trials.settle(ground!);
      });
    }

    for (const [role, family] of cases) {
      const where = `as ${role}, IPv${family === 0 ? 4 : 6}`;
      trial(`carries bulk both ways, byte for byte, ${where}`, (g) => trials.bulk(g, role, family, 3_000_000));
      trial(`holds 200 connections at once, ${where}`, (g) => trials.many(g, role, family, 200));
      trial(`makes 300 short connections, ${where}`, (g) => trials.short(g, role, family, 300, 16));
      trial(`echoes datagrams, in fragments too, ${where}`, (g) =>
        trials.datagrams(g, role, family, [1, 64, 0, 1400, 1472, 1473, 9000, 60_000]),
      );
    }
    for (const family of FAMILIES) {
      const where = `IPv${family === 0 ? 4 : 6}`;
      trial(`refuses and is refused, ${where}`, (g) => trials.refusals(g, family));
      trial(`resets and is reset, ${where}`, (g) => trials.resets(g, family));
      trial(`answers a half-closed connection, ${where}`, (g) => trials.halfClose(g, family));
    }
  });

  describe(`${link} with faults against the kernel`, { timeout: 120_000 }, () => {
    it('is byte-exact with frames lost, doubled, out of order and corrupted', async (t) => {
      if (!need(t, why === '', why)) return;
      const ground = new Ground({ link, middleware: FAULTS });
      try {
        await trials.bulk(ground, 'server', 0, 100_000);
        await trials.bulk(ground, 'client', 1, 100_000);
        await trials.settle(ground);
      } finally {
        await ground.close();
      }
    });
  });
}
