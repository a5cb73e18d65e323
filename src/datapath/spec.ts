/**
 * What `--datapath` says, taken apart: `kind:text`, and what is to stand between the stack and its link.
 * Pure: text in, plain data out. The rest of the text is read by the datapath it is for.
 */
import { ERRNO, type IsthmusError, systemError } from '../errors.ts';
import type { FaultOptions } from '../net/middleware/faults.ts';

export interface MiddlewareSpec {
  readonly faults: FaultOptions | null;
  /** File for a capture; '' for none. */
  readonly pcap: string;
  /** Each frame is told in a line on standard error. */
  readonly trace: boolean;
}

export interface DatapathSpec {
  /** `kernel`, `xdp` … */
  readonly kind: string;
  /** What follows the first colon, without the middleware; null where there is no colon. */
  readonly text: string | null;
  /** Null for none. */
  readonly middleware: MiddlewareSpec | null;
}

/** Names of faults, and what they are in {@link FaultOptions}. */
const FAULTS: Readonly<Record<string, keyof FaultOptions>> = {
  loss: 'loss',
  duplication: 'duplication',
  reordering: 'reordering',
  corruption: 'corruption',
  delay: 'delayMs',
  jitter: 'jitterMs',
  reorder: 'reorderMs',
  seed: 'seed',
};
const TIMES: ReadonlySet<string> = new Set(['delayMs', 'jitterMs', 'reorderMs']);

/**
 * Reads e.g. `tap:t0,10.0.0.1/24,pcap=/tmp/a.pcap,faults=loss:0.01,seed:7`. Faults go on over commas as long as what
 * follows is a fault's name with a colon.
 * @throws IsthmusError EINVAL, naming the part that is wrong
 */
export function parseSpec(spec: string): DatapathSpec {
  const colon = spec.indexOf(':');
  if (colon < 0) return { kind: spec, text: null, middleware: null };
  const kept: string[] = [];
  const faults: Partial<Record<keyof FaultOptions, number>> = {};
  let hasFaults = false;
  let inFaults = false;
  let pcap = '';
  let trace = false;
  for (const part of spec.slice(colon + 1).split(',')) {
    const continued: boolean = inFaults && Object.hasOwn(FAULTS, part.slice(0, part.indexOf(':')));
    inFaults = continued || part.startsWith('faults=');
    if (inFaults) {
      hasFaults = true;
      readFault(faults, continued ? part : part.slice('faults='.length), spec);
    } else if (part.startsWith('pcap=')) {
      pcap = part.slice('pcap='.length);
      if (pcap === '') throw refusal(spec, 'pcap= needs a file');
    } else if (part === 'trace') trace = true;
    else kept.push(part);
  }
  const any = hasFaults || pcap !== '' || trace;
  const middleware = any ? { faults: hasFaults ? { seed: 1, ...faults } : null, pcap, trace } : null;
  return { kind: spec.slice(0, colon), text: kept.join(','), middleware };
}

function readFault(faults: Partial<Record<keyof FaultOptions, number>>, text: string, spec: string): void {
  const [name = '', value = ''] = text.split(':', 2);
  const option = Object.hasOwn(FAULTS, name) ? FAULTS[name]! : null;
  if (option === null) throw refusal(spec, `'${text}' is no fault; there are ${Object.keys(FAULTS).join(', ')}`);
  const number = /^\d+(\.\d+)?$/.test(value) ? Number(value) : Number.NaN;
  const most = option === 'seed' ? 0xffffffff : TIMES.has(option) ? 60_000 : 1;
  if (!(number <= most)) throw refusal(spec, `'${text}': a number from 0 to ${most}`);
  faults[option] = number;
}

function refusal(spec: string, why: string): IsthmusError {
  return systemError(ERRNO.EINVAL, 'datapath', `'${spec}'`, why);
}
