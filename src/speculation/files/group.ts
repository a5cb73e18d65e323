/**
 * The processes that take part in a speculative run, as the engine sees them, and what their checkpoints are called.
 * Bookkeeping: of the processes themselves it only reads /proc.
 */

import { readdirSync, readlinkSync } from 'node:fs';
import type { SpeculationEngine } from '../engine/engine.ts';
import type { SpeculativeObject } from '../engine/interval.ts';
import type { CheckpointId, Pid } from '../process/backend.ts';

export interface Member {
  readonly pid: Pid;
  readonly object: SpeculativeObject;
  /** Has other threads, or is one: it always waits for the truth. */
  threads: boolean;
  /** Rollbacks of it that the tracer has not carried out: until then whatever it asks is answered at once, and nothing kept. */
  doomed: number;
  /** A checkpoint has been asked for and neither taken nor refused. */
  pausing: boolean;
  /** What it asked was predicted wrongly, or its checkpoint was refused: its next request waits for the truth. */
  truthNext: boolean;
  /**
   * The call it is in may have made a file already: the kernel asks for a new file's attributes before open(2) is done. It cannot
   * run again. Until it asks for something else, which is another call.
   */
  created: boolean;
  /** Its rollbacks so far. */
  era: number;
  /** Its exit is held: it runs no more, unless it is restored. */
  exited: boolean;
}

export class Group {
  /** Processes outside the group have opened files. */
  strangers = false;
  readonly #engine: SpeculationEngine;
  readonly #members = new Map<Pid, Member>();

  constructor(engine: SpeculationEngine) {
    this.#engine = engine;
  }

  /** Whether a process may have a file of this name open; parked copies of processes do not count. */
  mayHoldOpen(name: string): boolean {
    if (this.strangers) return true;
    for (const { pid, exited } of this.#members.values()) {
      if (!exited && openNames(pid).has(name)) return true;
    }
    return false;
  }

  get size(): number {
    return this.#members.size;
  }

  get(pid: Pid): Member | undefined {
    return this.#members.get(pid);
  }

  /** The program, or what a process that depends on nothing has made. */
  add(pid: Pid): Member {
    return this.#put(pid, this.#engine.object('process', String(pid)));
  }

  forked(parent: Pid, child: Pid, thread: boolean): Member {
    const maker = this.#members.get(parent);
    const member =
      maker === undefined || thread
        ? this.add(child)
        : this.#put(child, this.#engine.born('process', String(child), maker.object));
    if (thread) {
      member.threads = true;
      if (maker !== undefined) maker.threads = true;
    } else if (maker?.doomed) member.doomed = 1; // its rollback is on the way to the tracer, which will find the child
    return member;
  }

  remove(pid: Pid): void {
    const member = this.#members.get(pid);
    if (member === undefined) return;
    member.exited = true;
    this.#members.delete(pid);
  }

  #put(pid: Pid, object: SpeculativeObject): Member {
    const member = {
      pid,
      object,
      threads: false,
      doomed: 0,
      created: false,
      era: 0,
      pausing: false,
      truthNext: false,
      exited: false,
    };
    this.#members.set(pid, member);
    return member;
  }
}

/** The processes' checkpoints among restorations' or intervals' saved states. */
export function checkpointOf(saved: unknown): CheckpointId | null {
  return typeof saved === 'number' ? saved : null;
}

/** The last parts of the names of a process's open files; a character per byte. Reading links asks no file system. */
function openNames(pid: Pid): Set<string> {
  const names = new Set<string>();
  try {
    for (const fd of readdirSync(`/proc/${pid}/fd`)) {
      const link = readlinkSync(`/proc/${pid}/fd/${fd}`, 'latin1');
      names.add(link.slice(link.lastIndexOf('/') + 1));
    }
  } catch {
    // It is gone, or a descriptor is.
  }
  return names;
}
