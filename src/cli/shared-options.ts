/**
 * Options that several commands have.
 * Pure tables.
 */
import type { NumberOption, StringOption } from '../apps/options.ts';

export const DATAPATH_OPTION = {
  type: 'string',
  value: 'NAME',
  default: 'auto',
  help: 'What carries the bytes: auto, uring, kernel (epoll), memory:NAME (processes of this host), xdp:IF and tap:NAME (our own TCP/IP; root). auto takes the better of uring and kernel.',
} as const satisfies StringOption;

export const CORES_OPTION = {
  type: 'integer',
  value: 'N',
  default: 1,
  min: 1,
  max: 1024,
  help: 'Kernels to run it on, each in a thread of its own; they share their ports.',
} as const satisfies NumberOption;
