/** Faults, a capture and a trace, as a command line asks for them, between a program and the kernel's TCP. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { it } from 'node:test';
import { createNamespace } from '../../src/linux/namespace.ts';
import { type CapturedFrame, readPcapng } from '../net/middleware/pcapng.ts';
import { startIsthmus } from '../support/child-server.ts';
import { hasCommand, need } from '../support/need.ts';
import { Peer, refusalOf } from './ground.ts';

const PORT = 7000;
const LAYERS = 14 + 20;

/** Where the data of a TCP segment is in its stream, and how much; null of other frames. */
function dataOf({ bytes, direction }: CapturedFrame): { direction: number; seq: number; length: number } | null {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  if (bytes.length < LAYERS + 20 || view.getUint16(12) !== 0x0800 || bytes[23] !== 6) return null;
  const length = view.getUint16(16) - 20 - (bytes[LAYERS + 12]! >> 4) * 4;
  return length > 0 ? { direction, seq: view.getUint32(LAYERS + 4), length } : null;
}

it('`isthmus echo` answers rightly over a bad wire, and what was on the wire is in the capture', async (t) => {
  const why = refusalOf('tap');
  if (!need(t, why === '', why)) return;
  const directory = mkdtempSync(join(tmpdir(), 'isthmus-capture-'));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  const file = join(directory, 'echo.pcapng');
  const namespace = createNamespace();
  t.after(() => namespace.close());
  const peer = new Peer(namespace);
  t.after(() => peer.close());
  const faults = 'faults=loss:0.05,duplication:0.05,reordering:0.05,corruption:0.02,seed:7';
  const datapath = `tap:t0,10.9.0.2/24,host=10.9.0.1/24,${faults},pcap=${file},trace`;
  const args = ['echo', '--host', '10.9.0.2', '--port', `${PORT}`, '--datapath', datapath];
  const server = await namespace.run(() => ({ started: startIsthmus(args) })).started;
  t.after(() => server.stop());
  assert.equal(await peer.number({ do: 'many', host: '10.9.0.2', port: PORT, count: 20 }), 20);
  assert.equal(await server.stop(), 0);

  const traced = server.stderr().split('\n');
  assert.ok(traced.some((line) => /^[\d.]+ < 10\.9\.0\.1:\d+ > 10\.9\.0\.2:7000 tcp /.test(line)));
  const { link, records } = readPcapng(readFileSync(file));
  assert.equal(link, 1);
  assert.ok(records.every(({ ms }) => Math.abs(ms - Date.now()) < 600_000));
  // The wire shows what the faults did: data of ours that went out twice.
  const seen = new Set<string>();
  const again = records.map(dataOf).filter((data) => {
    if (data === null) return false;
    const key = JSON.stringify(data);
    const known = seen.has(key);
    seen.add(key);
    return known;
  });
  assert.ok(seen.size > 60 && again.length > 0, `${seen.size} segments with data, ${again.length} of them again`);
  if (!hasCommand('tcpdump')) return;
  const lines = execFileSync('tcpdump', ['-nn', '-r', file], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
  assert.equal(lines.match(/^\d\d:\d\d:\d\d\.\d{6} .*/gm)?.length, records.length);
});
