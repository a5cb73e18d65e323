/**
 * Several kernels of one process on one interface: one filter for all, and for each its queues, or a place in the group of
 * a kernel that has some (exchange.ts). Whoever starts the kernels makes the group, hands each its share, and closes the group after the last has ended.
 */
import { createEventfd } from '../../linux/eventfd.ts';
import { close } from '../../linux/libc.ts';
import { type SharedFilter, shareFilter } from '../../linux/xdp-filter-shared.ts';
import { requireXdp } from '../../linux/xdp-probe.ts';
import { type SharedExchange, shareExchange } from './exchange.ts';
import { examine, openFilter } from './interface.ts';
import { parseXdpSpec } from './options.ts';

/** What a kernel of a group is told; plain data, for structured cloning. */
export interface XdpShare {
  readonly kernel: number;
  /** Queues of the interface that are this kernel's; none where there are more kernels than queues. */
  readonly queues: readonly number[];
  readonly filter: SharedFilter;
  readonly exchange: SharedExchange;
}

export interface XdpGroup {
  share(kernel: number): XdpShare;
  close(): void;
}

/**
 * @param text what follows `xdp:`
 * @throws IsthmusError as XdpLink does
 */
export function openXdpGroup(text: string, kernels: number): XdpGroup {
  const spec = parseXdpSpec(text);
  requireXdp();
  const { link, queues, frameBytes } = examine(spec);
  const filter = openFilter(link, spec);
  const eventfds = Array.from({ length: kernels }, () => createEventfd());
  const shared = shareFilter(filter);
  const exchange = shareExchange(eventfds, queues, frameBytes);
  let open = true;
  return {
    share: (kernel) => ({
      kernel,
      queues: Array.from({ length: queues }, (_, queue) => queue).filter((queue) => queue % kernels === kernel),
      filter: shared,
      exchange,
    }),
    close: () => {
      if (!open) return;
      open = false;
      filter.close();
      for (const fd of eventfds) close(fd);
    },
  };
}
