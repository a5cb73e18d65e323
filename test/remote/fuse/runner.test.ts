/**
 * Requests that the admission holds: what has been answered meanwhile, or is not waited for any more, must not be run when they are
 * let go. With operations that only count; nothing is touched.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ERRNO } from '../../../src/errors.ts';
import { alwaysWait, type RequestOrigin } from '../../../src/remote/fuse/admission.ts';
import { Runner } from '../../../src/remote/fuse/runner.ts';
import { type Outcome, success, type ViewOperation } from '../../../src/remote/view/operation.ts';

const ORIGIN: RequestOrigin = { unique: 2, opcode: 4, pid: 7, uid: 0, gid: 0, bounceable: true };

class Change implements ViewOperation<null> {
  static performed = 0;
  readonly kind = 'setattr';
  readonly credential = null;
  readonly touches = [];
  readonly changes = true;
  lookLocal = (): null => null;
  predict = (): null => null;
  agrees = (): boolean => true;
  perform(): Promise<Outcome<null>> {
    Change.performed++;
    return Promise.resolve(success(null));
  }
}

interface Case {
  readonly name: string;
  readonly wanted: boolean;
  /** Held before, or at the decision. */
  readonly where: 'enter' | 'decide';
  readonly rejects: boolean;
  readonly performed: number;
}

const CASES: readonly Case[] = [
  { name: 'let go', wanted: true, where: 'enter', rejects: false, performed: 1 },
  { name: 'answered by somebody else', wanted: true, where: 'enter', rejects: true, performed: 0 },
  { name: 'given up while it was held', wanted: false, where: 'enter', rejects: false, performed: 0 },
  { name: 'given up while it was decided on', wanted: false, where: 'decide', rejects: false, performed: 0 },
  { name: 'decided on late', wanted: true, where: 'decide', rejects: false, performed: 1 },
];

for (const { name, wanted, where, rejects, performed } of CASES) {
  test(`a change that is ${name} is made ${performed === 1 ? 'once' : 'never'}`, async () => {
    Change.performed = 0;
    let release = (): void => {};
    const held = new Promise<void>((resolve, reject) => {
      release = () => (rejects ? reject(new Error('answered')) : resolve());
    });
    let first = true;
    const runner = new Runner({
      ...alwaysWait,
      enter: () => {
        if (where === 'decide' || !first) return null;
        first = false;
        return held;
      },
      decide: () => (where === 'decide' ? held.then(() => 'wait' as const) : 'wait'),
    });
    const outcome = await new Promise<Outcome<null>>((resolve) => {
      runner.run<null>({ origin: ORIGIN, make: () => new Change(), done: resolve, wanted: () => wanted });
      release();
    });
    assert.equal(Change.performed, performed);
    assert.equal(outcome.errno, performed === 1 ? 0 : ERRNO.EINTR);
  });
}
