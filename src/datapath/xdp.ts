/**
 * The `xdp` datapath: our own TCP/IP over AF_XDP, past the kernel's network stack (docs/design/xdp.md).
 * It opens the link of an interface and puts the stack on it.
 */
import type { HeapOptions } from '../ring/heap.ts';
import type { StackDatapathOptions } from './stack/core.ts';
import { StackDatapath } from './stack.ts';
import { XdpLink, type XdpLinkOptions } from './xdp/link.ts';
import { parseXdpSpec } from './xdp/options.ts';

export interface XdpOptions extends StackDatapathOptions, Pick<XdpLinkOptions, 'namespace' | 'share'> {
  readonly heap?: HeapOptions;
}

export class XdpDatapath extends StackDatapath {
  readonly link: XdpLink;

  /** Use {@link openXdp}. */
  constructor(link: XdpLink, options: StackDatapathOptions) {
    super(link, options);
    this.link = link;
  }

  /** In half a sentence, for people. */
  get about(): string {
    return this.link.about;
  }
}

/**
 * @param text what follows `xdp:`, see {@link parseXdpSpec}
 * @throws IsthmusError as XdpLink does
 */
export function openXdp(text: string, options: XdpOptions = {}): XdpDatapath {
  const { heap, namespace, share, ...rest } = options;
  const given = { ...(heap && { heap }), ...(namespace && { namespace }), ...(share && { share }) };
  const link = new XdpLink({ spec: parseXdpSpec(text), ...given });
  try {
    return new XdpDatapath(link, rest);
  } catch (error) {
    link.dispose();
    throw error;
  }
}
