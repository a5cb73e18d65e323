/**
 * Reads bulk flows and keeps nothing of them: a program with the datapath and the address as arguments.
 * It touches a kernel of its own; it prints its port and runs until it is killed.
 */
import { startKernel } from '../cli/launch.ts';

const [datapath = 'auto', host = '127.0.0.1'] = process.argv.slice(2);
const { kernel } = await startKernel(datapath);
const listener = kernel.listen({ host });
kernel.spawn(
  listener.serve(function* (conn) {
    for (;;) {
      const buffer = yield* conn.pop();
      if (buffer === null) return;
      buffer.release();
    }
  }),
);
const { address } = listener;
process.stdout.write(`stream-sink: tcp ${host}:${'port' in address ? address.port : 0}\n`);
