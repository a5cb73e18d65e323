// Serves one page over HTTP/1.1, whatever is asked for: enough for curl, on any datapath.
// Run it: PORT=8080 npx isthmus run static-page.ts --datapath tap:t0,10.9.0.2/24,host=10.9.0.1/24
import type { Connection, Kernel } from 'isthmus';

export const PAGE = 'past the kernel\n'.repeat(20_000);
const HEAD = `HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: ${PAGE.length}\r\n\r\n`;
const END = '\r\n\r\n';

export default function* main(k: Kernel) {
  const listener = yield* k.listen({ host: '::', port: Number(process.env.PORT ?? 8080) });
  for (;;) k.spawn(serve(yield* listener.accept()));
}

function* serve(conn: Connection) {
  let heard = '';
  for (;;) {
    const buffer = yield* conn.pop();
    if (buffer === null) return;
    heard += buffer.text();
    buffer.release();
    for (let end = heard.indexOf(END); end >= 0; end = heard.indexOf(END)) {
      heard = heard.slice(end + END.length);
      yield* conn.write(HEAD + PAGE);
    }
  }
}
