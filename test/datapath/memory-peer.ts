/**
 * The other side of `memory:NAME` by hand, to say on it what no datapath says: greetings, and words in the shared memory.
 * It uses the parts of the datapath where they help, and writes to the memory directly where they would not let it.
 */
import assert from 'node:assert/strict';
import { Greeting } from '../../src/datapath/memory/greeting.ts';
import { RING_SLOTS, ringOffset } from '../../src/datapath/memory/layout.ts';
import type { Link } from '../../src/datapath/memory/link.ts';
import { portName, reach } from '../../src/datapath/memory/names.ts';
import type { Kernel } from '../../src/kernel/kernel.ts';
import { createEventfd } from '../../src/linux/eventfd.ts';
import { close } from '../../src/linux/libc.ts';

export class HandMadePeer {
  readonly link: Link;
  readonly #doorbell: number;

  private constructor(link: Link, doorbell: number) {
    this.link = link;
    this.#doorbell = doorbell;
  }

  /** Becomes known to whoever listens on a port. `victim`: its kernel, which is given the turns it needs. */
  static connect(network: string, port: number, victim: Kernel): HandMadePeer {
    const reached = reach(network, portName('s4', port));
    assert.ok(reached !== null, 'somebody listens');
    const doorbell = createEventfd();
    const identity = Math.random().toString(16).slice(2).padEnd(32, '0').slice(0, 32);
    const greeting = new Greeting(reached.fd, { identity, doorbell, linkTo: () => undefined }, true, process.pid);
    assert.equal(greeting.begin(), 0);
    for (let i = 0; i < 100; i++) {
      victim.turn(0);
      const progress = greeting.progress();
      if (progress.kind === 'waiting') continue;
      assert.equal(progress.kind, 'link');
      const { link } = progress as { link: Link };
      for (let turns = 0; turns < 4; turns++) victim.turn(0);
      return new HandMadePeer(link, doorbell);
    }
    throw new Error('nobody answers');
  }

  /** Sends a message as it should be sent, whatever it says. */
  say(kind: number, slot: number, word1 = 0, word2 = 0, word3 = 0): void {
    this.link.send(kind, slot, word1, word2, word3);
    this.link.publish();
  }

  /** Writes a name where OPEN says it is. */
  name(offset: number, name: string): void {
    for (let i = 0; i < name.length; i++) this.link.memory.u8[offset + i] = name.charCodeAt(i);
  }

  /** Writes a word anywhere, e.g. an index of a ring. */
  write(word: number, value: number): void {
    Atomics.store(this.link.i32, word, value);
  }

  /** Words at the ring that this end writes: its index, the other's, its descriptors. */
  get ring(): { tail: number; head: number; first: number; words: number } {
    const at = ringOffset(this.link.end) >> 2;
    return { tail: at, head: at + 32, first: at + 64, words: RING_SLOTS * 4 };
  }

  close(): void {
    this.link.finish();
    this.link.memory.close();
    close(this.#doorbell);
  }
}
