/**
 * The sockets of a load over UDP. Each message begins with its number on the socket (32 bits, little endian), so that
 * answers that are lost, late or out of order are told apart.
 * It touches the kernel's queues and heap.
 */
import type { Coroutine, HeapBuffer, IpAddress, UdpSocket } from '../../index.ts';
import { patternByte } from './exchange.ts';
import type { PacedTarget } from './pacer.ts';
import type { Run } from './run.ts';
import type { Schedule } from './schedule.ts';

export const NUMBER_BYTES = 4;

export class Datagrams implements PacedTarget {
  readonly #run: Run;
  readonly #sockets: (UdpSocket | null)[];
  /** Number of the next message on each socket; messages below `#first` are given up. */
  readonly #sent: Int32Array;
  readonly #first: Int32Array;
  /** Answers that the batch under way still lacks. */
  readonly #missing: Int32Array;
  /** Answers in all; open loop. */
  readonly #answered: Float64Array;
  readonly #template: HeapBuffer;
  #schedule: Schedule | null = null;
  #closed = false;

  constructor(run: Run) {
    const { connections, size } = run.config;
    this.#run = run;
    this.#sockets = new Array<UdpSocket | null>(connections).fill(null);
    this.#sent = new Int32Array(connections);
    this.#first = new Int32Array(connections);
    this.#missing = new Int32Array(connections);
    this.#answered = new Float64Array(connections);
    this.#template = run.k.alloc(size);
    for (let i = 0; i < size; i++) this.#template.memory[this.#template.offset + i] = patternByte(0, i);
  }

  *open(slot: number): Coroutine<UdpSocket> {
    const { k, config } = this.#run;
    const to = config.address as IpAddress;
    const socket = k.udp({ host: to.host.includes(':') ? '::' : '0.0.0.0' });
    try {
      yield* socket.connect(to);
    } catch (error) {
      socket.close();
      throw error;
    }
    this.#sockets[slot] = socket;
    this.#run.connected++;
    return socket;
  }

  /** Sends and counts on one socket until the run stops. */
  *client(slot: number, schedule: Schedule | null): Coroutine {
    const run = this.#run;
    this.#schedule = schedule;
    const socket = this.#sockets[slot]!;
    if (schedule === null) this.#sendBatch(slot);
    while (!run.stopped) {
      try {
        const buffer = yield* socket.pop();
        this.#arrived(slot, buffer);
        buffer.release();
      } catch (error) {
        if (run.stopped || socket.closed) return;
        // An ICMP answer to an earlier message (ECONNREFUSED): the socket goes on, the watchdog sends again.
        run.failed(error);
      }
    }
  }

  #arrived(slot: number, { memory, offset, length }: HeapBuffer): void {
    const run = this.#run;
    if (length < NUMBER_BYTES || length !== run.config.size) {
      run.errors.wrong++;
      return;
    }
    const number =
      memory[offset]! | (memory[offset + 1]! << 8) | (memory[offset + 2]! << 16) | (memory[offset + 3]! << 24);
    if (run.config.verify && !this.#matches(memory, offset, length)) run.errors.wrong++;
    const { now } = run.k;
    if (this.#schedule !== null) {
      if (number >= 0 && number < this.#sent[slot]!) {
        run.answeredIntended(this.#schedule.intended(slot, number), now);
        this.#answered[slot] = this.#answered[slot]! + 1;
      } else run.errors.wrong++;
      return;
    }
    if (number - this.#first[slot]! < 0) return; // late: it was counted as lost
    run.answered(now - run.waitingSince[slot]!, 1);
    const missing = this.#missing[slot]! - 1;
    this.#missing[slot] = missing;
    if (missing <= 0) this.#sendBatch(slot);
  }

  #matches(memory: Uint8Array, offset: number, length: number): boolean {
    for (let i = NUMBER_BYTES; i < length; i++) if (memory[offset + i] !== patternByte(0, i)) return false;
    return true;
  }

  #sendBatch(slot: number): void {
    const run = this.#run;
    this.#first[slot] = this.#sent[slot]!;
    this.#missing[slot] = run.config.depth;
    run.waitingSince[slot] = run.k.now;
    this.send(slot, run.config.depth);
  }

  send(slot: number, count: number): boolean {
    const socket = this.#sockets[slot]!;
    const { k, config } = this.#run;
    const { size } = config;
    const template = this.#template;
    let number = this.#sent[slot]!;
    for (let i = 0; i < count; i++, number = (number + 1) | 0) {
      const buffer = k.alloc(size);
      const { memory, offset } = buffer;
      memory.copyWithin(offset, template.offset, template.offset + size);
      memory[offset] = number;
      memory[offset + 1] = number >> 8;
      memory[offset + 2] = number >> 16;
      memory[offset + 3] = number >> 24;
      // A datagram that the queue cannot take now is a datagram lost; nobody waits for it.
      socket.push(buffer).abandon();
    }
    this.#sent[slot] = number;
    return true;
  }

  /** The answers of a batch did not come: they are lost, and the next batch begins. */
  resend(slot: number): void {
    if (this.#schedule !== null) return;
    this.#run.errors.timeout += this.#missing[slot]!;
    this.#sendBatch(slot);
  }

  outstanding(slot: number): number {
    return this.#sent[slot]! - this.#answered[slot]!;
  }

  /** Open loop: how many answers never came. Which ones is not known, so that only their number counts. */
  settleUnanswered(): void {
    if (this.#schedule === null) return;
    for (let slot = 0; slot < this.#sockets.length; slot++) {
      this.#run.errors.unanswered += Math.max(0, this.outstanding(slot));
    }
  }

  close(): void {
    for (const socket of this.#sockets) socket?.close();
    if (!this.#closed) this.#template.release();
    this.#closed = true;
  }
}
