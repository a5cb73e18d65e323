/** Our own TCP/IP on AF_XDP against the sockets of the kernel, in small, in both address modes (test/interop/run.ts in large). */
import { smallTrials } from '../interop/small.ts';

// Between them each role over each family; a tap has them all.
smallTrials('xdp', [
  ['server', 0],
  ['client', 1],
]);
smallTrials('xdp-own', [
  ['server', 1],
  ['client', 0],
]);
