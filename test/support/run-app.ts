/**
 * Runs an application on a simulated kernel, and what its context was told.
 * It touches the kernel it is given.
 */
import type { App, AppContext, Listening } from '../../src/apps/app.ts';
import type { Address, Kernel, Task } from '../../src/index.ts';

type Options = App<never>['options'] | Readonly<Record<string, unknown>>;

export interface RunningApp {
  readonly task: Task<unknown>;
  /** Filled when the application says that it is ready, in the kernel's first turn. */
  readonly listening: readonly Listening[];
  /** The port of the first listener of a protocol. */
  port(protocol: string): number;
}

/** Spawns the application; options that are not given take their defaults. */
export function runApp(
  k: Kernel,
  // biome-ignore lint/suspicious/noExplicitAny: an application of any options
  app: App<any>,
  given: Readonly<Record<string, unknown>> = {},
): RunningApp {
  const options: Record<string, unknown> = {};
  for (const [name, spec] of Object.entries(app.options as Options)) {
    const { type, default: value } = spec as { type: string; default?: unknown };
    options[name] = type === 'boolean' ? false : value;
  }
  const listening: Listening[] = [];
  const context: AppContext = {
    core: 0,
    cores: 1,
    ready: (places) => listening.push(...places),
    log: () => {},
  };
  const task = k.spawn(app.main(k, { ...options, ...given } as never, context));
  return {
    task,
    listening,
    port: (protocol) => portOf(listening.find((place) => place.protocol === protocol)?.address),
  };
}

function portOf(address: Address | undefined): number {
  if (address === undefined || !('port' in address)) throw new Error('it does not listen there');
  return address.port;
}
