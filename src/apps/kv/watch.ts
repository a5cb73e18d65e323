/**
 * Who watches which key: WATCH makes EXEC fail if the key changed in between.
 * Pure; it costs a write nothing but one comparison while nobody watches.
 */
import type { Session } from './session.ts';
import type { Keyspace } from './store/keyspace.ts';

/** Keys watched by one session; at the bound WATCH is refused. */
export const WATCHED_MAX = 65536;

function nameOf(bytes: Uint8Array, offset: number, length: number): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset + offset, length).toString('latin1');
}

export class Watchers {
  /** By database and key, a character per byte: `db:key`. */
  readonly #sessions = new Map<string, Set<Session>>();

  get any(): boolean {
    return this.#sessions.size > 0;
  }

  /** Watch a key for a session; false if it watches too many. */
  watch(session: Session, db: number, bytes: Uint8Array, offset: number, length: number): boolean {
    const key = nameOf(bytes, offset, length);
    const name = `${db}:${key}`;
    let sessions = this.#sessions.get(name);
    if (sessions?.has(session)) return true;
    if (session.watched.length >= WATCHED_MAX) return false;
    if (sessions === undefined) {
      sessions = new Set();
      this.#sessions.set(name, sessions);
    }
    sessions.add(session);
    session.watched.push({ db, key, bytes: bytes.slice(offset, offset + length) });
    return true;
  }

  /** Forget all keys a session watches. */
  unwatch(session: Session): void {
    for (const { db, key } of session.watched) {
      const name = `${db}:${key}`;
      const sessions = this.#sessions.get(name)!;
      sessions.delete(session);
      if (sessions.size === 0) this.#sessions.delete(name);
    }
    session.watched = [];
  }

  /** A key changed. */
  touch(db: number, bytes: Uint8Array, offset: number, length: number): void {
    const sessions = this.#sessions.get(`${db}:${nameOf(bytes, offset, length)}`);
    if (sessions !== undefined) for (const session of sessions) session.dirtyWatch = true;
  }

  /** A database is about to be emptied, or replaced by another: every watched key that is in either changes. */
  touchAll(emptied: Keyspace, replacement: Keyspace | null): void {
    const prefix = `${emptied.id}:`;
    for (const [name, sessions] of this.#sessions) {
      if (!name.startsWith(prefix)) continue;
      const key = Buffer.from(name.slice(prefix.length), 'latin1');
      const there = emptied.peek(key, 0, key.length) !== 0;
      const comes = replacement !== null && replacement.peek(key, 0, key.length) !== 0;
      if (there || comes) for (const session of sessions) session.dirtyWatch = true;
    }
  }
}
