/**
 * What goes between the tracer's thread and the thread that commands it. Types only.
 */
import type { CheckpointId, LaunchOptions, Pid, ProcessEvent, Reply } from './backend.ts';

export type Command =
  | { readonly do: 'start' }
  | { readonly do: 'checkpoint'; readonly pid: Pid; readonly token: number; readonly reply: Reply | undefined }
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
  /** Ask for `output` again a little later: somebody does not take it. */
  | { readonly later: true };

export interface WorkerSetUp {
  readonly options: LaunchOptions;
  /** Both messages ports' other side. */
  readonly port: import('node:worker_threads').MessagePort;
}
