/**
 * What an application is: a name, a table of options and a coroutine that runs once on each core.
 * It touches nothing; the command line makes parsing and help from the table and gives the coroutine its kernel.
 */

import type { Address, Coroutine, Kernel } from '../index.ts';
import type { OptionTable, OptionValues } from './options.ts';

/** One place where an application can be reached. */
export interface Listening {
  /** `tcp`, `udp`, `resp`, … */
  readonly protocol: string;
  readonly address: Address;
}

export interface AppContext {
  /** Which of the cores this is, 0 … cores - 1. */
  readonly core: number;
  /** How many kernels run the application; more than one share their port (`reusePort`). */
  readonly cores: number;
  /** Says where the application listens, in one line on stdout. To be called once, when all its listeners stand. */
  ready(listening: readonly Listening[], note?: string): void;
  /** A line for people, on stderr. */
  log(line: string): void;
}

export interface App<T extends OptionTable> {
  readonly name: string;
  /** One sentence. */
  readonly summary: string;
  /** More about it, for its help. */
  readonly description?: string;
  readonly options: T;
  /** Command lines (without `isthmus`) that are worth showing. */
  readonly examples?: readonly string[];
  /** Runs until it ends or its kernel is disposed. Throws IsthmusError for what the world did wrong. */
  main(k: Kernel, options: OptionValues<T>, context: AppContext): Coroutine<unknown>;
}

/** Gives the application back, with the types of its options' values filled in. */
export function defineApp<const T extends OptionTable>(app: App<T>): App<T> {
  return app;
}

/** As people write it: `127.0.0.1:7000`, `[::1]:7000`, `unix:/run/x.sock`. */
export function formatAddress(address: Address): string {
  if ('path' in address) return `unix:${address.path.replace('\0', '@')}`;
  return address.host.includes(':') ? `[${address.host}]:${address.port}` : `${address.host}:${address.port}`;
}
