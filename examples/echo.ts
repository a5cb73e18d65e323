// A TCP echo server. The buffer that arrives is the buffer that leaves: nothing is copied.
// Run it: npx isthmus run examples/echo.ts
import type { Connection, Kernel } from 'isthmus';

export default function* main(k: Kernel) {
  const listener = yield* k.listen({ port: Number(process.env.PORT ?? 7000) });
  for (;;) k.spawn(echo(yield* listener.accept()));
}

function* echo(conn: Connection) {
  for (;;) {
    const buf = yield* conn.pop();
    if (buf === null) return; // the peer is done; the connection closes with its coroutine
    yield* conn.push(buf);
  }
}
