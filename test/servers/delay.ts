/**
 * A delay line for tests: a TCP proxy with a fixed time one way, ended with the test.
 * It touches loopback and a thread of its own.
 *
 *     const line = await startDelay(t, { port: server.port, oneWayMs: 15 })
 *     connectFiles(server.url('3', line.port)); line.setOneWayMs(0); line.cut()
 */
import type { TestContext } from 'node:test';
import { type DelayLine, type DelayLineOptions, startDelayLine } from '../../src/bench/peers/delay-line.ts';

export async function startDelay(t: TestContext, options: DelayLineOptions): Promise<DelayLine> {
  const line = await startDelayLine(options);
  t.after(() => line.close());
  return line;
}
