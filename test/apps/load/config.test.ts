/** Targets as people write them. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseTarget } from '../../../src/apps/load/config.ts';
import { UsageError } from '../../../src/apps/options.ts';

test('targets', () => {
  const at = (host: string, port: number) => ({ host, port });
  for (const [text, protocol, address] of [
    ['tcp://127.0.0.1:7000', 'tcp', at('127.0.0.1', 7000)],
    ['10.1.2.3:80', 'tcp', at('10.1.2.3', 80)],
    [':9000', 'tcp', at('127.0.0.1', 9000)],
    ['localhost:9000', 'tcp', at('127.0.0.1', 9000)],
    ['udp://[::1]:7', 'udp', at('::1', 7)],
    ['resp://127.0.0.1', 'resp', at('127.0.0.1', 6379)],
    ['resp://127.0.0.1:6380/', 'resp', at('127.0.0.1', 6380)],
    ['connect://[fe80::1%2]:80', 'connect', at('fe80::1%2', 80)],
    ['tcp:///run/x.sock', 'tcp', { path: '/run/x.sock' }],
    ['/run/x.sock', 'tcp', { path: '/run/x.sock' }],
    ['resp://@name', 'resp', { path: '\0name' }],
  ] as const) {
    assert.deepEqual(parseTarget(text), { protocol, address }, text);
  }
});

test('what is no target', () => {
  for (const text of [
    'http://x',
    'tcp://127.0.0.1:0',
    'tcp://127.0.0.1:65536',
    'tcp://::1:80',
    '1:2:3',
    'udp:///run/x',
    'tcp://[::1',
  ]) {
    assert.throws(() => parseTarget(text), UsageError, text);
  }
});
