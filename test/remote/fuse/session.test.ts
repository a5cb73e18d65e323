/**
 * A session over a transport in memory, with a server in simulated time: every request is answered exactly once, whatever
 * bytes come, and references and the admission's decisions are kept.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { ERRNO } from '../../../src/errors.ts';
import { IN_HEADER_BYTES, Opcode } from '../../../src/remote/fuse/abi.ts';
import { type Admission, alwaysWait } from '../../../src/remote/fuse/admission.ts';
import { FuseSession, type FuseTransport } from '../../../src/remote/fuse/session.ts';
import { FileType } from '../../../src/remote/server.ts';
import { openView, type View } from '../../../src/remote/view/view.ts';
import { MemoryServer } from '../memory-server.ts';
import { SimulatedClock } from '../simulated-clock.ts';

const SPACE = 1 << 16;

function memory(bytes: number) {
  const buffer = new ArrayBuffer(bytes);
  return { buffer, u8: new Uint8Array(buffer), u32: new Uint32Array(buffer), i32: new Int32Array(buffer) };
}

interface Answer {
  readonly errno: number;
  readonly body: Buffer;
}

/** The kernel's end. */
class Kernel implements FuseTransport {
  readonly request = memory(SPACE);
  readonly reply = memory(SPACE);
  readonly answers = new Map<number, Answer[]>();
  readonly #waiting: Uint8Array[] = [];
  #unique = 0;
  #onReadable: () => void = () => {};
  refuse = 0;

  read(): number {
    const next = this.#waiting.shift();
    if (next === undefined) return -ERRNO.EAGAIN;
    this.request.u8.set(next);
    return next.length;
  }

  write(length: number): number {
    assert.equal(this.reply.u32[0], length);
    const unique = this.reply.u32[2]!;
    const body = Buffer.from(this.reply.u8.slice(16, length));
    this.answers.set(unique, [...(this.answers.get(unique) ?? []), { errno: Math.abs(this.reply.i32[1]!), body }]);
    const { refuse } = this;
    this.refuse = 0;
    return refuse;
  }

  watch(onReadable: () => void): { close(): void } {
    this.#onReadable = onReadable;
    return { close: () => {} };
  }

  async notify(): Promise<number> {
    return 0;
  }

  send(opcode: number, node: number, body: Uint8Array, pid = 0): number {
    const unique = ++this.#unique;
    const bytes = Buffer.alloc(IN_HEADER_BYTES + body.length);
    bytes.writeUInt32LE(bytes.length, 0);
    bytes.writeUInt32LE(opcode, 4);
    bytes.writeUInt32LE(unique, 8);
    bytes.writeUInt32LE(node, 16);
    bytes.writeUInt32LE(pid, 32);
    bytes.set(body, IN_HEADER_BYTES);
    this.#waiting.push(bytes);
    return unique;
  }

  go(): void {
    this.#onReadable();
  }

  one(unique: number): Answer {
    const answers = this.answers.get(unique) ?? [];
    assert.equal(answers.length, 1, `request ${unique} was answered ${answers.length} times`);
    return answers[0]!;
  }
}

const init = (): Buffer => {
  const body = Buffer.alloc(16);
  body.writeUInt32LE(7, 0);
  body.writeUInt32LE(31, 4);
  return body;
};
const named = (name: string, before = 0): Buffer => Buffer.concat([Buffer.alloc(before), Buffer.from(`${name}\0`)]);

interface World {
  readonly clock: SimulatedClock;
  readonly server: MemoryServer;
  readonly kernel: Kernel;
  readonly session: FuseSession;
  readonly view: View;
  /** Sends one request and gives its answer. */
  ask(opcode: number, node: number, body: Uint8Array, pid?: number): Promise<Answer>;
}

async function makeWorld(admission: Admission = alwaysWait): Promise<World> {
  const clock = new SimulatedClock();
  const server = new MemoryServer({ clock });
  const view = await clock.until(openView(server, clock));
  const kernel = new Kernel();
  const session = new FuseSession(view, kernel, { admission, uid: 0, payloadMax: 32768 });
  session.start();
  kernel.send(Opcode.INIT, 0, init());
  kernel.go();
  const ask = async (opcode: number, node: number, body: Uint8Array, pid = 0): Promise<Answer> => {
    const unique = kernel.send(opcode, node, body, pid);
    kernel.go();
    await clock.pass(100);
    return kernel.one(unique);
  };
  return { clock, server, kernel, session, view, ask };
}

test('looking up gives references, forgetting takes them back', async () => {
  const { ask, server, view, kernel } = await makeWorld();
  server.tree.add(server.tree.root, 'f', FileType.regular, { mode: 0o644 });
  const first = await ask(Opcode.LOOKUP, 1, named('f'));
  const id = first.body.readUInt32LE(0);
  const second = await ask(Opcode.LOOKUP, 1, named('f'));
  assert.equal(second.body.readUInt32LE(0), id);
  assert.equal(view.node(id)!.lookups, 2);
  // An answer that the kernel does not take counts for nothing.
  kernel.refuse = -ERRNO.ENOENT;
  await ask(Opcode.LOOKUP, 1, named('f'));
  assert.equal(view.node(id)!.lookups, 2);
  const forget = Buffer.alloc(8);
  forget.writeUInt32LE(2, 0);
  kernel.send(Opcode.FORGET, id, forget);
  kernel.go();
  assert.equal(view.node(id)!.lookups, 0);
  const missing = await ask(Opcode.LOOKUP, 1, named('g'));
  assert.equal(missing.errno, 0);
  assert.equal(missing.body.readUInt32LE(0), 0, 'a negative entry');
  assert.ok(missing.body.readUInt32LE(16) > 0, 'that is good for a while');
});

test('what is not known is refused, and nothing is asked of the server', async () => {
  const { ask, server } = await makeWorld();
  const before = server.counters.calls;
  assert.equal((await ask(Opcode.GETATTR, 99, Buffer.alloc(16))).errno, ERRNO.ESTALE);
  assert.equal((await ask(Opcode.READ, 1, Buffer.alloc(40))).errno, ERRNO.EBADF);
  assert.equal((await ask(Opcode.FALLOCATE, 1, Buffer.alloc(40))).errno, ERRNO.ENOSYS);
  assert.equal((await ask(Opcode.GETXATTR, 1, Buffer.alloc(40))).errno, ERRNO.ENOSYS);
  assert.equal((await ask(Opcode.LOOKUP, 1, named('a/b'))).errno, ERRNO.EINVAL);
  assert.equal((await ask(Opcode.LOOKUP, 1, named('x'.repeat(300)))).errno, ERRNO.ENAMETOOLONG);
  const flags = Buffer.alloc(16);
  flags.writeUInt32LE(1, 0);
  flags.writeUInt32LE(1, 8);
  assert.equal((await ask(Opcode.RENAME2, 1, Buffer.concat([flags, named('a'), named('b')]))).errno, ERRNO.EINVAL);
  assert.equal(server.counters.calls, before);
});

test('every request is answered exactly once, whatever bytes it holds', async () => {
  const silent: number[] = [Opcode.FORGET, Opcode.BATCH_FORGET, Opcode.INTERRUPT];
  const requests = fc.array(fc.tuple(fc.integer({ min: 1, max: 55 }), fc.nat(3), fc.uint8Array({ maxLength: 120 })), {
    maxLength: 40,
    size: 'max',
  });
  const property = fc.asyncProperty(requests, async (all) => {
    const { clock, kernel, session, server } = await makeWorld();
    server.tree.add(server.tree.root, 'a', FileType.directory, { mode: 0o755 });
    const uniques: number[] = [];
    for (const [opcode, node, body] of all) {
      if (opcode === Opcode.INIT) continue;
      const unique = kernel.send(opcode, node, body);
      if (!silent.includes(opcode)) uniques.push(unique);
    }
    kernel.go();
    await clock.pass(120_000);
    for (const unique of uniques) kernel.one(unique);
    assert.equal(session.waiting, 0);
    assert.equal(session.lastFault, null);
  });
  await fc.assert(property, { numRuns: 150 });
});

test('a bounced read is answered EINTR, and its truth is there at the second try', async () => {
  const tries: string[] = [];
  const { ask, server, view } = await makeWorld({
    ...alwaysWait,
    decide: (_origin, operation) => {
      tries.push(operation.kind);
      return tries.length === 1 ? 'bounce' : 'wait';
    },
  });
  server.tree.set(server.tree.root, { mode: 0o700 });
  view.expire(view.root);
  assert.equal((await ask(Opcode.GETATTR, 1, Buffer.alloc(16), 42)).errno, ERRNO.EINTR);
  const calls = server.counters.calls;
  const answer = await ask(Opcode.GETATTR, 1, Buffer.alloc(16), 42);
  assert.equal(answer.errno, 0);
  assert.equal(answer.body.readUInt32LE(16 + 60), 0o40700);
  assert.equal(server.counters.calls, calls, 'nothing was asked twice');
});

test('a predicted answer is given at once, good for no time, and its truth is told', async () => {
  const truths: boolean[] = [];
  const { ask, server, view, kernel, clock } = await makeWorld({
    ...alwaysWait,
    decide: () => 'predict',
    truth: (_origin, _operation, agrees) => void truths.push(agrees),
  });
  view.expire(view.root);
  server.pause();
  const unique = kernel.send(Opcode.GETATTR, 1, Buffer.alloc(16), 42);
  kernel.go();
  assert.equal(kernel.one(unique).body.readUInt32LE(0), 0);
  assert.equal(kernel.one(unique).body.readUInt32LE(8), 0);
  server.tree.set(server.tree.root, { mode: 0o711 });
  server.resume();
  await clock.pass(100);
  assert.deepEqual(truths, [false]);
  view.expire(view.root);
  await ask(Opcode.GETATTR, 1, Buffer.alloc(16), 42);
  assert.deepEqual(truths, [false, true]);
});

test('an assumed mkdir is in the view before the server knows of it, and can be undone', async () => {
  const undo: (() => void)[] = [];
  const { ask, server, view } = await makeWorld({
    ...alwaysWait,
    decide: (_origin, operation, prediction) =>
      operation.kind === 'mkdir' && prediction !== null ? 'predict' : 'wait',
    assumed: (_origin, _mutation, _predicted, log) => void undo.push(() => log.run()),
    era: () => 0,
  });
  await ask(Opcode.LOOKUP, 1, named('d'));
  const made = await ask(Opcode.MKDIR, 1, named('d', 8), 42);
  assert.equal(made.errno, 0);
  const id = made.body.readUInt32LE(0);
  assert.equal(view.node(id)!.handle, null);
  assert.equal(server.calls['mkdir'] ?? 0, 0);
  assert.equal((await ask(Opcode.LOOKUP, 1, named('d'))).body.readUInt32LE(0), id);
  undo[0]!();
  assert.equal((await ask(Opcode.LOOKUP, 1, named('d'))).body.readUInt32LE(0), 0);
});

test('a request that the admission holds begins anew when it may', async () => {
  let open = (): void => {};
  const gate = new Promise<void>((resolve) => {
    open = resolve;
  });
  let asked = 0;
  const { kernel, clock } = await makeWorld({
    ...alwaysWait,
    enter: () => (asked++ === 0 ? gate : null),
  });
  const unique = kernel.send(Opcode.MKDIR, 1, named('d', 8));
  kernel.go();
  await clock.pass(1000);
  assert.equal(kernel.answers.has(unique), false);
  open();
  await clock.pass(1000);
  assert.equal(kernel.one(unique).errno, 0);
  assert.equal(asked, 2);
});
