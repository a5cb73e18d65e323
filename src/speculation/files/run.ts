/**
 * One speculative run: a remote tree mounted for it, its processes traced, and everything put away after it.
 * It may mount and unmount a directory, start processes, and talk to the file server.
 */

import type { Admission } from '../../remote/fuse/admission.ts';
import { type Mount, mountView } from '../../remote/fuse/mount.ts';
import type { FuseSession } from '../../remote/fuse/session.ts';
import type { RemoteServer } from '../../remote/server.ts';
import { systemClock } from '../../remote/view/clock.ts';
import { openView, type View, type ViewOptions } from '../../remote/view/view.ts';
import type { Judgement } from '../engine/judgement.ts';
import { DEFAULT_LIMITS, type SpeculationLimits } from '../engine/limits.ts';
import type { BackendCounts, ExitStatus, LaunchOptions, ProcessEvent } from '../process/backend.ts';
import { ProcessHost } from '../process/host.ts';
import { SpeculationSeat } from './seat.ts';
import type { SpeculationStatistics } from './statistics.ts';
import type { SpeculationTrace } from './trace.ts';

export interface SpeculativeMountOptions {
  readonly server: RemoteServer;
  /** An existing directory; what is in it is hidden meanwhile. */
  readonly directory: string;
  readonly view?: Partial<ViewOptions>;
  readonly trace?: SpeculationTrace | null;
  /** What may be held at most; at a bound the program waits for the truth. */
  readonly limits?: SpeculationLimits;
  /** For tests: another judge of what pays. */
  readonly judgement?: Judgement;
  /** For tests: says that an answer which was right is to be taken for a wrong one. */
  readonly distrust?: () => boolean;
}

export interface RunCommandOptions {
  readonly command: readonly string[];
  readonly env?: LaunchOptions['env'];
  readonly cwd?: string;
  readonly stdio?: LaunchOptions['stdio'];
  readonly cpu?: number;
  /** Local directories whose changes can be undone; absolute, without symbolic links. */
  readonly locals?: readonly string[];
  /** False: every request waits for the truth, and the program is not traced more than needed to wait for it. */
  readonly speculate?: boolean;
  readonly everyEvent?: (event: ProcessEvent) => void;
  readonly log?: boolean;
}

export interface RunResult {
  readonly status: ExitStatus;
  readonly elapsedMs: number;
  readonly statistics: SpeculationStatistics;
  readonly processes: BackendCounts | null;
}

/** A mount with a seat for speculation; several commands may run on it, one after the other, on one cache. */
export class SpeculativeMount {
  readonly directory: string;
  readonly view: View;
  readonly #mount: Mount;
  readonly #options: SpeculativeMountOptions;
  readonly #current: CurrentSeat;
  #host: ProcessHost | null = null;
  #roundTripMs = 0;

  private constructor(options: SpeculativeMountOptions, view: View, mount: Mount, current: CurrentSeat) {
    this.#options = options;
    this.#mount = mount;
    this.#current = current;
    this.view = view;
    this.directory = mount.directory;
  }

  /** @throws IsthmusError when the server refuses, or the directory cannot be mounted on */
  static async open(options: SpeculativeMountOptions): Promise<SpeculativeMount> {
    const view = await openView(options.server, systemClock, options.view ?? {});
    const current: CurrentSeat = { seat: null };
    const mount = mountView(view, {
      directory: options.directory,
      source: options.server.description,
      allowOther: process.getuid!() === 0,
      admission: admissionOf(current),
    });
    const speculative = new SpeculativeMount(options, view, mount, current);
    await speculative.#measure();
    return speculative;
  }

  get session(): FuseSession {
    return this.#mount.session;
  }

  /** Runs a command to its end, with everything that it did committed. */
  async run(options: RunCommandOptions): Promise<RunResult> {
    const now = (): number => performance.now();
    const seat = new SpeculationSeat({
      view: this.view,
      fuseDescriptor: this.#mount.descriptor,
      now,
      trace: this.#options.trace ?? null,
      limits: this.#options.limits ?? DEFAULT_LIMITS,
      ...(this.#options.judgement === undefined ? {} : { judgement: this.#options.judgement }),
      ...(this.#options.distrust === undefined ? {} : { distrust: this.#options.distrust }),
      invalidate: (node) => this.session.invalidateData(node),
      forget: (directory, name) => this.session.invalidateName(directory, name),
    });
    seat.judgement.roundTrip(this.#roundTripMs * 1000);
    let processes: BackendCounts | null = null;
    const began = now();
    const ended = new Promise<ExitStatus>((resolve, reject) => {
      const host = new ProcessHost(
        {
          command: options.command,
          mounts: [this.directory],
          maxWithheldBytes: (this.#options.limits ?? DEFAULT_LIMITS).outputBytes,
          ...(options.env === undefined ? {} : { env: options.env }),
          ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
          ...(options.stdio === undefined ? {} : { stdio: options.stdio }),
          ...(options.cpu === undefined ? {} : { cpu: options.cpu }),
          ...(options.locals === undefined ? {} : { locals: options.locals }),
          ...(options.log === undefined ? {} : { log: options.log }),
        },
        (event) => {
          options.everyEvent?.(event);
          seat.event(event);
          if (event.type === 'ended') {
            processes = event.counts;
            resolve(event.status);
          } else if (event.type === 'failed') reject(event.error);
        },
      );
      this.#host = host;
      if (options.speculate !== false) {
        seat.attach(host);
        this.#current.seat = seat;
      }
      host.start();
    });
    try {
      const status = await ended;
      await seat.drained();
      return { status, elapsedMs: now() - began, statistics: seat.finish(), processes };
    } finally {
      this.#current.seat = null;
      seat.close();
      await this.#host?.close();
      this.#host = null;
    }
  }

  /** Kills the running command and all it has started, if there is one; its `run` then ends. */
  async stop(): Promise<void> {
    this.#current.seat?.close();
    await this.#host?.close();
  }

  /** Passes a signal on to the running command, as the terminal would. */
  signal(signal: number): void {
    this.#host?.signal(signal);
  }

  /** Writes back what is not on the server yet, and unmounts. Idempotent. @returns files that could not be written */
  close(): Promise<number> {
    return this.#mount.unmount();
  }

  async #measure(): Promise<void> {
    let best = Infinity;
    for (let i = 0; i < 3; i++) {
      const began = performance.now();
      await this.#options.server.ping();
      best = Math.min(best, performance.now() - began);
    }
    this.#roundTripMs = best;
  }
}

interface CurrentSeat {
  seat: SpeculationSeat | null;
}

/** The seat of the command that runs now; without one, every request waits for the truth. */
function admissionOf(current: CurrentSeat): Admission {
  return {
    enter: (origin, operation) => current.seat?.enter(origin, operation) ?? null,
    decide: (origin, operation, prediction) => current.seat?.decide(origin, operation, prediction) ?? 'wait',
    truth: (origin, operation, agrees, truth) => current.seat?.truth(origin, operation, agrees, truth),
    assumed: (origin, mutation, predicted, undo) => current.seat!.assumed(origin, mutation, predicted, undo),
    era: (pid) => current.seat?.era(pid) ?? 0,
  };
}
