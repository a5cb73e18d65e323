/** Two kernels with our own TCP/IP on the ends of a wire, and what they leave behind. It touches nothing but memory. */
import assert from 'node:assert/strict';
import type { StackDatapathOptions } from '../../src/datapath/stack/core.ts';
import { StackDatapath } from '../../src/datapath/stack.ts';
import { EVENT_LOOP, Host, OWN_CORE } from '../../src/kernel/host.ts';
import { Kernel } from '../../src/kernel/kernel.ts';
import type { Coroutine } from '../../src/kernel/scheduler.ts';
import { until } from './conformance/world.ts';
import { type WireOptions, wire } from './wire-link.ts';

export interface End {
  readonly k: Kernel;
  readonly host: Host;
  readonly datapath: StackDatapath;
  readonly errors: Error[];
}

/** Two kernels on the ends of a wire, one in each kind of host. */
export class Pair {
  readonly a: End;
  readonly b: End;
  readonly #atRest: readonly number[];

  constructor(options: StackDatapathOptions = {}, wireOptions: Omit<WireOptions, 'addresses'> = {}) {
    const [a, b] = wire({ checked: true, ...wireOptions });
    const end = (link: typeof a, policy: typeof OWN_CORE): End => {
      const datapath = new StackDatapath(link, options);
      const errors: Error[] = [];
      const k = new Kernel(datapath, { onUncaught: (error) => errors.push(error) });
      return { k, datapath, errors, host: new Host(k, policy).start() };
    };
    this.a = end(a, EVENT_LOOP);
    this.b = end(b, OWN_CORE);
    this.#atRest = [this.a.k.heap.inUse, this.b.k.heap.inUse];
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const ends = [this.a, this.b];
    try {
      for (const { k } of ends) k.end();
      await until(() => ends.every(({ k }) => k.draining === 0), 'closed queues are drained');
      await until(() => ends.every(({ k }, i) => k.heap.inUse <= this.#atRest[i]!), 'every buffer comes back');
      for (const { k } of ends) assert.equal(k.operations.inUse, 0, 'operations are still outstanding');
    } finally {
      // Whatever is wrong: a host that is left behind turns for ever, and the test's process with it.
      for (const { host } of ends) host.stop();
      for (const { k } of ends) k.dispose();
    }
    for (const { k, datapath, errors } of ends) {
      assert.equal(k.heap.inUse, 0, 'the datapath has let go of everything');
      assert.equal(datapath.tcp.table.size, 0);
      assert.deepEqual(errors, []);
    }
  }
}

export function run<T>({ k }: End, coroutine: Coroutine<T>): Promise<T> {
  return Promise.resolve(k.spawn(coroutine).join());
}
