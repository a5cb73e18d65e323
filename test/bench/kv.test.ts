/** What redis-benchmark prints, and what is taken from it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseRedisBenchmark } from '../../src/bench/kv.ts';

const CSV = `"test","rps","avg_latency_ms","min_latency_ms","p50_latency_ms","p95_latency_ms","p99_latency_ms","max_latency_ms"
"SET","611246.94","1.202","0.256","1.191","1.399","1.607","2.543"
`;

test('the line of a test', () => {
  assert.deepEqual(parseRedisBenchmark(CSV), { messagesPerSecond: 611246.94, p50Us: 1191, p99Us: 1607 });
});

test('a complaint is an error', () => {
  for (const text of [
    '',
    'Could not connect to Redis at 127.0.0.1:1: Connection refused\n',
    CSV.split('\n')[0]!,
    `${CSV}"SET","x","","","","","",""\n`,
  ]) {
    assert.throws(() => parseRedisBenchmark(text), /redis-benchmark said/);
  }
});
