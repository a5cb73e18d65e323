/**
 * One bulk flow between two stacks in one thread, on request: a program for fork that answers as load-worker.ts does.
 * It touches only its channel to the parent. A message is a piece of the stream.
 */
import { StackDatapath } from '../datapath/stack.ts';
import { Kernel } from '../kernel/kernel.ts';
import type { LoadRequest } from './load-worker.ts';
import { PIECE_BYTES, streamReport } from './stream-report.ts';
import { wireInMemory } from './stream-wire.ts';

/** Turns of both between two looks at the clock. */
const TURNS = 64;

process.on('message', ({ args }: LoadRequest) => {
  const [seconds, warmup] = args.map(Number);
  process.send!({ report: measure(seconds!, warmup!) });
});
process.on('disconnect', () => process.exit());
process.on('SIGINT', () => {});

function measure(seconds: number, warmup: number): object {
  const [left, right] = wireInMemory();
  const a = new Kernel(new StackDatapath(left));
  const b = new Kernel(new StackDatapath(right));
  const listener = b.listen({ host: '10.0.0.2', port: 7000 });
  let received = 0;
  b.spawn(
    listener.serve(function* (conn) {
      for (;;) {
        const buffer = yield* conn.pop();
        if (buffer === null) return;
        received += buffer.length;
        buffer.release();
      }
    }),
  );
  a.spawn(
    (function* () {
      const conn = yield* a.connect({ host: '10.0.0.2', port: 7000 });
      const piece = a.alloc(PIECE_BYTES);
      for (;;) yield* conn.push(piece.retain());
    })(),
  );
  const run = (forSeconds: number) => {
    const before = received;
    const start = performance.now();
    let elapsed: number;
    do {
      for (let i = 0; i < TURNS; i++) {
        a.turn(0);
        b.turn(0);
      }
      elapsed = (performance.now() - start) / 1000;
    } while (elapsed < forSeconds);
    return streamReport(received - before, elapsed, 0);
  };
  run(warmup);
  const report = run(seconds);
  a.dispose();
  b.dispose();
  return report;
}
