/**
 * What a traced process knows of its children that have really ended: zombies, those it has been told of since a
 * checkpoint, and those it must be told of again after a rollback, since the kernel has forgotten them.
 * Bookkeeping; of the system it only asks whether a zombie is still there.
 */
import { statusField } from '../../linux/proc.ts';
import type { CheckpointId, ExitStatus, Pid } from './backend.ts';

export interface EndedChild {
  readonly pid: Pid;
  readonly status: ExitStatus;
  /** It was created before all checkpoints from this number on. */
  readonly birth: CheckpointId;
  /** Its parent has had a SIGCHLD for it. */
  signalled: boolean;
}

interface Told {
  readonly child: EndedChild;
  /** The newest checkpoint of the parent when it was told. */
  readonly since: CheckpointId;
}

/** Zombies that may have been waited for without our notice are looked for when there are so many. */
const MANY_ZOMBIES = 1024;

export class EndedChildren {
  /** Ended, and the program has not waited for it, as far as we have seen. */
  readonly #zombies = new Map<Pid, EndedChild>();
  readonly #told = new Map<Pid, Told>();
  readonly #owed = new Map<Pid, EndedChild>();

  get owed(): Iterable<EndedChild> {
    return this.#owed.values();
  }

  get owes(): boolean {
    return this.#owed.size > 0;
  }

  get zombies(): Iterable<Pid> {
    return this.#zombies.keys();
  }

  zombie(pid: Pid): EndedChild | undefined {
    return this.#zombies.get(pid);
  }

  /** A zombie of which no SIGCHLD has come; another's may have come in its place. */
  get unsignalled(): EndedChild | undefined {
    for (const child of this.#zombies.values()) if (!child.signalled && isThere(child.pid)) return child;
    return undefined;
  }

  /** Whether the kernel has an answer for a wait that asks for some of them. */
  hasZombie(asked: (pid: Pid) => boolean): boolean {
    for (const pid of this.#zombies.keys()) if (asked(pid) && isThere(pid)) return true;
    return false;
  }

  /** It has ended, and the program may wait for it. */
  ended(child: EndedChild): void {
    if (this.#zombies.size >= MANY_ZOMBIES) this.waitedFor(undefined);
    this.#zombies.set(child.pid, child);
  }

  /** The program has been told, when `since` was its newest checkpoint; undefined: it had none, so that is final. */
  told(child: EndedChild, since: CheckpointId | undefined): void {
    this.#owed.delete(child.pid);
    if (since !== undefined) this.#told.set(child.pid, { child, since });
  }

  /** The kernel has told the program of something: notes which zombies have gone. */
  waitedFor(since: CheckpointId | undefined): void {
    for (const [pid, child] of this.#zombies) {
      if (isThere(pid)) continue;
      this.#zombies.delete(pid);
      this.told(child, since);
    }
  }

  /** Nothing of the program can be undone any more. */
  settle(): void {
    this.#told.clear();
  }

  /**
   * The program goes back to a checkpoint: what it was told since it is owed again. Gives the zombies of processes that were
   * created after it, which the program must not meet.
   */
  goBack(checkpoint: CheckpointId): Pid[] {
    // A wait may have come to its end in the kernel while the process was already being taken back.
    this.waitedFor(checkpoint);
    for (const [pid, { child, since }] of this.#told) {
      if (since < checkpoint) continue;
      this.#told.delete(pid);
      this.#owed.set(pid, child);
    }
    for (const [pid, { birth }] of this.#owed) if (birth > checkpoint) this.#owed.delete(pid);
    const never: Pid[] = [];
    for (const [pid, { birth }] of this.#zombies) {
      if (birth <= checkpoint) continue;
      this.#zombies.delete(pid);
      if (isThere(pid)) never.push(pid);
    }
    return never;
  }

  /** An ended child among those that the program can still learn of. */
  any(pids: ReadonlySet<Pid>): EndedChild | undefined {
    for (const pid of pids) {
      const child = this.#owed.get(pid) ?? this.#zombies.get(pid);
      if (child) return child;
    }
    return undefined;
  }
}

function isThere(pid: Pid): boolean {
  return statusField(pid, 'State')?.startsWith('Z') ?? false;
}
