/**
 * What the view promises when another client changes the tree: close-to-open, and names and attributes that are never older
 * than their time. All of it in simulated time.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { ERRNO } from '../../../src/errors.ts';
import { FileType } from '../../../src/remote/server.ts';
import { openFile } from '../../../src/remote/view/files.ts';
import type { ViewNode } from '../../../src/remote/view/node.ts';
import { Open, wantedAccess } from '../../../src/remote/view/operations/reading.ts';
import type { MemoryServer } from '../memory-server.ts';
import type { MemoryTree } from '../memory-tree.ts';
import { type Driver, Failed } from './driver.ts';
import { makeWorld, type World } from './world.ts';

const text = (value: string): Uint8Array => Buffer.from(value);

function addFile(tree: MemoryTree, path: string, content: string): void {
  const cut = path.lastIndexOf('/');
  const inode = tree.add(tree.at(path.slice(0, cut)), path.slice(cut + 1), FileType.regular, { mode: 0o644 });
  tree.write(inode, 0, text(content));
}

/** Opens and reads all of it, as `cat` does. */
async function cat({ driver }: World, path: string): Promise<string> {
  const file = await driver.open(path);
  const bytes = await driver.read(file, 0, 100_000);
  await driver.close(file);
  return Buffer.from(bytes).toString();
}

test('open sees what another client has written, even with the same size and modification time', async () => {
  const world = await makeWorld();
  const { clock, tree } = world;
  addFile(tree, '/f', 'one');
  assert.equal(await clock.until(cat(world, '/f')), 'one');
  assert.equal(await clock.until(cat(world, '/f')), 'one');
  const inode = tree.at('/f');
  const { mtime } = inode;
  tree.write(inode, 0, text('two'));
  tree.set(inode, { mtime });
  assert.equal(await clock.until(cat(world, '/f')), 'two');
});

test('a file that nobody changes is read from the server once', async () => {
  const world = await makeWorld();
  const { clock, server, tree } = world;
  addFile(tree, '/f', 'one');
  for (let i = 0; i < 5; i++) assert.equal(await clock.until(cat(world, '/f')), 'one');
  assert.equal(server.calls['read'], 1);
  assert.equal(server.calls['lookup'], 1);
  assert.equal(server.calls['access'], 5, 'each open asks');
});

test('what was written here is read again without asking for the data', async () => {
  const world = await makeWorld();
  const { clock, driver, server } = world;
  const file = await clock.until(driver.create('/f', 0o644));
  await clock.until(driver.write(file, 0, text('own')));
  await clock.until(driver.close(file));
  assert.equal(await clock.until(cat(world, '/f')), 'own');
  assert.equal(server.calls['read'] ?? 0, 0);
  assert.equal(server.calls['write'], 1, 'one stable write');
  assert.equal(server.calls['commit'] ?? 0, 0);
});

test('a name that appears or vanishes elsewhere is seen within a minute', async () => {
  const world = await makeWorld();
  const { clock, tree, driver } = world;
  addFile(tree, '/old', 'x');
  await clock.until(driver.list('/'));
  await assert.rejects(clock.until(driver.stat('/new')), { errno: ERRNO.ENOENT });
  addFile(tree, '/new', 'y');
  tree.unlink(tree.root, 'old');
  await clock.pass(60_001);
  assert.match(await clock.until(driver.stat('/new')), /^1 644/);
  await assert.rejects(clock.until(driver.stat('/old')), { errno: ERRNO.ENOENT });
  assert.equal(await clock.until(driver.list('/')), 'new');
});

test('a listing is as new as its reading', async () => {
  const { clock, tree, driver } = await makeWorld();
  addFile(tree, '/a', 'x');
  assert.equal(await clock.until(driver.list('/')), 'a');
  addFile(tree, '/b', 'x');
  assert.equal(await clock.until(driver.list('/')), 'a b');
});

test('attributes of a quiet file are asked for less and less often', async () => {
  const { clock, tree, driver, server } = await makeWorld();
  addFile(tree, '/f', 'x');
  await clock.until(driver.stat('/f'));
  const before = server.calls['getattr'] ?? 0;
  for (let i = 0; i < 120; i++) {
    await clock.pass(1000);
    await clock.until(driver.stat('/f'));
  }
  const asked = (server.calls['getattr'] ?? 0) + (server.calls['lookup'] ?? 0) - before;
  assert.ok(asked < 14, `asked ${asked} times in two minutes`);
  // And a change makes it short again.
  tree.set(tree.at('/f'), { mode: 0o600 });
  await clock.pass(60_001);
  assert.match(await clock.until(driver.stat('/f')), /^1 600/);
  tree.set(tree.at('/f'), { mode: 0o640 });
  await clock.pass(3001);
  assert.match(await clock.until(driver.stat('/f')), /^1 640/);
});

test('a full server: the write succeeds, close says so, once', async () => {
  const { clock, server, driver } = await makeWorld();
  server.tree.capacity = 10;
  const file = await clock.until(driver.create('/f', 0o644));
  await clock.until(driver.write(file, 0, new Uint8Array(100)));
  await assert.rejects(clock.until(driver.close(file)), { errno: ERRNO.ENOSPC });
  const again = await clock.until(driver.open('/f'));
  await clock.until(driver.close(again));
  assert.equal(server.tree.at('/f').data.byteLength, 0);
});

test('a file removed elsewhere while it is open is stale', async () => {
  const { clock, tree, driver } = await makeWorld();
  addFile(tree, '/f', 'x');
  const file = await clock.until(driver.open('/f'));
  tree.unlink(tree.root, 'f');
  await assert.rejects(clock.until(driver.read(file, 0, 10)), { errno: ERRNO.ESTALE });
  await clock.until(driver.close(file));
  await assert.rejects(clock.until(driver.stat('/f')), { errno: ERRNO.ENOENT });
});

const RUNS = Number(process.env['ISTHMUS_VIEW_RUNS'] ?? 200);

interface Change {
  readonly kind: 'write' | 'truncate' | 'remove' | 'add' | 'replace' | 'read' | 'look' | 'list' | 'wait';
  readonly a: number;
  readonly n: number;
}

const changes = fc.array(
  fc.record({
    kind: fc.constantFrom<Change['kind']>(
      'write',
      'truncate',
      'remove',
      'add',
      'replace',
      'read',
      'look',
      'list',
      'wait',
    ),
    a: fc.nat(2),
    n: fc.nat(50),
  }),
  { maxLength: 40, size: 'max' },
);

test('close-to-open against a client that changes everything at random', async () => {
  const property = fc.asyncProperty(changes, async (program) => {
    const world = await makeWorld();
    const { clock, tree, driver, view } = world;
    for (const name of 'abc') addFile(tree, `/${name}`, name);
    // As the kernel does: names looked up once, nodes kept.
    const nodes = new Map<string, ViewNode>();
    for (const { kind, a, n } of program) {
      const name = 'abc'[a]!;
      const inode = tree.root.entries.get(name);
      if (kind === 'write' && inode) tree.write(inode, n, text(`${n}`));
      else if (kind === 'truncate' && inode) tree.set(inode, { size: n });
      else if (kind === 'remove' && inode) tree.unlink(tree.root, name);
      else if (kind === 'add' && !inode) addFile(tree, `/${name}`, `${n}`);
      else if (kind === 'replace') {
        addFile(tree, '/t', `${n}`);
        tree.rename(tree.root, 't', tree.root, name);
      } else if (kind === 'wait') await clock.pass(n * 500);
      else if (kind === 'look') nodes.set(name, await clock.until(lookUp(driver, name)));
      else if (kind === 'list')
        assert.equal(await clock.until(driver.list('/')), [...tree.root.entries.keys()].sort().join(' '));
      else if (kind === 'read') {
        const node = nodes.get(name);
        if (node === undefined) continue;
        const truth = tree.inode(node.attributes.fileidLow);
        const seen = await clock.until(readNode(world, node));
        assert.equal(seen, truth === undefined ? 'errno 116' : Buffer.from(truth.data).toString());
      }
    }
    await clock.pass(60_001);
    for (const name of 'abc') {
      const inode = tree.root.entries.get(name);
      const seen = await clock.until(cat(world, `/${name}`).catch((error) => error.errno as number));
      assert.equal(seen, inode === undefined ? ERRNO.ENOENT : Buffer.from(inode.data).toString());
    }
    assert.equal(view.writeBack.unwrittenBytes, 0);
  });
  await fc.assert(property, { numRuns: RUNS });
});

async function lookUp(driver: Driver, name: string): Promise<ViewNode> {
  try {
    return await driver.walk(`/${name}`);
  } catch (error) {
    if (error instanceof Failed) return driver.view.root;
    throw error;
  }
}

async function readNode({ view, driver }: World, node: ViewNode): Promise<string> {
  if (node === view.root) return Buffer.from((view.server as MemoryServer).tree.root.data).toString();
  try {
    await driver.run(new Open(view, { credential: null, thread: 0 }, node, wantedAccess(0)));
    const file = openFile(node, 0, null);
    const bytes = await driver.read(file, 0, 1000);
    await driver.close(file);
    return Buffer.from(bytes).toString();
  } catch (error) {
    if (error instanceof Failed) return `errno ${error.errno}`;
    throw error;
  }
}
