/**
 * The session and this machine's kernel, with a server in memory: what the kernel keeps by itself, and how it is made to
 * forget. It mounts in this process; programs are children outside of it, since this thread has to answer them:
 * starting one waits for its working directory.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { mountView } from '../../../src/remote/fuse/mount.ts';
import { FileType } from '../../../src/remote/server.ts';
import { type Clock, systemClock } from '../../../src/remote/view/clock.ts';
import { openView } from '../../../src/remote/view/view.ts';
import { MemoryServer } from '../memory-server.ts';
import { mountPoint, needFuse, shell } from './support.ts';

/** No delay at all would starve the device. */
const soon: Clock = {
  ...systemClock,
  after: (_ms, action) => {
    setImmediate(action);
    return () => {};
  },
};

test('what the kernel keeps, it keeps as long as it was told, and forgets when it is told', async (t) => {
  if (!needFuse(t)) return;
  const server = new MemoryServer({ clock: soon });
  const { tree } = server;
  const file = tree.add(tree.root, 'f', FileType.regular, { mode: 0o644 });
  tree.write(file, 0, Buffer.from('one'));
  const view = await openView(server, systemClock);
  const mounted = mountView(view, { directory: mountPoint(t), source: 'memory' });
  t.after(() => mounted.unmount());
  const { session, directory } = mounted;
  const stat = async (): Promise<string> => (await shell('stat -c "%a %s" "$1"/f', '/', [directory])).stdout.trim();
  assert.equal(await stat(), '644 3');
  const before = session.runCounters.requests;
  assert.equal(await stat(), '644 3');
  assert.equal(session.runCounters.requests, before, 'the kernel answered alone');
  // Another object by that name: the kernel would not know for half a minute.
  tree.unlink(tree.root, 'f');
  const other = tree.add(tree.root, 'f', FileType.regular, { mode: 0o600 });
  tree.write(other, 0, Buffer.from('other'));
  assert.equal(await stat(), '644 3');
  view.doubtName(view.root, 'f');
  await session.invalidateName(view.root, 'f');
  assert.equal(await stat(), '600 5');
  // And data: pages are dropped with it.
  assert.equal((await shell('cat "$1"/f', '/', [directory])).stdout, 'other');
  const node = view.nameOf(view.root, 'f')!.node!;
  const reads = server.calls['read'];
  await session.invalidateData(node);
  assert.equal((await shell('cat "$1"/f', '/', [directory])).stdout, 'other');
  assert.equal(server.calls['read'], reads, 'the view still had it');
  await session.invalidateName(view.root, 'nothing'); // no name, no error
  assert.equal(session.lastFault, null);
  assert.equal(session.counters.malformed, 0);
});

test('many programs at once, and every request is answered', async (t) => {
  if (!needFuse(t)) return;
  const server = new MemoryServer({ clock: soon });
  const view = await openView(server, systemClock);
  const mounted = mountView(view, { directory: mountPoint(t), source: 'memory' });
  t.after(() => mounted.unmount());
  const script =
    'mkdir "$1/$2" && cd "$1/$2" && for i in 1 2 3 4 5 6 7 8; do echo $i > f$i; cat f$i; mv f$i g$i; ln g$i h$i; rm g$i; done; ls | wc -l';
  const all = Array.from({ length: 12 }, (_, i) => shell(script, '/', [mounted.directory, `d${i}`]));
  for (const { stdout, stderr } of await Promise.all(all)) assert.equal(stdout, '1\n2\n3\n4\n5\n6\n7\n8\n8\n', stderr);
  assert.equal(server.tree.describe().length, 12 * 9);
  assert.equal(mounted.session.waiting, 0);
  assert.equal(mounted.session.lastFault, null);
  assert.equal(await mounted.unmount(), 0);
});
