/** The stack datapath must pass what every datapath passes, over its own loopback. */

import { LINK_HEADROOM } from '../../src/datapath/stack/link.ts';
import { StackDatapath } from '../../src/datapath/stack.ts';
import { conformance } from './conformance.ts';
import { WIRE_HEAP, WireLink } from './wire-link.ts';

conformance({
  name: 'stack',
  missing: null,
  real: false,
  unix: false,
  bulkBytes: 4 << 20,
  open: async ({ heap = {}, sendLimit } = {}) => {
    // The tests ask for buffers of whole kilobytes; here each has a headroom before. And what is in flight, which the
    // kernel keeps in memory of its own, is in the heap.
    const classes = heap.sizeClasses ?? WIRE_HEAP;
    const more = classes.length > 1 ? 4 : 1;
    const sizeClasses = classes.map(({ bytes, count }) => ({
      bytes: bytes + LINK_HEADROOM,
      count: bytes <= 2048 ? more * count : count,
    }));
    const link = new WireLink(1, { addresses: ['10.0.0.1/24', 'fd00::1/64'], ...heap, sizeClasses });
    return new StackDatapath(link, sendLimit === undefined ? {} : { sendLimit });
  },
});
