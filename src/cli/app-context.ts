/**
 * What an application is told and may say: which core it is, where it listens, lines for people.
 * It touches only the Io it is given.
 */
import { type AppContext, formatAddress, type Listening } from '../apps/app.ts';
import type { Io } from './command.ts';

/** The line of `ready` is read by programs (the benchmarks, tests): its form stays. */
export function appContext(
  name: string,
  datapath: string,
  core: number,
  cores: number,
  io: Pick<Io, 'out' | 'err'>,
): AppContext {
  return {
    core,
    cores,
    ready(listening: readonly Listening[], note?: string) {
      if (core !== 0) return;
      const where = listening.map(({ protocol, address }) => `${protocol} ${formatAddress(address)}`).join(', ');
      const more = note === undefined ? '' : `, ${note}`;
      const on = cores === 1 ? '' : `, ${cores} cores`;
      io.out(`isthmus ${name}: ${where}${more} (datapath ${datapath}${on}, pid ${process.pid})\n`);
    },
    log: (line) => io.err(`isthmus ${name}: ${line}\n`),
  };
}
