/**
 * Which datapaths can be had here: each is opened and closed again, since only trying tells.
 * It touches what the datapaths touch.
 */
import { openDatapath } from '../datapath/select.ts';
import { type Datapath, Kernel } from '../index.ts';

/** What `auto` would take, and the line that says so. */
export async function automaticDatapath(): Promise<{ name: string; line: string }> {
  const { datapath, line } = await openDatapath('auto');
  giveBack(datapath);
  return { name: datapath.name, line };
}

/** Why a datapath cannot be had; null where it can. */
export async function datapathRefusal(name: string): Promise<string | null> {
  try {
    giveBack((await openDatapath(name)).datapath);
    return null;
  } catch (error) {
    return (error as Error).message;
  }
}

function giveBack(datapath: Datapath): void {
  new Kernel(datapath).dispose();
}
