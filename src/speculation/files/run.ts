/**
 * One speculative run: a remote tree mounted for it, its processes traced, and everything put away after it.
 * It may mount and unmount a directory, start processes, and talk to the file server.
 */
import { realpathSync } from 'node:fs';
import { FUSE_PAYLOAD_MAX, type FuseDevice, mountFuse, openFuse, unmountLazily } from '../../linux/fuse.ts';
import { FuseSession } from '../../remote/fuse/session.ts';
import type { RemoteServer } from '../../remote/server.ts';
import { systemClock } from '../../remote/view/clock.ts';
import { openView, type View, type ViewOptions } from '../../remote/view/view.ts';
import type { Judgement } from '../engine/judgement.ts';
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
  /** For tests: another judge of what pays. */
  readonly judgement?: Judgement;
}

export interface RunCommandOptions {
  readonly command: readonly string[];
  readonly env?: LaunchOptions['env'];
  readonly cwd?: string;
  readonly stdio?: LaunchOptions['stdio'];
  readonly cpu?: number;
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
  readonly session: FuseSession;
  readonly #device: FuseDevice;
  readonly #options: SpeculativeMountOptions;
  readonly #current: { seat: SpeculationSeat | null } = { seat: null };
  #roundTripMs = 0;
  #mounted = true;

  private constructor(options: SpeculativeMountOptions, view: View, device: FuseDevice, directory: string) {
    this.#options = options;
    this.#device = device;
    this.view = view;
    this.directory = directory;
    const current = this.#current;
    this.session = new FuseSession(
      view,
      {
        request: device.request,
        reply: device.reply,
        read: () => device.read(),
        write: (length) => device.write(length),
        watch: (onReadable) => device.watch(onReadable),
        notify: (message) => device.notify(message),
      },
      {
        uid: process.getuid!(),
        payloadMax: FUSE_PAYLOAD_MAX,
        admission: {
          enter: (origin, operation) => current.seat?.enter(origin, operation) ?? null,
          decide: (origin, operation, prediction) => current.seat?.decide(origin, operation, prediction) ?? 'wait',
          truth: (origin, operation, agrees, truth) => current.seat?.truth(origin, operation, agrees, truth),
          assumed: (origin, mutation, predicted, undo) => current.seat!.assumed(origin, mutation, predicted, undo),
        },
      },
    );
  }

  /** @throws IsthmusError when the server refuses, or the directory cannot be mounted on */
  static async open(options: SpeculativeMountOptions): Promise<SpeculativeMount> {
    const directory = realpathSync(options.directory);
    const view = await openView(options.server, systemClock, options.view ?? {});
    const device = openFuse();
    try {
      const mount = new SpeculativeMount(options, view, device, directory);
      mountFuse(device, directory, {
        source: options.server.description,
        subtype: 'isthmus',
        allowOther: process.getuid!() === 0,
        readOnly: false,
        uid: process.getuid!(),
        gid: process.getgid!(),
      });
      mount.session.start();
      await mount.#measure();
      return mount;
    } catch (error) {
      device.close();
      throw error;
    }
  }

  /** Runs a command to its end, with everything that it did committed. */
  async run(options: RunCommandOptions): Promise<RunResult> {
    const { server } = this.#options;
    const now = (): number => performance.now();
    const seat = new SpeculationSeat({
      view: this.view,
      fuseDescriptor: this.#device.fd,
      now,
      trace: this.#options.trace ?? null,
      ...(this.#options.judgement === undefined ? {} : { judgement: this.#options.judgement }),
      invalidate: (node) => void this.session.invalidateData(node),
    });
    seat.judgement.roundTrip(this.#roundTripMs * 1000);
    let processes: BackendCounts | null = null;
    const began = now();
    const ended = new Promise<ExitStatus>((resolve, reject) => {
      const host = new ProcessHost(
        {
          command: options.command,
          mounts: [this.directory],
          ...(options.env === undefined ? {} : { env: options.env }),
          ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
          ...(options.stdio === undefined ? {} : { stdio: options.stdio }),
          ...(options.cpu === undefined ? {} : { cpu: options.cpu }),
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
      void server;
    }
  }
  #host: ProcessHost | null = null;

  /** Passes a signal on to the running command, as the terminal would. */
  signal(signal: number): void {
    this.#host?.signal(signal);
  }

  /** Writes back what is not on the server yet, and unmounts. Idempotent. */
  async close(): Promise<void> {
    if (!this.#mounted) return;
    this.#mounted = false;
    await this.view.writeBack.flushAll();
    unmountLazily(this.directory);
    this.session.stop();
    this.session.closeAll();
    await this.view.writeBack.flushAll();
    this.#device.close();
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
