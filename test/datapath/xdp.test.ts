/** The xdp datapath between two namespaces, against sockets of the host: both address modes, both directions. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { NetworkSetup } from '../../src/linux/network-setup.ts';
import { NetworkReader } from '../../src/linux/rtnetlink.ts';
import { wordsOfText } from '../../src/net/ip/words.ts';
import { labFor, until } from '../linux/lab-support.ts';
import { ask, echoing, echoingDatagrams, exchange, past, pattern, ping, portOf, through } from './xdp-support.ts';

const BYTES = pattern(100_000);

describe('xdp with addresses of its own', () => {
  it('serves TCP and UDP over IPv4 and IPv6', async (t) => {
    const lab = labFor(t);
    if (lab === null) return;
    const { free4, free6 } = lab.server;
    const server = past(t, lab.server, `,own=${free4}/24,own=${free6}/64`);
    const client = through(t, lab.client);
    const port = portOf(echoing(server.listen('::')));
    const udpPort = portOf(echoingDatagrams(server.udp('::')));
    for (const [host, any] of [
      [free4, '0.0.0.0'],
      [free6, '::'],
    ] as const) {
      const connection = await client.connect(host, port);
      assert.deepEqual(await exchange(connection, BYTES), BYTES);
      connection.close();
      const socket = client.udp(any);
      for (const length of [0, 1, 1400, 5000]) {
        assert.deepEqual(await ask(socket, host, udpPort, pattern(length)), pattern(length), `${length} bytes`);
      }
    }
  });

  it('answers echo requests', async (t) => {
    const lab = labFor(t);
    if (lab === null) return;
    const { address4, free4, free6 } = lab.server;
    past(t, lab.server, `,own=${free4}/24,own=${free6}/64`);
    for (const host of [free4, free6, address4]) await ping(t, lab.client, host);
  });

  it('opens connections', async (t) => {
    const lab = labFor(t);
    if (lab === null) return;
    const { free4, free6 } = lab.server;
    const client = past(t, lab.server, `,own=${free4}/24,own=${free6}/64`);
    const server = through(t, lab.client);
    for (const [host, any] of [
      [lab.client.address4, '0.0.0.0'],
      [lab.client.address6, '::'],
    ] as const) {
      const port = portOf(echoing(server.listen(any)));
      const connection = await client.connect(host, port);
      assert.deepEqual(await exchange(connection, BYTES), BYTES);
      connection.close();
      const udpPort = portOf(echoingDatagrams(server.udp(any)));
      assert.deepEqual(await ask(client.udp(any), host, udpPort, pattern(900)), pattern(900));
    }
  });

  it('sends datagrams of many frames, however many frames went before', async (t) => {
    const lab = labFor(t);
    if (lab === null) return;
    const { free4 } = lab.server;
    const party = past(t, lab.server, `,own=${free4}/24`);
    const to = { host: lab.client.address4, port: portOf(echoingDatagrams(through(t, lab.client).udp('0.0.0.0'))) };
    const socket = party.udp(free4);
    assert.deepEqual(await ask(socket, to.host, to.port, pattern(9)), pattern(9));
    // More frames than the transmit ring has places; it is given back in time.
    for (let sent = 0; sent < 80; sent++) {
      await socket.push(party.kernel.alloc(60_000), to);
      await party.kernel.sleep(1);
    }
    assert.ok(party.datapath.observe()['fragmentsOut']! >= 80 * 41);
  });

  it('leaves the addresses of the host to the host, and refuses to take one', async (t) => {
    const lab = labFor(t);
    if (lab === null) return;
    const { address4, free4 } = lab.server;
    assert.throws(() => past(t, lab.server, `,own=${address4}/24`), {
      code: 'EADDRINUSE',
      message: /10\.88\.0\.1 is an address of the host; without own= it is shared/,
    });
    past(t, lab.server, `,own=${free4}/24`);
    const host = through(t, lab.server);
    const port = portOf(echoing(host.listen(address4)));
    const connection = await through(t, lab.client).connect(address4, port);
    assert.deepEqual(await exchange(connection, BYTES), BYTES);
    connection.close();
  });
});

// Each has a lab of its own, and waits for what the kernel tells now and then.
describe('xdp with the addresses of the host', { concurrency: 4 }, () => {
  it('serves TCP and UDP over IPv4 and IPv6', async (t) => {
    const lab = labFor(t);
    if (lab === null) return;
    const { address4, address6 } = lab.server;
    const server = past(t, lab.server);
    const client = through(t, lab.client);
    const port = portOf(echoing(server.listen('::')));
    const udpPort = portOf(echoingDatagrams(server.udp('::')));
    for (const [host, any] of [
      [address4, '0.0.0.0'],
      [address6, '::'],
    ] as const) {
      const connection = await client.connect(host, port);
      assert.deepEqual(await exchange(connection, BYTES), BYTES);
      connection.close();
      const socket = client.udp(any);
      for (const length of [0, 1, 1400]) {
        assert.deepEqual(await ask(socket, host, udpPort, pattern(length)), pattern(length), `${length} bytes`);
      }
    }
    assert.ok(server.datapath.observe()['link.framesIn']! > 0);
  });

  it('opens connections, from ports that the host cannot get meanwhile', async (t) => {
    const lab = labFor(t);
    if (lab === null) return;
    const client = past(t, lab.server);
    const host = through(t, lab.server);
    const server = through(t, lab.client);
    for (const [to, any] of [
      [lab.client.address4, '0.0.0.0'],
      [lab.client.address6, '::'],
    ] as const) {
      const port = portOf(echoing(server.listen(any)));
      const connection = await client.connect(to, port);
      const local = connection.localAddress as { port: number };
      assert.throws(() => host.listen(any, local.port), { code: 'EADDRINUSE' });
      assert.deepEqual(await exchange(connection, BYTES), BYTES);
      connection.close();
      const udpPort = portOf(echoingDatagrams(server.udp(any)));
      assert.deepEqual(await ask(client.udp(any), to, udpPort, pattern(900)), pattern(900));
    }
  });

  it('follows the addresses of the host as they come and go', async (t) => {
    const lab = labFor(t);
    if (lab === null) return;
    const { namespace, interfaceIndex } = lab.server;
    const server = past(t, lab.server);
    const port = portOf(echoing(server.listen('0.0.0.0')));
    const setup = namespace.run(() => new NetworkSetup());
    t.after(() => setup.close());
    const has = (address: string): boolean =>
      server.datapath.stack.addresses.list.some(({ family, w3 }) => family === 4 && w3 === wordsOfText(address).w3);
    setup.addAddress(interfaceIndex, '10.88.0.77', 24);
    await until(() => has('10.88.0.77'), 'the address is known', 30_000);
    const connection = await through(t, lab.client).connect('10.88.0.77', port);
    assert.deepEqual(await exchange(connection, BYTES), BYTES);
    connection.close();
    setup.removeAddress(interfaceIndex, '10.88.0.77', 24);
    await until(() => !has('10.88.0.77'), 'the address is forgotten', 30_000);
  });

  it('leaves every other port to the host, and gives its own back', async (t) => {
    const lab = labFor(t);
    if (lab === null) return;
    const { address4 } = lab.server;
    const server = past(t, lab.server);
    const host = through(t, lab.server);
    const client = through(t, lab.client);
    const ours = echoing(server.listen('0.0.0.0'));
    const port = portOf(ours);
    const theirs = portOf(echoing(host.listen('0.0.0.0')));
    const connection = await client.connect(address4, theirs);
    assert.deepEqual(await exchange(connection, BYTES), BYTES);
    connection.close();
    assert.throws(() => host.listen('0.0.0.0', port), { code: 'EADDRINUSE' });
    assert.throws(() => server.listen('0.0.0.0', theirs), { code: 'EADDRINUSE' });

    ours.close();
    // The host has the port again once nothing of ours can come to it any more.
    const deadline = performance.now() + 30_000;
    for (;;) {
      try {
        echoing(host.listen('0.0.0.0', port));
        break;
      } catch (error) {
        if (performance.now() > deadline) throw error;
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
    }
    const again = await client.connect(address4, port);
    assert.deepEqual(await exchange(again, BYTES), BYTES);
    again.close();
  });
});

describe('xdp on an interface', () => {
  it('says what is wrong with it', async (t) => {
    const lab = labFor(t);
    if (lab === null) return;
    const { namespace } = lab.server;
    const open = (name: string) => past(t, { ...lab.server, interfaceName: name });
    assert.throws(() => open('nowhere0'), { code: 'ENODEV', message: /there are lo, lab-server/ });
    assert.throws(() => open('lo'), { code: 'EOPNOTSUPP', message: /no Ethernet device/ });
    assert.throws(() => past(t, lab.server, ',queues=2'), { code: 'EINVAL', message: /it has 1 receive queue/ });
    const party = past(t, lab.server);
    assert.throws(() => past(t, lab.server), { code: 'EBUSY', message: /has an XDP program already/ });
    const reader = namespace.run(() => new NetworkReader());
    t.after(() => reader.close());
    assert.equal(reader.link('lab-server')!.xdp?.mode, 'generic');
    await party.close();
    assert.equal(reader.link('lab-server')!.xdp, null);
  });

  it('takes frames in native mode and in generic mode', async (t) => {
    for (const [mode, queues] of [
      ['native', 1],
      ['generic', 1],
      ['native', 2],
    ] as const) {
      const lab = labFor(t, { queues });
      if (lab === null) return;
      // With several queues native mode is taken without being asked for.
      const server = past(t, lab.server, queues === 1 ? `,mode=${mode}` : '');
      assert.match(server.datapath.about, new RegExp(`${mode} mode, frames copied`));
      const connection = await through(t, lab.client).connect(
        lab.server.address4,
        portOf(echoing(server.listen('0.0.0.0'))),
      );
      assert.deepEqual(await exchange(connection, BYTES), BYTES);
      connection.close();
    }
  });
});
