import { openDatapath } from '../../src/datapath/select.ts';
import { conformance } from './conformance.ts';

conformance({
  name: 'simulated',
  missing: null,
  real: false,
  bulkBytes: 4 << 20,
  sendLimit: 1 << 18,
  open: async (options) => (await openDatapath('simulated', options)).datapath,
});
