import { openDatapath } from '../../src/datapath/select.ts';
import { conformance } from './conformance.ts';

conformance({
  name: 'kernel',
  missing: null,
  real: true,
  bulkBytes: 64 << 20,
  open: async (options) => (await openDatapath('kernel', options)).datapath,
});
