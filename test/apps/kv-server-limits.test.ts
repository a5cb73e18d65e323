/** The stated limits over real sockets: clients, descriptors, unread output, idle time, memory of idle connections. */
import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { it } from 'node:test';
import { overDatapaths, startKv } from '../support/app-servers.ts';
import { startIsthmus } from '../support/child-server.ts';
import { RawClient, request } from '../support/raw-client.ts';

function openMany(port: number, count: number): Promise<RawClient[]> {
  return Promise.all(Array.from({ length: count }, () => RawClient.open(port)));
}

/** Kilobytes of memory a process has resident. */
function residentKb(pid: number): number {
  return Number(/VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))![1]);
}

overDatapaths('limits', (datapath) => {
  it('refuses clients beyond maxclients with the error of redis, and takes new ones when others have gone', async (t) => {
    const server = await startKv(t, datapath, ['--maxclients', '5']);
    if (server === null) return;
    const clients = await openMany(server.port, 5);
    for (const client of clients) assert.equal(await client.ask(request('PING')), '+PONG');
    const refused = await RawClient.open(server.port);
    await refused.send(request('PING'));
    assert.equal(await refused.end(), '-ERR max number of clients reached\r\n');
    assert.equal(refused.errorCode, '');
    refused.destroy();
    clients[0]!.socket.end();
    await clients[0]!.end();
    const next = await RawClient.open(server.port);
    assert.equal(await next.ask(request('PING')), '+PONG');
    for (const client of [...clients, next]) client.destroy();
  });

  it('closes a client that never reads, by size and by time, while others are served', async (t) => {
    const server = await startKv(t, datapath, ['--client-output-buffer-limit', 'normal 40mb 1mb 1']);
    if (server === null) return;
    const other = await RawClient.open(server.port);
    assert.equal(await other.ask(request('SET', 'large', 'v'.repeat(30_000_000))), '+OK');
    assert.equal(await other.ask(request('SET', 'small', 'v'.repeat(2000))), '+OK');
    const bySize = await RawClient.open(server.port);
    const byTime = await RawClient.open(server.port);
    bySize.socket.pause();
    byTime.socket.pause();
    await bySize.send(`${request('MULTI')}${request('GET', 'large').repeat(3)}${request('EXEC')}`);
    // as much as the server takes: the rest stays with this process
    void byTime.send(request('GET', 'small').repeat(100_000));
    const until = Date.now() + 30_000;
    let disconnections = 0;
    while (disconnections < 2) {
      assert.ok(Date.now() < until, `${disconnections} were closed`);
      assert.equal(await other.ask(request('PING')), '+PONG');
      await other.send(request('INFO', 'stats'));
      await other.until(other.received + 1);
      await new Promise((resolve) => setTimeout(resolve, 20));
      const text = other.take();
      disconnections = Number(/client_output_buffer_limit_disconnections:(\d+)/.exec(text)?.[1] ?? 0);
    }
    assert.ok(residentKb(server.pid) < 400_000, `${residentKb(server.pid)} kB`);
    for (const client of [bySize, byTime, other]) client.destroy();
  });

  it('closes idle clients after the timeout', async (t) => {
    const server = await startKv(t, datapath, ['--timeout', '1']);
    if (server === null) return;
    const client = await RawClient.open(server.port);
    assert.equal(await client.ask(request('PING')), '+PONG');
    assert.equal(await client.end(), '');
    client.destroy();
  });

  it('goes on when no descriptors are left, and serves who waits when some come free', async (t) => {
    const server = await startKv(t, datapath, [], { ulimit: '-n 64' });
    if (server === null) return;
    assert.match(server.stderr(), /64 descriptors \(ulimit -n\) are too few for 10000 clients/);
    const clients = await openMany(server.port, 100);
    for (const client of clients) await client.send(request('PING'));
    await clients[0]!.until(7);
    assert.equal(await clients[0]!.ask(request('PING')), '+PONG');
    const waiting = clients.filter((client) => client.received === 0).length;
    assert.ok(waiting >= 36, `${waiting} wait`);
    for (const client of clients) {
      await client.until(7);
      client.destroy();
    }
    const last = await RawClient.open(server.port);
    assert.equal(await last.ask(request('PING')), '+PONG');
    assert.equal(server.child.exitCode, null);
    last.destroy();
  });

  it('serves 1,000 clients, and an idle one costs little memory', async (t) => {
    const server = await startKv(t, datapath);
    if (server === null) return;
    const warm = await openMany(server.port, 50);
    for (const client of warm) assert.equal(await client.ask(request('PING')), '+PONG');
    const before = residentKb(server.pid);
    const clients: RawClient[] = [];
    for (let i = 0; i < 10; i++) clients.push(...(await openMany(server.port, 100)));
    const replies = await Promise.all(clients.map((client) => client.ask(request('PING'))));
    assert.deepEqual(new Set(replies), new Set(['+PONG']));
    const perClient = (residentKb(server.pid) - before) / clients.length;
    t.diagnostic(`${perClient.toFixed(1)} kB resident per idle connection`);
    assert.ok(perClient < 24, `${perClient} kB`);
    for (const client of [...warm, ...clients]) client.destroy();
  });

  it('obeys its options', async (t) => {
    const options = {
      databases: '3',
      maxmemory: '5000000',
      'maxmemory-policy': 'allkeys-lru',
      'tcp-keepalive': '60',
    };
    const args = Object.entries(options).flatMap(([name, value]) => [`--${name}`, value]);
    const server = await startKv(t, datapath, args);
    if (server === null) return;
    const client = await RawClient.open(server.port);
    assert.equal(await client.ask(request('SELECT', '2')), '+OK');
    assert.equal(await client.ask(request('SELECT', '3')), '-ERR DB index is out of range');
    for (const [name, value] of Object.entries(options)) {
      await client.send(request('CONFIG', 'GET', name));
      await client.until(client.received + 1);
      assert.match(client.take(), new RegExp(`\\r\\n${name}\\r\\n\\$\\d+\\r\\n${value}\\r\\n$`));
    }
    const value = 'v'.repeat(100_000);
    for (let i = 0; i < 100; i++) assert.equal(await client.ask(request('SET', `key ${i}`, value)), '+OK');
    const kept = Number((await client.ask(request('DBSIZE'))).slice(1));
    assert.ok(kept > 20 && kept < 60, `${kept} keys of 100,000 bytes are left`);
    client.destroy();
  });

  it('listens on a Unix socket, in place of one that was left behind, and removes it at the end', async (t) => {
    const dir = mkdtempSync(join(tmpdir(), 'isthmus-kv-'));
    t.after(() => rmSync(dir, { recursive: true }));
    const path = join(dir, 'kv.sock');
    const killed = await startKv(t, datapath, ['--unixsocket', path]);
    if (killed === null) return;
    const taken = startIsthmus(['kv', '--port', '0', '--datapath', datapath, '--unixsocket', path]);
    await assert.rejects(taken, /EADDRINUSE/);
    killed.child.kill('SIGKILL');
    await killed.exited;
    assert.ok(existsSync(path));
    const server = await startKv(t, datapath, ['--unixsocket', path]);
    const client = await RawClient.open(path);
    assert.equal(await client.ask(request('PING')), '+PONG');
    await client.send(request('CLIENT', 'INFO'));
    await client.until(20);
    assert.match(client.take(), new RegExp(` laddr=${path}:0 `));
    client.destroy();
    assert.equal(await server!.stop(), 0);
    assert.equal(existsSync(path), false);
  });

  it('says in one line what is wrong with where it shall listen', async (t) => {
    const server = await startKv(t, datapath);
    if (server === null) return;
    const dir = mkdtempSync(join(tmpdir(), 'isthmus-kv-'));
    t.after(() => rmSync(dir, { recursive: true }));
    const file = join(dir, 'file');
    writeFileSync(file, 'not a socket');
    const wrong: readonly (readonly [args: readonly string[], message: RegExp])[] = [
      [['--port', String(server.port)], /EADDRINUSE: .*127\.0\.0\.1/],
      [['--port', '0', '--host', '192.0.2.1'], /EADDRNOTAVAIL: .*192\.0\.2\.1/],
      [['--port', '0', '--host', 'nowhere'], /nowhere/],
      [['--port', '0', '--unixsocket', join(dir, 'missing', 'kv.sock')], /ENOENT: .*kv\.sock/],
      [['--port', '0', '--unixsocket', file], /EADDRINUSE: .*file/],
    ];
    const ends = wrong.map(([args, message]) =>
      assert.rejects(startIsthmus(['kv', '--datapath', datapath, ...args]), message),
    );
    await Promise.all(ends);
  });
});

it('says in one line what is wrong with an option', async () => {
  const wrong = [
    ['--maxmemory', 'lots'],
    ['--client-output-buffer-limit', 'x'],
  ] as const;
  const ends = wrong.map(([option, value]) =>
    assert.rejects(startIsthmus(['kv', '--port', '0', option, value]), new RegExp(option.slice(2))),
  );
  await Promise.all(ends);
});
