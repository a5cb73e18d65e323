/** Programs that everybody has, in the peer's namespace, against programs of ours on xdp and tap: nobody there knows of us. */
import assert from 'node:assert/strict';
import { after, before, describe, it, type TestContext } from 'node:test';
import { kv } from '../../src/apps/kv/app.ts';
import { EVENT_LOOP } from '../../src/kernel/host.ts';
import { hasCommand, need } from '../support/need.ts';
import { runApp } from '../support/run-app.ts';
import { Ground, LINKS, refusalOf } from './ground.ts';
import portRelay from './port-relay.ts';
import staticPage, { PAGE } from './static-page.ts';
import { settle } from './trials.ts';

const PAGE_PORT = 8080;
const KV_PORT = 6379;
const RELAY_PORT = 5202;
const IPERF_PORT = 5201;

for (const link of LINKS) {
  const why = refusalOf(link);

  describe(`on ${link}`, { timeout: 120_000 }, () => {
    let ground: Ground | null = null;
    before(() => {
      if (why !== '') return;
      ground = new Ground({ link, policy: EVENT_LOOP });
      const { k, theirs } = ground;
      Object.assign(process.env, { PORT: PAGE_PORT, FROM: RELAY_PORT, TO: `${theirs[0]}:${IPERF_PORT}` });
      k.spawn(staticPage(k));
      k.spawn(portRelay(k));
      runApp(k, kv, { host: '::', port: KV_PORT });
    });
    after(() => ground?.close());

    /** The ground, where there is one and the program is installed. */
    function having(t: TestContext, program: string): Ground | null {
      const possible = need(t, why === '', why) && need(t, hasCommand(program), `${program} is not installed`);
      return possible ? ground : null;
    }

    it('curl gets a page, twice on one connection, over IPv4 and IPv6', async (t) => {
      const g = having(t, 'curl');
      if (g === null) return;
      for (const host of [g.ours[0], `[${g.ours[1]}]`]) {
        const url = `http://${host}:${PAGE_PORT}/`;
        const out = await g.command('curl', '-sS', '-w', '%{num_connects}', url, url);
        assert.equal(out, `${PAGE}1${PAGE}0`);
      }
    });

    it('redis-cli asks and is answered', async (t) => {
      const g = having(t, 'redis-cli');
      if (g === null) return;
      for (const host of g.ours) {
        const ask = (...words: string[]): Promise<string> => g.command('redis-cli', '-h', host, ...words);
        assert.equal(await ask('set', 'where', 'past the kernel'), 'OK\n');
        assert.equal(await ask('get', 'where'), 'past the kernel\n');
        assert.equal(await ask('lpush', host, 'a', 'b', 'c'), '3\n');
        assert.equal(await ask('lrange', host, '0', '-1'), 'c\nb\na\n');
      }
    });

    it('redis-benchmark runs to its end', async (t) => {
      const g = having(t, 'redis-benchmark');
      if (g === null) return;
      const load = ['-n', '3000', '-c', '50', '-P', '4', '-d', '100', '-t', 'set,get,incr', '--csv'];
      const rows = (await g.command('redis-benchmark', '-h', g.ours[0], ...load)).trim().split('\n').slice(1);
      assert.equal(rows.length, 3, rows.join('\n'));
      for (const row of rows) assert.match(row, /^"(SET|GET|INCR)","[\d.]+"/);
    });

    it('iperf3 sends and receives through a relay of ports', async (t) => {
      const g = having(t, 'iperf3');
      if (g === null) return;
      await g.serve(/Server listening/, 'iperf3', '-s', '-B', g.theirs[0], '-p', `${IPERF_PORT}`, '--forceflush');
      for (const reverse of [[], ['-R']]) {
        const args = ['-c', g.ours[0], '-p', `${RELAY_PORT}`, '-n', '20M', '-J', ...reverse];
        const { end } = JSON.parse(await g.command('iperf3', ...args));
        assert.ok(end.sum_sent.bytes >= 20e6, `${end.sum_sent.bytes} bytes sent`);
        // Its test is over, by its other connection, while the relay still holds the last megabytes.
        assert.ok(end.sum_received.bytes > 10e6, `${end.sum_received.bytes} bytes received`);
      }
    });

    it('ping is answered, over IPv4 and IPv6, in pieces too', async (t) => {
      const g = having(t, 'ping');
      if (g === null) return;
      for (const host of g.ours) {
        for (const size of ['56', '4000']) {
          const out = await g.command('ping', '-c', '3', '-i', '0.02', '-W', '10', '-s', size, host);
          assert.match(out, /3 packets transmitted, 3 received, 0% packet loss/);
        }
      }
    });

    it('nothing of it is left', async (t) => {
      if (!need(t, why === '', why)) return;
      const listening = 3;
      await settle(ground!, listening);
    });
  });
}
