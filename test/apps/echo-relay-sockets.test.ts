/** The echo server and the relay as child processes, over each datapath of real sockets, spoken to with node:net and node:dgram. */
import assert from 'node:assert/strict';
import { createSocket, type Socket } from 'node:dgram';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { it } from 'node:test';
import { overDatapaths, startApp } from '../support/app-servers.ts';
import { startIsthmus } from '../support/child-server.ts';
import { RawClient } from '../support/raw-client.ts';

/** A UDP client: `ask` sends a datagram, again every 200 ms in case it is lost, until one comes back. */
class Datagrams {
  readonly socket: Socket = createSocket('udp4');

  ask(text: string, port: number): Promise<string> {
    return new Promise((resolve) => {
      const send = (): void => this.socket.send(text, port, '127.0.0.1');
      const timer = setInterval(send, 200);
      this.socket.once('message', (message) => {
        clearInterval(timer);
        resolve(message.toString());
      });
      send();
    });
  }

  close(): void {
    this.socket.close();
  }
}

overDatapaths('echo and relay', (datapath) => {
  it('echoes streams and datagrams on one port, and ends cleanly', async (t) => {
    const echo = await startApp(t, datapath, ['echo', '--port', '0']);
    if (echo === null) return;
    assert.match(echo.line, /^isthmus echo: tcp 127\.0\.0\.1:(\d+), udp 127\.0\.0\.1:\1 /);
    const client = await RawClient.open(echo.port);
    const large = Buffer.alloc(3_000_000, 'abcdefghij');
    void client.send(large);
    await client.until(large.length);
    assert.ok(client.take() === large.toString('latin1'));
    client.socket.end();
    assert.equal(await client.end(), '');
    client.destroy();
    const datagrams = new Datagrams();
    assert.equal(await datagrams.ask('a datagram', echo.port), 'a datagram');
    datagrams.close();
    assert.equal(await echo.stop(), 0);
  });

  it('echoes over a Unix socket', async (t) => {
    const dir = mkdtempSync(join(tmpdir(), 'isthmus-echo-'));
    t.after(() => rmSync(dir, { recursive: true }));
    const path = join(dir, 'echo.sock');
    const echo = await startApp(t, datapath, ['echo', '--path', path]);
    if (echo === null) return;
    const client = await RawClient.open(path);
    await client.send('over a path');
    await client.until(11);
    assert.equal(client.take(), 'over a path');
    client.destroy();
  });

  it('relays to a partner and back, for several clients at once', async (t) => {
    const partner = await startApp(t, datapath, ['echo', '--port', '0', '--udp']);
    if (partner === null) return;
    const to = `127.0.0.1:${partner.port}`;
    const relay = await startApp(t, datapath, ['relay', '--from', '0', '--to', to]);
    const clients = Array.from({ length: 20 }, () => new Datagrams());
    const answers = await Promise.all(clients.map((client, i) => client.ask(`client ${i}`, relay!.port)));
    assert.deepEqual(
      answers,
      clients.map((_, i) => `client ${i}`),
    );
    for (const client of clients) client.close();
    assert.equal(await relay!.stop(), 0);
  });

  it('says what is wrong with an endpoint', async () => {
    const wrong = startIsthmus(['relay', '--datapath', datapath, '--from', '0', '--to', 'nowhere']);
    await assert.rejects(wrong, /ADDRESS:PORT/);
  });
});
