/**
 * The process backend as the engine holds it: starts the tracer's thread, passes commands down and events up.
 * It owns the thread and rings the bell; it never waits for the tracer, which may itself wait for a FUSE reply of ours.
 */
import { MessageChannel, type MessagePort, receiveMessageOnPort, Worker } from 'node:worker_threads';
import { IsthmusError } from '../../errors.ts';
import { getAffinity } from '../../linux/affinity.ts';
import { sendSignal } from '../../linux/ptrace.ts';
import type { CheckpointId, LaunchOptions, Pid, ProcessBackend, ProcessEvent, Reply } from './backend.ts';
import type { Command, Message, WorkerSetUp } from './protocol.ts';

const SIGURG = 23;
const RETRY_MS = 2;

/** @see ProcessBackend */
export class ProcessHost implements ProcessBackend {
  readonly #listener: (event: ProcessEvent) => void;
  readonly #worker: Worker;
  readonly #port: MessagePort;
  readonly #ended: Promise<void>;
  readonly #onExit = (): void => this.#send({ do: 'close' });
  #bell = 0;
  #early = 0;
  /** Commands have been sent for which the bell is still to be rung. */
  #unheard = false;
  #over = false;

  constructor(options: LaunchOptions, listener: (event: ProcessEvent) => void) {
    this.#listener = listener;
    const { port1, port2 } = new MessageChannel();
    const workerData: WorkerSetUp = {
      options: {
        ...options,
        env: { ...(options.env ?? process.env) },
        cpu: options.cpu ?? getAffinity().at(-1) ?? -1,
      },
      port: port2,
    };
    // The same ending as this file's: source or compiled.
    const file = new URL(import.meta.url.endsWith('.ts') ? './worker.ts' : './worker.js', import.meta.url);
    this.#worker = new Worker(file, { workerData, transferList: [port2] });
    this.#port = port1;
    this.#ended = new Promise((resolve) => this.#worker.once('exit', () => resolve()));
    this.#worker.once('exit', () => {
      this.poll();
      this.#over = true;
      this.#port.close();
      process.off('exit', this.#onExit);
    });
    this.#worker.on('error', (error) => this.#listener({ type: 'failed', error: error as Error }));
    // A thread asleep in waitpid would keep the process from ending.
    process.on('exit', this.#onExit);
    this.#port.on('message', (message: Message) => this.#receive(message));
  }

  start(): void {
    this.#send({ do: 'start' });
  }

  poll(): void {
    for (let got = receiveMessageOnPort(this.#port); got; got = receiveMessageOnPort(this.#port)) {
      this.#receive(got.message as Message);
    }
  }

  checkpoint(pid: Pid, token: number, reply?: Reply): void {
    this.#send({ do: 'checkpoint', pid, token, reply });
  }

  detain(pid: Pid, token: number, reply: Reply): void {
    this.#send({ do: 'detain', pid, token, reply });
  }

  resume(pid: Pid, result: number | null): void {
    this.#send({ do: 'resume', pid, result });
  }

  eager(on: boolean): void {
    this.#send({ do: 'eager', on });
  }

  proceed(pid: Pid, child: Pid, token: number, fresh: boolean): void {
    this.#send({ do: 'proceed', pid, child, token, fresh });
  }

  /** Many come together, and none is urgent: the bell is rung once for all. */
  commit(checkpoint: CheckpointId): void {
    if (this.#over) return;
    this.#port.postMessage({ do: 'commit', checkpoint } satisfies Command);
    if (this.#unheard) return;
    this.#unheard = true;
    setImmediate(() => {
      if (this.#unheard && !this.#over) this.#ring();
    });
  }

  rollback(checkpoints: readonly CheckpointId[]): void {
    this.#send({ do: 'rollback', checkpoints });
  }

  pass(pid: Pid): void {
    this.#send({ do: 'pass', pid });
  }

  signal(signal: number): void {
    this.#send({ do: 'signal', signal });
  }

  async close(): Promise<void> {
    if (!this.#over) this.#send({ do: 'close' });
    await this.#ended;
  }

  #receive(message: Message): void {
    if ('event' in message) this.#listener(message.event);
    else if ('bell' in message) {
      this.#bell = message.bell;
      if (this.#early > 0) sendSignal(this.#bell, SIGURG);
    } else if ('failure' in message) {
      const { error, details } = message.failure;
      this.#listener({
        type: 'failed',
        error: details === null ? error : new IsthmusError(error.message, { ...details, cause: error }),
      });
    } else setTimeout(() => this.#send({ do: 'output' }), RETRY_MS);
  }

  #send(command: Command): void {
    if (this.#over) return;
    this.#port.postMessage(command);
    this.#ring();
  }

  #ring(): void {
    this.#unheard = false;
    if (this.#bell === 0) this.#early++;
    else sendSignal(this.#bell, SIGURG);
  }
}
