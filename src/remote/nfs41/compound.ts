/**
 * A COMPOUND: steps that the server runs in order up to the first that fails, as one remote procedure (RFC 8881 section 16.2).
 * Pure: the RPC client sends it.
 */
import { protocolError } from '../remote-error.ts';
import type { Procedure } from '../rpc/message.ts';
import type { XdrReader, XdrWriter } from '../xdr.ts';
import { readBitmap } from './attributes.ts';
import { NFS4, Op, Size, Status } from './constants.ts';
import { type SequenceArguments, type SequenceReply, sequence } from './session-steps.ts';
import { type LockHolder, readLockHolder } from './state-steps.ts';
import type { Step } from './step.ts';

/** Minor version, an empty tag, the number of operations; and as much again in the reply. */
export const COMPOUND_BYTES = 12;
const NO_SESSION = new Uint8Array(Size.sessionId);
/** No server's tag is near this. */
const MAX_TAG = 1024;

/** The steps of one COMPOUND. `sends` counts how often it has been written to a connection. */
export class Compound {
  /** Null outside a session. Its step, the first, is filled in by the session. */
  readonly sequence: SequenceArguments | null;
  readonly steps: Step<unknown>[] = [];
  /** Upper bounds in bytes of arguments and results. */
  requestBytes = COMPOUND_BYTES;
  replyBytes = COMPOUND_BYTES;
  /** Some step changes something. */
  changes = false;
  sends = 0;

  private constructor(inSession: boolean) {
    this.sequence = inSession
      ? { sessionId: NO_SESSION, sequenceId: 0, slot: 0, highestSlot: 0, keepReply: false }
      : null;
    if (this.sequence !== null) this.add(sequence(this.sequence));
  }

  static inSession(): Compound {
    return new Compound(true);
  }

  /** One of the few operations that are allowed, or have to be, outside a session. */
  static alone(step: Step<unknown>): Compound {
    const compound = new Compound(false);
    compound.add(step);
    return compound;
  }

  /** Appends a step and gives its index, by which the reply tells its result. */
  add(step: Step<unknown>): number {
    this.requestBytes += step.requestBytes;
    this.replyBytes += step.replyBytes;
    if (step.changes) this.changes = true;
    return this.steps.push(step) - 1;
  }

  /** The steps from `index` on are taken back. */
  truncate(index: number): void {
    for (const step of this.steps.splice(index)) {
      this.requestBytes -= step.requestBytes;
      this.replyBytes -= step.replyBytes;
    }
    this.changes = this.steps.some((step) => step.changes);
  }
}

/** What came back. Steps before `failed` succeeded; those after it were not run. */
export class Reply {
  readonly compound: Compound;
  /** Index of the step that failed, or the number of steps. */
  readonly failed: number;
  /** Its status; 0 if none failed. */
  readonly status: number;
  /** What stood in the way of a LOCK or LOCKT. */
  readonly holder: LockHolder | null;
  /** The server did not even begin with the first operation. */
  readonly refused: boolean;
  readonly #values: readonly unknown[];

  constructor(
    compound: Compound,
    values: readonly unknown[],
    status: number,
    { holder = null, refused = false }: { holder?: LockHolder | null; refused?: boolean } = {},
  ) {
    this.compound = compound;
    this.#values = values;
    this.failed = values.length;
    this.status = status;
    this.holder = holder;
    this.refused = refused;
  }

  /** Whether the step at `index` was run and succeeded. */
  done(index: number): boolean {
    return index < this.failed;
  }

  /** The result of a step that succeeded; the caller knows of which type. A RangeError for one that did not. */
  value<T>(index: number): T {
    if (index >= this.failed) throw new RangeError(`step ${index} of this COMPOUND has no result`);
    return this.#values[index] as T;
  }

  /** Of a COMPOUND in a session whose SEQUENCE succeeded. */
  get sequence(): SequenceReply {
    return this.value<SequenceReply>(0);
  }

  /** The name of the step that failed. */
  get failedName(): string {
    return this.compound.steps[this.failed]?.name ?? 'COMPOUND';
  }
}

/** Sending it again after a lost connection is safe: the slot's sequence id makes the server answer and not execute twice. */
export const COMPOUND: Procedure<Compound, Reply> = {
  name: 'COMPOUND',
  program: NFS4.program,
  version: NFS4.version,
  number: NFS4.procedureCompound,
  idempotent: true,
  encode: writeCompound,
  decode: readReply,
};

export const NULL: Procedure<null, null> = {
  name: 'NULL',
  program: NFS4.program,
  version: NFS4.version,
  number: NFS4.procedureNull,
  idempotent: true,
  encode() {},
  decode: () => null,
};

function writeCompound(writer: XdrWriter, compound: Compound): void {
  compound.sends++;
  writer.u32(0);
  writer.halves(NFS4.minorVersion, compound.steps.length);
  for (const step of compound.steps) {
    writer.u32(step.op);
    step.encode(writer);
  }
}

function readReply(reader: XdrReader, compound: Compound): Reply {
  const status = reader.u32();
  reader.opaque(MAX_TAG);
  const count = reader.count(8);
  const { steps } = compound;
  if (count > steps.length) throw protocolError('COMPOUND', 'more results than operations');
  const values: unknown[] = [];
  let holder: LockHolder | null = null;
  for (let i = 0; i < count; i++) {
    const step = steps[i]!;
    const op = reader.u32();
    const result = reader.u32();
    // An operation a server does not know is answered with OP_ILLEGAL and a failure.
    if (op !== step.op && !(op === Op.illegal && result !== Status.ok)) {
      throw protocolError('COMPOUND', `a result of operation ${op} where ${step.name} was asked`);
    }
    if (result !== Status.ok) {
      if (result !== status || i !== count - 1) throw protocolError('COMPOUND', 'results go on after a failure');
      if (result === Status.denied && (op === Op.lock || op === Op.lockt)) holder = readLockHolder(reader);
      else if (op === Op.setattr) readBitmap(reader); // what was set before it failed
      return new Reply(compound, values, status, { holder });
    }
    values.push(step.decode(reader));
  }
  // Without any result the COMPOUND itself was refused: its first operation was not run.
  if (status !== Status.ok && count === 0) return new Reply(compound, values, status, { refused: true });
  if (status !== Status.ok || count !== steps.length) throw protocolError('COMPOUND', 'results end early');
  return new Reply(compound, values, Status.ok);
}
