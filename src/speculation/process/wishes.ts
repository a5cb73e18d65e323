/**
 * What the engine asks of one process and what waits for that process's next stop: a checkpoint, or to be told of a child.
 * It interrupts the process, answers its request to the mount with EINTR where asked, and takes the checkpoint at the stop.
 */
import { writeBytes } from '../../linux/descriptor.ts';
import { currentCall } from '../../linux/proc.ts';
import { interrupt } from '../../linux/ptrace.ts';
import type { SavedRegisters } from '../../linux/registers.ts';
import type { Pid, Refusal, Reply } from './backend.ts';
import { takeCheckpoint } from './checkpoint.ts';
import { tellWaiter } from './children.ts';
import type { TracerCore } from './core.ts';
import { BOUNCEABLE, FINAL, mayChange } from './syscalls.ts';
import { type CheckpointWish, Hold, Stop, type Tracee } from './tracee.ts';

const EINTR = -4;
/** Results of calls that the kernel makes again by itself. */
export const RESTARTS: ReadonlySet<number> = new Set([-512, -513, -514, -516]);
const DEFAULT_MAX_CHECKPOINTS = 256;

export interface WishHooks {
  /** Runs an action on a process that may be killed from outside meanwhile. */
  guard(action: () => void): void;
  /** Lets a process that stands before a call make it. */
  pass(pid: Pid): void;
}

export class Wishes {
  readonly #core: TracerCore;
  readonly #hooks: WishHooks;
  /** Checkpoints are taken without being asked for, where they will be needed. */
  eager = false;

  constructor(core: TracerCore, hooks: WishHooks) {
    this.#core = core;
    this.#hooks = hooks;
  }

  checkpoint(pid: Pid, token: number, reply: Reply | undefined): void {
    this.#stop(pid, { token, reply, replied: false, child: 0, fresh: true, detain: false }, this.#full);
  }

  get #full(): boolean {
    return this.#core.copies.size >= (this.#core.options.maxCheckpoints ?? DEFAULT_MAX_CHECKPOINTS);
  }

  /** At the entry of a call of a speculative process, for the first time. True: it comes to this entry again. */
  checkpointEagerly(tracee: Tracee, name: string, repeating: boolean): boolean {
    const { threads, vfork, unfit } = tracee;
    if (tracee.final && this.eager && !repeating && !this.#full && !threads && !vfork && unfit === undefined) {
      if (mayChange(name, this.#core.call.of(tracee))) {
        tracee.wish = { token: 0, reply: undefined, replied: false, child: 0, fresh: true, detain: false };
        this.grantBeforeCall(tracee);
        return true;
      }
    }
    if (FINAL.has(name)) tracee.final = true;
    return false;
  }

  detain(pid: Pid, token: number, reply: Reply): void {
    this.#stop(pid, { token, reply, replied: false, child: 0, fresh: false, detain: true }, false);
  }

  /** A detained process goes on. */
  resume(pid: Pid, result: number | null): void {
    const core = this.#core;
    const tracee = core.tracees.get(pid);
    core.log(() => `resume ${pid} with ${result}${tracee?.hold === Hold.DETAINED ? '' : ': too late'}`);
    if (tracee?.hold !== Hold.DETAINED || tracee.undo) return;
    this.#hooks.guard(() => {
      const { registers } = core.injector;
      registers.read(pid);
      if (result === null) {
        core.repeat(tracee, registers.save());
        return;
      }
      registers.result = result;
      registers.leaveCall();
      registers.write(pid);
      core.go(tracee);
    });
  }

  #stop(pid: Pid, wish: CheckpointWish, full: boolean): void {
    const core = this.#core;
    const { token, reply } = wish;
    const tracee = core.tracees.get(pid);
    const reason = this.#unfit(tracee, reply !== undefined) ?? (full ? 'limit' : undefined);
    if (!tracee || reason) {
      core.counts.refused++;
      this.#core.emit({ type: 'refused', pid, token, reason: reason ?? 'gone', replied: false });
      if (tracee?.hold === Hold.ASKED) this.#hooks.pass(pid);
      return;
    }
    if (tracee.hold === Hold.ASKED) {
      tracee.hold = Hold.NONE;
      tracee.wish = wish;
      this.#hooks.guard(() => this.grantBeforeCall(tracee));
      return;
    }
    if (interrupt(pid) < 0) {
      this.refuse(tracee, token, 'gone', false);
      return;
    }
    tracee.wish = wish;
    if (reply) wish.replied = writeBytes(reply.fd, reply.bytes) === reply.bytes.length;
  }

  #unfit(tracee: Tracee | undefined, bounced: boolean): Refusal | undefined {
    if (!tracee || tracee.doomed) return 'gone';
    if (tracee.threads) return 'threads';
    if (tracee.vfork) return 'vfork';
    if (tracee.unfit) return tracee.unfit;
    if (tracee.wish || tracee.undo || tracee.fresh) return 'busy';
    if (tracee.hold !== Hold.NONE && tracee.hold !== Hold.ASKED) return 'busy';
    if (bounced) {
      const call = currentCall(tracee.pid);
      if (!call) return 'gone';
      if (call.number === -1) return 'page-fault';
      const name = this.#core.callName(call.number);
      if (call.number < 0 || !BOUNCEABLE.has(name)) return 'call';
      // Its new program could not be taken back.
      if (name === 'execve' || name === 'execveat') return 'call';
    }
    return undefined;
  }

  refuse(tracee: Tracee, token: number, reason: Refusal, replied: boolean): void {
    tracee.wish = undefined;
    this.#core.counts.refused++;
    if (reason === 'missed') this.#core.counts.missed++;
    this.#core.log(() => `refused ${tracee.pid}: ${reason}`);
    this.#core.emit({ type: 'refused', pid: tracee.pid, token, reason, replied });
  }

  proceed(pid: Pid, child: Pid, token: number, fresh: boolean): void {
    const core = this.#core;
    const tracee = core.tracees.get(pid);
    if (!tracee || tracee.doomed || tracee.undo || tracee.wish) {
      this.#core.emit({ type: 'refused', pid, token, reason: tracee ? 'busy' : 'gone', replied: false });
      return;
    }
    tracee.wish = {
      token,
      reply: undefined,
      replied: false,
      child,
      fresh: fresh || tracee.checkpoints.length === 0,
      detain: false,
    };
    tracee.asked.clear();
    if (tracee.hold === Hold.NEEDS || tracee.hold === Hold.TRUTH) {
      tracee.hold = Hold.NONE;
      this.#hooks.guard(() => this.grantBeforeCall(tracee));
    } else if (tracee.stop === Stop.NONE) interrupt(pid);
  }

  /** At the entry of a call. */
  grantBeforeCall(tracee: Tracee): void {
    const { token, detain, replied } = tracee.wish!;
    if (detain) {
      // It is behind the call already.
      this.refuse(tracee, token, 'missed', replied);
      this.#core.onEntry(tracee);
      return;
    }
    const saved = this.#core.injector.cancel(tracee.pid);
    tracee.stop = Stop.NEUTRAL;
    this.#grantAt(tracee, saved, true);
  }

  /** At the end of a call, or at an interrupt. */
  grant(tracee: Tracee): void {
    const { registers } = this.#core.injector;
    const wish = tracee.wish!;
    registers.read(tracee.pid);
    const saved = registers.save();
    const { call, result } = registers;
    if (wish.replied) {
      if (call >= 0 && result === EINTR) this.#grantAt(tracee, saved, true);
      else {
        this.refuse(tracee, wish.token, 'missed', true);
        this.#core.go(tracee);
      }
    } else if (wish.reply) {
      // The request was gone before our answer.
      this.refuse(tracee, wish.token, 'missed', true);
      this.#core.go(tracee);
    } else this.#grantAt(tracee, saved, call >= 0 && RESTARTS.has(result));
  }

  #grantAt(tracee: Tracee, saved: SavedRegisters, repeat: boolean): void {
    const core = this.#core;
    const wish = tracee.wish!;
    const { registers } = core.injector;
    registers.load(saved);
    if (registers.narrow) tracee.unfit = 'foreign';
    core.reap(tracee);
    if (wish.detain) {
      registers.load(saved);
      registers.write(tracee.pid);
      tracee.wish = undefined;
      tracee.hold = Hold.DETAINED;
      core.log(() => `detained ${tracee.pid}`);
      core.emit({ type: 'detained', pid: tracee.pid, token: wish.token });
      return;
    }
    if (wish.fresh) {
      const from = performance.now();
      const made =
        tracee.unfit ??
        takeCheckpoint(
          core.injector,
          tracee,
          core.nextCheckpoint,
          saved,
          repeat,
          this.#core.options.stdio ?? [0, 1, 2],
        );
      if (typeof made === 'string') {
        if (made === 'shared-memory' || made === 'foreign') tracee.unfit = made;
        this.refuse(tracee, wish.token, made, wish.replied);
        this.#restart(tracee, saved, repeat);
        return;
      }
      core.nextCheckpoint++;
      // Waits of a process that could not be undone have not been watched.
      if (tracee.checkpoints.length === 0) tracee.dead.waitedFor(undefined);
      tracee.checkpoints.push(made);
      tracee.final = false;
      core.checkpoints.set(made.id, made);
      core.copies.set(made.copy, { owner: tracee, parked: false, dying: false });
      core.counts.checkpoints++;
      core.counts.checkpointUs += (performance.now() - from) * 1000;
      core.log(() => `checkpoint ${made.id} of ${tracee.pid}, copy ${made.copy}`);
      this.#core.emit({ type: 'checkpointed', pid: tracee.pid, checkpoint: made.id, token: wish.token });
    }
    tracee.wish = undefined;
    if (wish.child !== 0 && tellWaiter(core, tracee, saved, wish.child)) return;
    this.#restart(tracee, saved, repeat);
  }

  #restart(tracee: Tracee, saved: SavedRegisters, repeat: boolean): void {
    const core = this.#core;
    if (repeat) core.repeat(tracee, saved);
    else {
      core.injector.registers.load(saved);
      core.injector.registers.write(tracee.pid);
      core.go(tracee);
    }
  }
}
