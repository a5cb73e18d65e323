/** One suite for every datapath: run by kernel.test.ts, uring.test.ts and others, under both hosts. */
import { describe } from 'node:test';
import { EVENT_LOOP, OWN_CORE } from '../../src/kernel/host.ts';
import { boundTests } from './conformance/bounds.ts';
import { datagramTests } from './conformance/datagrams.ts';
import { interopTests } from './conformance/interop.ts';
import { setupTests } from './conformance/setup.ts';
import { streamTests } from './conformance/streams.ts';
import { waitingTests } from './conformance/waiting.ts';
import type { Subject } from './conformance/world.ts';

export function conformance(subject: Subject): void {
  for (const [host, policy] of [
    ['in the event loop', EVENT_LOOP],
    ['owning its core', OWN_CORE],
  ] as const) {
    describe(`${subject.name} datapath, ${host}`, { skip: subject.missing ?? false, timeout: 120_000 }, () => {
      describe('streams', () => streamTests(subject, policy));
      describe('waiting', () => waitingTests(subject, policy));
      describe('datagrams', () => datagramTests(subject, policy));
      describe('set-up', () => setupTests(subject, policy));
      describe('bounds', () => boundTests(subject, policy));
      if (subject.real) describe('interop', () => interopTests(subject, policy));
    });
  }
}
