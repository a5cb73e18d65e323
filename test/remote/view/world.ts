/** A view of a file server in memory, in simulated time, and somebody who uses it. It touches nothing else. */
import { openView, type View, type ViewOptions } from '../../../src/remote/view/view.ts';
import { MemoryServer, type MemoryServerOptions } from '../memory-server.ts';
import type { MemoryTree } from '../memory-tree.ts';
import { SimulatedClock } from '../simulated-clock.ts';
import { Driver } from './driver.ts';

export interface World {
  readonly clock: SimulatedClock;
  readonly server: MemoryServer;
  /** What the server has. */
  readonly tree: MemoryTree;
  readonly view: View;
  readonly driver: Driver;
}

export async function makeWorld(
  options: Partial<ViewOptions> = {},
  serverOptions: Partial<MemoryServerOptions> = {},
): Promise<World> {
  const clock = new SimulatedClock();
  const server = new MemoryServer({ ...serverOptions, clock });
  const view = await clock.until(openView(server, clock, options));
  return { clock, server, tree: server.tree, view, driver: new Driver(view) };
}
