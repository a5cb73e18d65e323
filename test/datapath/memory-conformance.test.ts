import { openMemory } from '../../src/datapath/memory.ts';
import { conformance } from './conformance.ts';

let opened = 0;

conformance({
  name: 'memory',
  missing: null,
  real: false,
  bulkBytes: 32 << 20,
  // A host of its own for each test: ports of one cannot be in the way of another.
  open: async (options) => openMemory(`test-${process.pid}-${opened++}`, options),
});
