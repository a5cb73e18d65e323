/**
 * The `tap` datapath: our own TCP/IP over a tap device, with addresses of its own; the host is its neighbour.
 * It makes the interface and puts the stack on it; both go with the process.
 */
import type { HeapOptions } from '../ring/heap.ts';
import type { StackDatapathOptions } from './stack/core.ts';
import { StackDatapath } from './stack.ts';
import { TapLink } from './tap/link.ts';
import { parseTapSpec } from './tap/options.ts';

export interface TapOptions extends StackDatapathOptions {
  readonly heap?: HeapOptions;
}

export class TapDatapath extends StackDatapath {
  readonly link: TapLink;

  /** Use {@link openTap}. */
  constructor(link: TapLink, options: StackDatapathOptions) {
    super(link, options);
    this.link = link;
  }
}

/**
 * Opens a tap in the calling thread's network namespace.
 * @param text what follows `tap:`, see {@link parseTapSpec}
 * @throws IsthmusError EINVAL, and as TapLink does
 */
export function openTap(text: string, options: TapOptions = {}): TapDatapath {
  const { heap, ...rest } = options;
  const link = new TapLink({ spec: parseTapSpec(text), ...(heap && { heap }) });
  try {
    return new TapDatapath(link, rest);
  } catch (error) {
    link.dispose();
    throw error;
  }
}
