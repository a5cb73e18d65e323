/** Bad input and bad peers over real sockets: each gets a clear reply or end, and nothing else is disturbed. */
import assert from 'node:assert/strict';
import { it } from 'node:test';
import { overDatapaths, sharedServers } from '../support/app-servers.ts';
import { RawClient, request } from '../support/raw-client.ts';

const servers = sharedServers(['--proto-max-bulk-len', '64mb', '--client-query-buffer-limit', '80mb']);

/** A number that INFO reports. */
async function info(client: RawClient, field: string): Promise<number> {
  const head = await client.ask(request('INFO'));
  const length = Number(head.slice(1));
  await client.until(client.received); // the head is here; the text follows
  let text = client.take();
  while (text.length < length + 2) {
    await client.until(client.received + 1);
    text += client.take();
  }
  return Number(new RegExp(`^${field}:(.*)\r$`, 'm').exec(text)?.[1]);
}

/** Waits, asking again and again, until INFO reports what is expected. */
async function settled(client: RawClient, field: string, expected: number): Promise<void> {
  const until = Date.now() + 30_000;
  for (;;) {
    const value = await info(client, field);
    if (value === expected) return;
    if (Date.now() > until) assert.fail(`${field} is ${value}, not ${expected}`);
  }
}

/** Requests that break the protocol; the rest of each input is of no use. */
const MALFORMED: readonly (readonly [input: string, error: string])[] = [
  ['*x\r\n', 'invalid multibulk length'],
  ['*1\r\nx\r\n', "expected '$', got 'x'"],
  ['*1\r\n$x\r\n', 'invalid bulk length'],
  ['*1\r\n$-1\r\n', 'invalid bulk length'],
  ['*1\r\n$99999999999999999999\r\n', 'invalid bulk length'],
  ['*3000000\r\n', 'invalid multibulk length'],
  ['*9223372036854775808\r\n', 'invalid multibulk length'],
  ['*1\r\n$67108865\r\n', 'invalid bulk length'],
  [`*${'1'.repeat(70_000)}`, 'too big mbulk count string'],
  [`*1\r\n$${'1'.repeat(70_000)}`, 'too big bulk count string'],
  ['x'.repeat(70_000), 'too big inline request'],
  ['SET "a b\r\n', 'unbalanced quotes in request'],
];

overDatapaths('bad input', (datapath) => {
  it('answers malformed and oversized requests with an error, then closes; all before them is answered', async (t) => {
    const server = await servers.isthmus(t, datapath);
    if (server === null) return;
    const other = await RawClient.open(server.port);
    for (const [input, error] of MALFORMED) {
      const client = await RawClient.open(server.port);
      await client.send(`${request('PING')}PING\r\n${input}`);
      assert.equal(await client.end(), `+PONG\r\n+PONG\r\n-ERR Protocol error: ${error}\r\n`, input.slice(0, 20));
      assert.equal(client.errorCode, '');
      client.destroy();
      assert.equal(await other.ask(request('PING')), '+PONG');
    }
    await settled(other, 'connected_clients', 1);
    other.destroy();
  });

  it('answers requests that are odd but legal', async (t) => {
    const server = await servers.isthmus(t, datapath);
    if (server === null) return;
    const client = await RawClient.open(server.port);
    const odd = ['\r\n\n', '*0\r\n', '*-5\r\n', '*1\r\n$0\r\n\r\n', '  PING  \r\n', 'PING\n', '*01\r\n$4\r\nPING\r\n'];
    await client.send(odd.slice(0, 6).join(''));
    assert.equal(await client.ask(''), "-ERR unknown command '', with args beginning with: ");
    assert.equal(await client.ask(''), '+PONG');
    assert.equal(await client.ask(''), '+PONG');
    client.destroy();
  });

  it('refuses a request larger than its limit although each part is small enough', async (t) => {
    const server = await servers.isthmus(t, datapath);
    if (server === null) return;
    const client = await RawClient.open(server.port);
    const part = Buffer.alloc(30 << 20, 'x');
    await client.send(`*5\r\n$4\r\nMSET\r\n$${part.length}\r\n`);
    await client.send(part);
    await client.send(`\r\n$${part.length}\r\n`);
    await client.send(part);
    await client.send(`\r\n$${part.length}\r\n`);
    assert.equal(await client.end(), '-ERR Protocol error: request exceeds client-query-buffer-limit\r\n');
    client.destroy();
  });

  it('lets partial commands wait, however slowly they come, without disturbing others', async (t) => {
    const server = await servers.isthmus(t, datapath);
    if (server === null) return;
    const slow = await Promise.all(Array.from({ length: 40 }, () => RawClient.open(server.port)));
    const quick = await RawClient.open(server.port);
    const bytes = request('ECHO', 'at last');
    for (const byte of bytes) {
      await Promise.all(slow.map((client) => client.send(byte)));
      assert.equal(await quick.ask(request('PING')), '+PONG');
    }
    for (const client of slow) {
      await client.until(13);
      assert.equal(client.take(), '$7\r\nat last\r\n');
      client.destroy();
    }
    quick.destroy();
  });

  it('gives a peer that shut down its writing side all its replies, then ends', async (t) => {
    const server = await servers.isthmus(t, datapath);
    if (server === null) return;
    const client = await RawClient.open(server.port);
    const value = 'v'.repeat(100_000);
    client.socket.pause();
    await client.send(request('SET', 'half', value) + request('GET', 'half').repeat(200));
    client.socket.end();
    client.socket.resume();
    const text = await client.end();
    assert.equal(text.length, 5 + 200 * (value.length + 11));
    assert.equal(client.errorCode, '');
    client.destroy();
  });

  it('survives peers that reset in the middle of replies and of requests', async (t) => {
    const server = await servers.isthmus(t, datapath);
    if (server === null) return;
    const other = await RawClient.open(server.port);
    assert.equal(await other.ask(request('SET', 'reset', 'v'.repeat(5_000_000))), '+OK');
    for (let i = 0; i < 20; i++) {
      const client = await RawClient.open(server.port);
      await client.send(request('GET', 'reset').repeat(10));
      await client.until(i * 50_000);
      client.socket.resetAndDestroy();
      const half = await RawClient.open(server.port);
      await half.send(request('SET', 'k', 'v'.repeat(100_000)).slice(0, 1 + i * 4000));
      half.socket.resetAndDestroy();
      assert.equal(await other.ask(request('PING')), '+PONG');
    }
    await settled(other, 'connected_clients', 1);
    assert.equal(server.child.exitCode, null);
    other.destroy();
  });

  it('takes and gives a large value that comes in many pieces', async (t) => {
    const server = await servers.isthmus(t, datapath);
    if (server === null) return;
    const client = await RawClient.open(server.port);
    const piece = Buffer.alloc(10_000, 'p');
    const pieces = 6000;
    await client.send(`*3\r\n$3\r\nSET\r\n$5\r\nlarge\r\n$${piece.length * pieces}\r\n`);
    for (let i = 0; i < pieces; i++) await client.send(piece);
    assert.equal(await client.ask('\r\n'), '+OK');
    await client.send(request('GET', 'large') + request('DEL', 'large'));
    await client.until(5 + 11 + piece.length * pieces + 2 + 4);
    const text = client.take();
    assert.ok(text.endsWith('p\r\n:1\r\n'));
    assert.equal(text.length, 11 + piece.length * pieces + 2 + 4);
    client.destroy();
  });
});
