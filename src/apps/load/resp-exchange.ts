/**
 * The messages of a load on a Redis server: GET, SET, both, or PING, over a space of keys.
 * It touches buffers of the kernel's heap; commands are copied from templates and only the key's digits are written.
 */
import { type HeapBuffer, IsthmusError, type Kernel, type Sga } from '../../index.ts';
import type { LoadConfig } from './config.ts';
import type { Exchange } from './exchange.ts';
import { ReplyCounter } from './resp-replies.ts';
import type { Run } from './run.ts';

/** As redis-benchmark writes them: `key:000000000042`. */
const KEY_DIGITS = 12;

interface Template {
  readonly bytes: HeapBuffer;
  /** Where the key's digits end, from the template's start; 0 for a command without a key. */
  readonly digitsEnd: number;
}

export class RespExchange implements Exchange {
  readonly #k: Kernel;
  readonly #run: Run;
  readonly #keys: number;
  /** SET is chosen below this, of 2^32. */
  readonly #setBelow: number;
  readonly #set: Template;
  readonly #other: Template;
  readonly #longest: number;
  readonly #counters: ReplyCounter[] = [];
  #random: number;
  #closed = false;

  /** @throws IsthmusError EMSGSIZE where a value of that size does not fit in a buffer */
  constructor(k: Kernel, run: Run, config: LoadConfig) {
    this.#k = k;
    this.#run = run;
    this.#keys = config.keys;
    this.#random = (config.seed | 0) === 0 ? 1 : config.seed | 0;
    const value = 'x'.repeat(config.size);
    const key = `$${KEY_DIGITS + 4}\r\nkey:${'0'.repeat(KEY_DIGITS)}\r\n`;
    const set = `*3\r\n$3\r\nSET\r\n${key}$${value.length}\r\n${value}\r\n`;
    if (set.length > k.heap.largest) {
      throw new IsthmusError(`EMSGSIZE: a value holds at most ${k.heap.largest - 64} bytes here`, { code: 'EMSGSIZE' });
    }
    this.#set = template(k, set);
    this.#other = template(k, config.command === 'ping' ? '*1\r\n$4\r\nPING\r\n' : `*2\r\n$3\r\nGET\r\n${key}`);
    this.#longest = config.command === 'get' || config.command === 'ping' ? this.#other.bytes.length : set.length;
    const share = { get: 0, ping: 0, set: 1, mixed: config.setShare }[config.command];
    this.#setBelow = share * 2 ** 32;
    const expected = config.verify ? new TextEncoder().encode(value) : null;
    for (let slot = 0; slot < config.connections; slot++) {
      const counter = new ReplyCounter();
      counter.expected = expected;
      this.#counters.push(counter);
    }
  }

  compose(_slot: number, count: number): Sga {
    const { largest } = this.#k.heap;
    if (count * this.#longest <= largest) return this.#commands(count);
    const perBuffer = Math.max(1, Math.floor(largest / this.#longest));
    const buffers: HeapBuffer[] = [];
    try {
      for (let left = count; left > 0; left -= perBuffer) buffers.push(this.#commands(Math.min(left, perBuffer)));
    } catch (error) {
      for (const buffer of buffers) buffer.release();
      throw error;
    }
    return buffers;
  }

  #commands(count: number): HeapBuffer {
    const buffer = this.#k.alloc(count * this.#longest);
    const { memory } = buffer;
    let at = buffer.offset;
    for (let i = 0; i < count; i++) {
      const { bytes, digitsEnd } = this.#next() >>> 0 < this.#setBelow ? this.#set : this.#other;
      memory.copyWithin(at, bytes.offset, bytes.offset + bytes.length);
      if (digitsEnd > 0) {
        // High bits of a second draw: the command must not decide the key.
        let key = Math.floor(((this.#next() >>> 0) / 2 ** 32) * this.#keys);
        for (let digit = at + digitsEnd - 1; key > 0; digit--) {
          const rest = (key / 10) | 0;
          memory[digit] = 0x30 + key - rest * 10;
          key = rest;
        }
      }
      at += bytes.length;
    }
    buffer.length = at - buffer.offset;
    return buffer;
  }

  /** Marsaglia's xorshift32. */
  #next(): number {
    let x = this.#random;
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    this.#random = x;
    return x;
  }

  absorb(slot: number, buffer: HeapBuffer): number {
    const { memory, offset, length } = buffer;
    const counter = this.#counters[slot]!;
    const { errors, nils, wrong } = counter;
    const count = counter.absorb(memory, offset, offset + length);
    buffer.release();
    const run = this.#run;
    run.nils += counter.nils - nils;
    run.errors.wrong += counter.wrong - wrong;
    run.errors.protocol += counter.errors - errors;
    return counter.ok ? count : -1;
  }

  restart(slot: number): void {
    this.#counters[slot]!.reset();
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#set.bytes.release();
    this.#other.bytes.release();
  }
}

function template(k: Kernel, text: string): Template {
  const key = text.indexOf('key:');
  return { bytes: k.alloc(text.length).fill(text), digitsEnd: key < 0 ? 0 : key + 4 + KEY_DIGITS };
}
