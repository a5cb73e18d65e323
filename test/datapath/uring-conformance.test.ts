import { openDatapath } from '../../src/datapath/select.ts';
import { probeUring } from '../../src/linux/probe.ts';
import { conformance } from './conformance.ts';

const { available, reason } = probeUring();
if (!available && process.env.CI) throw new Error(`in CI this must run: ${reason}`);

conformance({
  name: 'uring',
  missing: available ? null : reason,
  real: true,
  bulkBytes: 64 << 20,
  open: async (options) => (await openDatapath('uring', options)).datapath,
});
