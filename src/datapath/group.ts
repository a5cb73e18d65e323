/**
 * Several kernels of one process on one datapath: what they must have in common is made once, and each is given its share.
 * It opens the group of the datapath named; most have none, since each of their kernels stands alone.
 */
import type { OpenOptions } from './select.ts';
import { parseSpec } from './spec.ts';

export interface DatapathGroup {
  /** What kernel number `kernel`, from 0 on, is started with (ProgramOptions, OpenOptions). */
  options(kernel: number): Pick<OpenOptions, 'share'>;
  /** After the last kernel has ended. Idempotent. */
  close(): void;
}

const ALONE: DatapathGroup = { options: () => ({}), close: () => {} };

/**
 * @param spec as `--datapath`
 * @throws IsthmusError where the datapath cannot have so many kernels, or cannot be had at all
 */
export async function openGroup(spec: string, kernels: number): Promise<DatapathGroup> {
  const { kind, text } = parseSpec(spec);
  if (kind !== 'xdp' || text === null || kernels === 1) return ALONE;
  const { openXdpGroup } = await import('./xdp/group.ts');
  const group = openXdpGroup(text, kernels);
  return { options: (kernel) => ({ share: group.share(kernel) }), close: () => group.close() };
}
