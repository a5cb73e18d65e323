/**
 * After a server crash: how many operations of a COMPOUND whose reply is lost were done. It was executed in order, so some first
 * ones were; the names they made and took away tell how many. It asks the server, and changes nothing.
 *
 * The answer is null where the names leave more than one possibility (a file made and renamed away in the same COMPOUND looks
 * afterwards as it did before): then nobody can know, and the caller is told so. What the names say is taken for granted, so a
 * second client that made or removed the very same name in that moment is not told apart from ourselves.
 */
import { handleKey } from '../operation.ts';
import { RemoteError } from '../remote-error.ts';
import type {
  Attributes,
  BatchResult,
  Handle,
  HandleRef,
  LookupResult,
  Name,
  Operation,
  OperationResult,
  U64,
} from '../server.ts';

/** Asks one operation that changes nothing. */
export type Ask = (operation: Operation) => Promise<BatchResult>;

/** What an operation does to a name: what must be there before it, and what is after. Null: anything. */
interface Event {
  readonly operation: number;
  readonly directory: HandleRef;
  readonly name: Name;
  readonly before: boolean | null;
  readonly after: boolean;
}

interface Sight {
  readonly there: boolean;
  readonly found: LookupResult | null;
}

export interface Lost {
  /** The operations of the COMPOUND. */
  readonly operations: readonly Operation[];
  /** The number of the first of them in its batch. */
  readonly first: number;
  /** Handles of what earlier COMPOUNDs of the batch found or made, by number in the batch. */
  readonly known: readonly (Handle | undefined)[];
  /** The change id a directory had before the COMPOUND was sent, where that is known for sure. */
  readonly lastChange: (directory: Handle) => U64 | undefined;
  /** Stands for the write verifier of before the crash; no other verifier is equal to it. */
  readonly verifier: U64;
}

/** Results of those that were done, to be followed by the others once more; null: it cannot be told. */
export async function findDone(lost: Lost, ask: Ask): Promise<readonly OperationResult[] | null> {
  const { operations } = lost;
  const looker = new Looker(lost, ask);
  const events = operations.flatMap(eventsOf);
  const sights: Sight[] = [];
  for (const event of events) {
    const sight = await looker.look(event.directory, event.name);
    if (sight === null) return null;
    sights.push(sight);
  }
  const unchanged = await looker.firstInUnchanged(events);
  const possible = [0, ...new Set(events.map((event) => event.operation + 1))].filter(
    (count) => count <= unchanged && agrees(events, sights, count),
  );
  const count = possible[0];
  if (count === undefined) return null;
  // What may be done twice in the same way need not be told apart from what was not done.
  const most = possible[possible.length - 1]!;
  if (!operations.slice(count, most).every(isSameTwice)) return null;
  const next = events.find((event) => event.operation >= most)?.operation ?? operations.length;
  if (!mayBeRepeated(operations.slice(count, next))) return null;
  const results: OperationResult[] = [];
  for (let i = 0; i < count; i++) {
    const result = await looker.result(operations[i]!, i);
    if (result === null) return null;
    results.push(result);
  }
  return results;
}

function eventsOf(operation: Operation, index: number): Event[] {
  switch (operation.op) {
    case 'create':
    case 'mkdir':
    case 'symlink':
    case 'mknod':
    case 'link': {
      const anyway = operation.op === 'create' && operation.mode === 'unchecked';
      const { directory, name } = operation;
      return [{ operation: index, directory, name, before: anyway ? null : false, after: true }];
    }
    case 'remove':
    case 'rmdir':
      return [{ operation: index, directory: operation.directory, name: operation.name, before: true, after: false }];
    case 'rename':
      return [
        { operation: index, directory: operation.fromDirectory, name: operation.fromName, before: true, after: false },
        { operation: index, directory: operation.toDirectory, name: operation.toName, before: null, after: true },
      ];
    default:
      return [];
  }
}

/** Names that it makes or takes away are, the second time, as they were after the first. */
function isSameTwice(operation: Operation): boolean {
  return eventsOf(operation, 0).every(({ before }) => before === null);
}

/** Whether every name looks as it would after the first `count` operations. */
function agrees(events: readonly Event[], sights: readonly Sight[], count: number): boolean {
  return events.every((event, i) => {
    const same = events.filter((other) => sameName(other, event));
    if (same[0] !== event) return true;
    let expected = event.before;
    for (const other of same) if (other.operation < count) expected = other.after;
    return expected === null || expected === sights[i]!.there;
  });
}

function sameName(a: Event, b: Event): boolean {
  const key = (ref: HandleRef) => (ref instanceof Uint8Array ? handleKey(ref) : `#${ref.from}`);
  return key(a.directory) === key(b.directory) && Buffer.compare(a.name, b.name) === 0;
}

/** What is repeated may have been done already: not so a condition behind a change that may be the one it would find. */
function mayBeRepeated(operations: readonly Operation[]): boolean {
  let changed = false;
  for (const operation of operations) {
    const { op } = operation;
    const verifiesChange = op === 'verify' && operation.change !== undefined;
    const condition = verifiesChange || (op === 'setattr' && operation.guard !== undefined);
    if (condition && (changed || operation.op === 'setattr')) return false;
    if (operation.op === 'write' || operation.op === 'setattr') changed = true;
  }
  return true;
}

class Looker {
  readonly #lost: Lost;
  readonly #ask: Ask;
  readonly #sights = new Map<string, Sight>();

  constructor(lost: Lost, ask: Ask) {
    this.#lost = lost;
    this.#ask = ask;
  }

  /** What is at a name; null: cannot be told. */
  async look(directory: HandleRef, name: Name): Promise<Sight | null> {
    const handle = await this.#handle(directory);
    if (handle === undefined) return null;
    // In a directory that is not there, nothing is.
    if (handle === null) return { there: false, found: null };
    const key = `${handleKey(handle)}/${Buffer.from(name).toString('latin1')}`;
    const before = this.#sights.get(key);
    if (before !== undefined) return before;
    const result = await this.#ask({ op: 'lookup', directory: handle, name });
    if (!result.ok && !isMissing(result.error)) return null;
    const sight = result.ok ? { there: true, found: result.value as LookupResult } : { there: false, found: null };
    this.#sights.set(key, sight);
    return sight;
  }

  /** Null: it is not there. Undefined: cannot be told. */
  async #handle(ref: HandleRef): Promise<Handle | null | undefined> {
    const { known, first, operations } = this.#lost;
    if (ref instanceof Uint8Array) return ref;
    const handle = known[ref.from];
    if (handle !== undefined) return handle;
    const made = operations[ref.from - first];
    if (made === undefined || !('directory' in made) || !('name' in made)) return undefined;
    // Whoever has moved something of that name may have moved this.
    if (operations.some((other) => other.op === 'rename' && touches(other, made.name))) return undefined;
    const sight = await this.look(made.directory, made.name);
    if (sight === null) return undefined;
    return sight.found?.handle ?? null;
  }

  /** The first operation in a directory that has not changed: neither it nor what follows was done. */
  async firstInUnchanged(events: readonly Event[]): Promise<number> {
    let first = Number.POSITIVE_INFINITY;
    for (const { directory, operation } of events) {
      if (operation >= first) break;
      const handle = await this.#handle(directory);
      if (!(handle instanceof Uint8Array)) continue;
      const last = this.#lost.lastChange(handle);
      if (last === undefined) continue;
      const result = await this.#ask({ op: 'getattr', handle });
      if (!result.ok) continue;
      const { changeHigh, changeLow } = result.value as Attributes;
      if (changeHigh === last.high && changeLow === last.low) first = operation;
    }
    return first;
  }

  /** The result of an operation that was done, as far as it can still be had. */
  async result(operation: Operation, index: number): Promise<OperationResult | null> {
    const wcc = { before: null, after: null };
    const { verifier } = this.#lost;
    switch (operation.op) {
      case 'create':
      case 'mkdir':
      case 'symlink':
      case 'mknod': {
        const ref = { from: this.#lost.first + index };
        const handle = await this.#handle(ref);
        if (!(handle instanceof Uint8Array)) return null;
        const result = await this.#ask({ op: 'getattr', handle });
        return result.ok ? { handle, attributes: result.value as Attributes, wcc } : null;
      }
      case 'write':
        // Unstable data may have gone with the crash: the verifier is not the one that COMMIT will give.
        return { count: operation.data.length, committed: operation.stability, verifier, wcc };
      case 'commit':
        return { verifier, wcc };
      case 'link':
        return { attributes: null, wcc };
      case 'setattr':
      case 'remove':
      case 'rmdir':
        return { wcc };
      case 'rename':
        return { from: wcc, to: wcc };
      default: {
        const asked = await this.#askAgain(operation);
        return asked?.ok ? asked.value : null;
      }
    }
  }

  /** What only looks is looked at again; a condition that held then need not hold now. */
  async #askAgain(operation: Operation): Promise<BatchResult | null> {
    if ('directory' in operation) {
      const directory = await this.#handle(operation.directory);
      return directory instanceof Uint8Array ? this.#ask({ ...operation, directory } as Operation) : null;
    }
    if (!('handle' in operation)) return null;
    const handle = await this.#handle(operation.handle);
    if (!(handle instanceof Uint8Array)) return null;
    return this.#ask(operation.op === 'verify' ? { op: 'getattr', handle } : ({ ...operation, handle } as Operation));
  }
}

function touches(operation: Extract<Operation, { op: 'rename' }>, name: Name): boolean {
  return Buffer.compare(operation.fromName, name) === 0 || Buffer.compare(operation.toName, name) === 0;
}

function isMissing(error: Error): boolean {
  return error instanceof RemoteError && error.code === 'ENOENT';
}
