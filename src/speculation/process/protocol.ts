/**
 * What goes between the tracer's thread and the thread that commands it. Types only.
 */
import type { CheckpointId, LaunchOptions, Pid, ProcessEvent, Reply } from './backend.ts';

export type Command =
  | { readonly do: 'start' }
  | { readonly do: 'checkpoint'; readonly pid: Pid; readonly token: number; readonly reply: Reply | undefined }
  | { readonly do: 'detain'; readonly pid: Pid; readonly token: number; readonly reply: Reply }
  | { readonly do: 'resume'; readonly pid: Pid; readonly result: number | null }
  | { readonly do: 'eager'; readonly on: boolean }
  | {
      readonly do: 'proceed';
      readonly pid: Pid;
      readonly child: Pid;
      readonly token: number;
      readonly fresh: boolean;
    }
  | { readonly do: 'commit'; readonly checkpoint: CheckpointId }
  | { readonly do: 'rollback'; readonly checkpoints: readonly CheckpointId[] }
  | { readonly do: 'pass'; readonly pid: Pid }
  | { readonly do: 'signal'; readonly signal: number }
  | { readonly do: 'output' }
  | { readonly do: 'close' };

/** From the tracer's thread: an event for the engine, or a matter between the two threads. */
export type Message =
  | { readonly event: ProcessEvent }
  | { readonly bell: Pid }
  /** The tracer is over. */
  | { readonly failure: Failure }
  /** Ask for `output` again a little later: somebody does not take it. */
  | { readonly later: true };

/** An error, as far as it comes through between threads: of its own properties only these. */
export interface Failure {
  readonly error: Error;
  /** Of an IsthmusError. */
  readonly details: { readonly code: string; readonly errno: number; readonly syscall: string | undefined } | null;
}

export interface WorkerSetUp {
  readonly options: LaunchOptions;
  /** Both messages ports' other side. */
  readonly port: import('node:worker_threads').MessagePort;
}
