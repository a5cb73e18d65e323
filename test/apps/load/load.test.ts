/** The whole load generator on a simulated network: what it counts, what it finds wrong, and whose waiting it charges for. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { LoadConfig } from '../../../src/apps/load/config.ts';
import { type LoadResult, runLoad } from '../../../src/apps/load/load.ts';
import { SimulatedNetwork } from '../../../src/datapath/simulated/network.ts';
import { simulatedKernel } from '../../../src/datapath/simulated.ts';
import type { Connection, Coroutine, Kernel } from '../../../src/index.ts';

const BASE: LoadConfig = {
  protocol: 'tcp',
  address: { host: '127.0.0.1', port: 7000 },
  connections: 4,
  depth: 1,
  size: 64,
  rate: undefined,
  seconds: 2,
  count: undefined,
  warmup: 0.1,
  timeout: 5,
  verify: true,
  reset: false,
  idle: 0,
  command: 'mixed',
  setShare: 0.5,
  keys: 100,
  seed: 1,
};

/** Runs a load against a server in virtual time. */
async function simulate(
  config: Partial<LoadConfig>,
  server: (k: Kernel, network: SimulatedNetwork) => Coroutine<unknown>,
): Promise<LoadResult> {
  const network = new SimulatedNetwork({ seed: 7 });
  const serving = simulatedKernel(network, { checked: true });
  const loading = simulatedKernel(network);
  serving.spawn(server(serving, network));
  let result: LoadResult | null = null;
  let failure: unknown = null;
  function* main(): Coroutine {
    try {
      result = yield* runLoad(loading, { ...BASE, ...config }, { spinMs: 0 });
    } catch (error) {
      failure = error;
    }
  }
  loading.spawn(main());
  network.run(100_000);
  const { inUse } = loading.heap;
  loading.dispose();
  serving.dispose();
  if (failure !== null) throw failure;
  assert.ok(result !== null, 'the load came to an end');
  assert.equal(inUse, 0, 'the load has given its buffers back');
  return result;
}

/** An echo that thinks for `delay` ms about each message. */
function echo(delay: (k: Kernel) => number = () => 1): (k: Kernel) => Coroutine<unknown> {
  return function* main(k) {
    const listener = yield* k.listen({ port: 7000, host: '127.0.0.1' });
    yield* listener.serve(function* answer(conn: Connection) {
      for (;;) {
        const buffer = yield* conn.pop();
        if (buffer === null) return;
        yield* k.sleep(delay(k));
        yield* conn.push(buffer);
      }
    });
  };
}

test('a closed loop waits for each answer', async () => {
  const { report } = await simulate(
    {},
    echo(() => 10),
  );
  assert.equal(report.loop, 'closed');
  assert.equal(report.complete, true);
  // 4 connections, each answered every 10 ms, for 2 s
  assert.ok(Math.abs(report.messages - 800) <= 8, `${report.messages} messages`);
  assert.ok(Math.abs(report.p50Us - 10_000) <= 1000, `p50 ${report.p50Us}`);
  assert.deepEqual(Object.values(report.errors).filter(Boolean), []);
});

test('messages of a batch count one by one', async () => {
  const { report } = await simulate(
    { depth: 16, connections: 1 },
    echo(() => 10),
  );
  assert.ok(Math.abs(report.messages - 200 * 16) <= 32, `${report.messages} messages`);
});

test('sends an answer again as the next message, whole or not, over connections that break', async () => {
  const seen = new Set<string>();
  const { report } = await simulate({ verify: false, depth: 2, size: 40 }, function* main(k) {
    const listener = yield* k.listen({ port: 7000, host: '127.0.0.1' });
    yield* listener.serve(function* answer(conn: Connection) {
      for (let message = 1; ; message++) {
        const buffer = yield* conn.pop();
        if (buffer === null) return;
        seen.add(buffer.bytes.toString());
        yield* k.sleep(1);
        if (message % 10 === 0) {
          buffer.release();
          return;
        }
        if (message % 3 === 0) {
          const rest = k.alloc(buffer.length - 30).fill(buffer.bytes.slice(30));
          buffer.length = 30;
          yield* conn.push(buffer);
          yield* k.sleep(1);
          yield* conn.push(rest);
        } else yield* conn.push(buffer);
      }
    });
  });
  assert.ok(report.messages > 1000 && report.errors.closed > 10, `${report.messages} messages`);
  assert.equal(report.errors.wrong, 0);
  assert.equal(seen.size, 1, 'the same bytes every time');
});

test('ends after a number of messages', async () => {
  const { report } = await simulate(
    { count: 100, seconds: 1000 },
    echo(() => 10),
  );
  assert.ok(report.messages >= 100 && report.messages <= 104);
  assert.equal(report.complete, true);
});

/** Stalls once, for a second, in the middle of the window. */
function stalling(): (k: Kernel) => Coroutine<unknown> {
  return echo((k) => {
    const second = (k.now - 100) % 4000;
    return second >= 1000 && second < 2000 ? 2000 - second : 1;
  });
}

test('an open loop charges a stall for every message it held up (no coordinated omission)', async () => {
  const closed = await simulate({ connections: 1, seconds: 4 }, stalling());
  const open = await simulate({ connections: 1, seconds: 4, rate: 100 }, stalling());
  assert.equal(open.report.loop, 'open');
  // The closed loop meets the stall with one message of thousands, and its p99 knows nothing of it.
  assert.ok(closed.report.maxUs >= 900_000, `closed max ${closed.report.maxUs}`);
  assert.ok(closed.report.p99Us < 10_000, `closed p99 ${closed.report.p99Us}`);
  // At 100 a second, 100 of 400 were due during the stall: evenly between 0 and 1 s late.
  assert.ok(Math.abs(open.report.messages - 400) <= 1, `${open.report.messages} messages`);
  assert.ok(open.report.p99Us > 900_000, `open p99 ${open.report.p99Us}`);
  const p90 = open.report.p90Us;
  assert.ok(p90 > 450_000 && p90 < 750_000, `open p90 ${p90}`);
  assert.ok(open.report.p50Us < 10_000, `open p50 ${open.report.p50Us}`);
});

test('what an open loop never got an answer for counts as waiting, and as unanswered', async () => {
  const { report } = await simulate(
    { connections: 1, rate: 10, seconds: 1, timeout: 30 },
    echo((k) => (k.now > 600 ? 1e6 : 1)),
  );
  assert.ok(report.errors.unanswered >= 4, `${report.errors.unanswered} unanswered`);
  assert.equal(report.messages + report.errors.unanswered, 10);
  assert.ok(report.maxUs > 1_000_000, `max ${report.maxUs}`);
});

test('nobody there: the load fails as its connects did', async () => {
  await assert.rejects(
    simulate({}, function* nobody() {}),
    { code: 'ECONNREFUSED' },
  );
});

test('a peer that closes is counted, and connected again', async () => {
  const { report } = await simulate({ connections: 1 }, function* main(k) {
    const listener = yield* k.listen({ port: 7000, host: '127.0.0.1' });
    yield* listener.serve(function* once(conn: Connection) {
      const buffer = yield* conn.pop();
      if (buffer === null) return;
      yield* conn.push(buffer);
      (yield* conn.pop())?.release();
    });
  });
  assert.ok(report.messages >= 10, `${report.messages} messages`);
  assert.ok(report.errors.closed + report.errors.reset >= 10, JSON.stringify(report.errors));
});

test('no answer in time is counted, and the connection is given up', async () => {
  const { report } = await simulate({ connections: 2, timeout: 0.2 }, function* main(k) {
    const listener = yield* k.listen({ port: 7000, host: '127.0.0.1' });
    yield* listener.serve(function* never(conn: Connection) {
      for (;;) {
        const buffer = yield* conn.pop();
        if (buffer === null) return;
        buffer.release();
      }
    });
  });
  assert.equal(report.messages, 0);
  assert.ok(report.errors.timeout >= 6, JSON.stringify(report.errors));
});

test('wrong bytes and answers nobody asked for are found', async () => {
  const { report } = await simulate({ connections: 1 }, function* main(k) {
    const listener = yield* k.listen({ port: 7000, host: '127.0.0.1' });
    yield* listener.serve(function* wrong(conn: Connection) {
      for (;;) {
        const buffer = yield* conn.pop();
        if (buffer === null) return;
        buffer.memory[buffer.offset + 3]! ^= 1;
        yield* k.sleep(10);
        yield* conn.push(buffer);
      }
    });
  });
  assert.ok(report.messages > 100);
  assert.ok(report.errors.wrong >= report.messages, JSON.stringify(report.errors));
});

/** Answers each whole RESP command of this load; `reply` gives the reply to a command's name. */
function resp(reply: (name: string) => string): (k: Kernel) => Coroutine<unknown> {
  return function* main(k) {
    const listener = yield* k.listen({ port: 7000, host: '127.0.0.1' });
    yield* listener.serve(function* answer(conn: Connection) {
      let text = '';
      for (;;) {
        const buffer = yield* conn.pop();
        if (buffer === null) return;
        text += buffer.text();
        buffer.release();
        const commands =
          text.match(/\*\d\r\n\$\d\r\n(GET|SET|PING)\r\n(\$16\r\nkey:\d{12}\r\n)?(\$3\r\nxxx\r\n)?/g) ?? [];
        assert.equal(commands.join(''), text, 'whole commands arrive, and nothing else');
        text = '';
        yield* k.sleep(5);
        yield* conn.write(commands.map((command) => reply(/GET|SET|PING/.exec(command)![0])).join(''));
      }
    });
  };
}

test('RESP: GET and SET over a space of keys', async () => {
  const { report } = await simulate(
    { protocol: 'resp', size: 3, depth: 4 },
    resp((name) => (name === 'SET' ? '+OK\r\n' : '$3\r\nxxx\r\n')),
  );
  assert.ok(report.messages > 1000, `${report.messages} messages`);
  assert.deepEqual(Object.values(report.errors).filter(Boolean), []);
});

test('RESP: nils, errors and wrong values are told apart', async () => {
  let turn = 0;
  const { report } = await simulate(
    { protocol: 'resp', size: 3, command: 'get', connections: 1 },
    resp(() => ['$-1\r\n', '-ERR no\r\n', '$3\r\nyyy\r\n', '$3\r\nxxx\r\n'][turn++ % 4]!),
  );
  const quarter = report.messages / 4;
  for (const count of [report.nils!, report.errors.protocol, report.errors.wrong]) {
    assert.ok(Math.abs(count - quarter) <= 1, JSON.stringify(report));
  }
});

test('RESP: a peer that speaks something else is an error', async () => {
  const { report } = await simulate(
    { protocol: 'resp', size: 3, connections: 1, timeout: 0.5 },
    resp(() => 'HTTP/1.1 400\r\n'),
  );
  assert.equal(report.messages, 0);
  assert.ok(report.errors.protocol >= 5, JSON.stringify(report.errors));
});

test('connect: a connection for each message', async () => {
  for (const reset of [false, true]) {
    const { report } = await simulate(
      { protocol: 'connect', reset },
      echo(() => 10),
    );
    assert.ok(Math.abs(report.messages - 800) <= 16, `${report.messages} connections`);
    assert.deepEqual(Object.values(report.errors).filter(Boolean), []);
  }
});

test('connect: attempts and connections that nobody answers are given up in time', async () => {
  const { report } = await simulate({ protocol: 'connect', timeout: 0.5 }, function* main(k) {
    const listener = yield* k.listen({ port: 7000, host: '127.0.0.1', backlog: 1 });
    // Those that ask whether it is there at all, and then nobody: one connection waits here, the others to be let in.
    for (let slot = 0; slot < 4; slot++) {
      const conn = yield* listener.accept();
      const buffer = yield* conn.pop();
      if (buffer !== null) yield* conn.push(buffer);
    }
    yield* k.sleep(1e9);
  });
  assert.equal(report.messages, 0);
  // Four connections, given up every half a second, for two seconds.
  assert.ok(report.errors.timeout >= 8 && report.errors.timeout <= 20, `${report.errors.timeout} timeouts`);
  assert.equal(report.errors.other, 0);
});

function datagramEcho(drop: (count: number) => boolean): (k: Kernel) => Coroutine<unknown> {
  return function* main(k) {
    const socket = k.udp({ port: 7000, host: '127.0.0.1' });
    for (let count = 0; ; count++) {
      const buffer = yield* socket.pop();
      yield* k.sleep(1);
      if (drop(count)) buffer.release();
      else yield* socket.push(buffer);
    }
  };
}

test('UDP: lost datagrams are counted and sent again', async () => {
  const { report } = await simulate(
    { protocol: 'udp', connections: 1, timeout: 0.1 },
    datagramEcho((count) => count % 10 === 9),
  );
  assert.ok(report.messages > 100, `${report.messages} messages`);
  assert.ok(report.errors.timeout >= 10, JSON.stringify(report.errors));
  assert.ok(Math.abs(report.messages / report.errors.timeout - 9) < 1.5);
  assert.equal(report.errors.wrong, 0);
});

test('UDP at a rate: lost datagrams are unanswered', async () => {
  const { report } = await simulate(
    { protocol: 'udp', rate: 100, timeout: 0.5 },
    datagramEcho((count) => count % 10 === 9),
  );
  assert.ok(Math.abs(report.messages - 180) <= 2, `${report.messages} messages`);
  assert.ok(Math.abs(report.errors.unanswered - 20) <= 2, JSON.stringify(report.errors));
});

test('idle connections stand beside and say nothing', async () => {
  let most = 0;
  const { report } = await simulate({ idle: 100 }, function* main(k) {
    const listener = yield* k.listen({ port: 7000, host: '127.0.0.1' });
    yield* listener.serve(function* answer(conn: Connection) {
      most = Math.max(most, k.openQueues - 1);
      for (;;) {
        const buffer = yield* conn.pop();
        if (buffer === null) return;
        yield* k.sleep(1);
        yield* conn.push(buffer);
      }
    });
  });
  assert.equal(report.idle?.connections, 100);
  assert.equal(most, 104);
  assert.ok(report.messages > 1000);
});
