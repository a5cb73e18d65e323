// Passes TCP connections on to a partner, both ways: how programs like iperf3 reach through an Isthmus datapath.
// Run it: FROM=5201 TO=10.9.0.1:5201 npx isthmus run port-relay.ts --datapath tap:t0,10.9.0.2/24,host=10.9.0.1/24
import type { Connection, Kernel } from 'isthmus';

export default function* main(k: Kernel) {
  const [host = '', port = ''] = (process.env.TO ?? '').split(':');
  const listener = yield* k.listen({ port: Number(process.env.FROM) });
  for (;;) k.spawn(relay(k, (yield* listener.accept()).detach(), { host, port: Number(port) }));
}

function* relay(k: Kernel, client: Connection, to: { host: string; port: number }) {
  const server = (yield* k.connect(to)).detach();
  const there = k.spawn(pass(client, server));
  yield* pass(server, client);
  yield* there.join();
  client.close();
  server.close();
}

function* pass(from: Connection, to: Connection) {
  try {
    for (;;) {
      const buffer = yield* from.pop();
      if (buffer === null) break;
      yield* to.push(buffer);
    }
    to.end();
  } catch {
    // What breaks on one side breaks on the other.
    from.abort();
    to.abort();
  }
}
