/**
 * Asks the tracer for checkpoints: at a call that made a request to the mount, or where a process is to be told of its child.
 * It begins intervals in the engine when they are taken; requests that the tracer has answered meanwhile are remembered here.
 */
import type { RequestOrigin } from '../../remote/fuse/admission.ts';
import type { CheckpointId, Refusal } from '../process/backend.ts';
import type { Member } from './group.ts';
import type { Surroundings } from './surroundings.ts';

/** A checkpoint that has been asked for. */
interface Pause {
  readonly member: Member;
  readonly sinceMs: number;
  readonly answered: (refusal: Refusal | null, replied: boolean) => void;
}

/** An interval that rests on nothing is given this long to be used, milliseconds. */
const UNUSED_MS = 20;

export class Pauses {
  readonly #around: Surroundings;
  readonly #fuseDescriptor: number;
  readonly #pauses = new Map<number, Pause>();
  /** Requests that the tracer has answered; the mount only has to forget them. */
  readonly #answered = new Set<number>();
  #token = 0;

  /** @param fuseDescriptor of /dev/fuse: the tracer answers EINTR through it */
  constructor(around: Surroundings, fuseDescriptor: number) {
    this.#around = around;
    this.#fuseDescriptor = fuseDescriptor;
  }

  /** Whether the tracer has answered this request. */
  isAnswered({ unique }: RequestOrigin): boolean {
    return this.#answered.has(unique);
  }

  /** The same, and forgets it. */
  takeAnswered({ unique }: RequestOrigin): boolean {
    return this.#answered.delete(unique);
  }

  /** What has been answered must not be run. */
  answered(origin: RequestOrigin): never {
    this.takeAnswered(origin);
    throw new Error('the request has been answered');
  }

  mayBounce(origin: RequestOrigin, member: Member): boolean {
    return origin.bounceable && !member.created && this.#mayPause(member);
  }

  #mayPause(member: Member): boolean {
    const { engine, backend } = this.#around;
    return backend !== null && !member.pausing && !member.threads && engine.mayCheckpoint(member.object);
  }

  /** Asks for a checkpoint at the call that made the request. True: taken, and the request is answered. */
  pause(origin: RequestOrigin, member: Member): Promise<boolean> {
    return new Promise((resolve) => {
      const token = this.#ask(member, (refusal, replied) => {
        const done = refusal === null || replied;
        if (done) this.#answered.add(origin.unique);
        resolve(done);
      });
      const reply = { fd: this.#fuseDescriptor, bytes: interrupted(origin.unique) };
      this.#around.backend!.checkpoint(member.pid, token, reply);
    });
  }

  /** Keeps the process behind the call that made the request, which is answered unless that is refused. */
  detain(origin: RequestOrigin, member: Member): Promise<'detained' | 'answered' | 'refused'> {
    return new Promise((resolve) => {
      const token = this.#ask(member, (refusal, replied) => {
        if (refusal === null) resolve('detained');
        else resolve(replied ? 'answered' : 'refused');
      });
      const reply = { fd: this.#fuseDescriptor, bytes: interrupted(origin.unique) };
      this.#around.backend!.detain(member.pid, token, reply);
    });
  }

  detained(token: number): void {
    this.#take(token)?.answered(null, true);
  }

  /** A process waits for its child, whose exit is held: it can only go on if it depends on what the child depends on. */
  needs(member: Member, child: Member): void {
    const { engine, backend } = this.#around;
    // Also where what it would learn is about to be undone.
    if (member.doomed || child.doomed || backend === null) return;
    const rest = child.object.log.at(-1);
    const absorb = (): void => {
      engine.absorb(member.object, child.object);
      const present = engine.present(member.object);
      // It was undone while the checkpoint was taken.
      if (present !== null && rest?.state === 'rolledBack') engine.abandon(present);
      engine.settle(member.object);
    };
    if (!engine.needsCheckpoint(member.object, child.object) && member.object.log.at(-1)?.checkpoint != null) {
      absorb();
      backend.proceed(member.pid, child.pid, ++this.#token, false);
      return;
    }
    if (!this.#mayPause(member)) return;
    const token = this.#ask(member, (refusal) => refusal === null && !member.doomed && absorb());
    backend.proceed(member.pid, child.pid, token, true);
  }

  checkpointed(token: number, checkpoint: CheckpointId): void {
    const pause = this.#take(token);
    if (pause === null) return;
    const { judgement, now } = this.#around;
    judgement.checkpoint((now() - pause.sinceMs) * 1000);
    this.begin(pause.member, checkpoint);
    pause.answered(null, true);
  }

  /** A checkpoint has been taken. */
  begin(member: Member, checkpoint: CheckpointId): void {
    const { engine, judgement, statistics, trace } = this.#around;
    statistics.checkpoints++;
    judgement.checkpointTaken();
    // A rollback under way undoes it, too.
    if (member.doomed) return;
    engine.begin(member.object, checkpoint);
    trace?.instant('checkpoint', 'process', member.pid, { checkpoint });
    setTimeout(() => engine.settle(member.object), UNUSED_MS).unref();
  }

  refused(token: number, reason: Refusal, replied: boolean): void {
    const pause = this.#take(token);
    if (pause === null) return;
    const { member } = pause;
    this.#around.statistics.checkpointsRefused++;
    this.#around.trace?.instant('refused', 'process', member.pid, { reason });
    if (reason === 'threads') member.threads = true;
    if (replied) member.truthNext = true;
    pause.answered(reason, replied);
  }

  #ask(member: Member, answered: Pause['answered']): number {
    const token = ++this.#token;
    member.pausing = true;
    this.#pauses.set(token, { member, sinceMs: this.#around.now(), answered });
    return token;
  }

  #take(token: number): Pause | null {
    const pause = this.#pauses.get(token);
    if (pause === undefined) return null;
    this.#pauses.delete(token);
    pause.member.pausing = false;
    return pause;
  }
}

/** FUSE's reply EINTR (struct fuse_out_header). */
function interrupted(unique: number): Uint8Array {
  const bytes = new Uint8Array(16);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, 16, true);
  view.setInt32(4, -4, true);
  view.setBigUint64(8, BigInt(unique), true);
  return bytes;
}
