/**
 * The applications by name, imported only when one is asked for.
 * It touches nothing else; the command line and workers look applications up here.
 */

import type { App } from './app.ts';
import type { OptionTable } from './options.ts';

type AnyApp = App<OptionTable>;

const loaders = {
  echo: async () => (await import('./echo.ts')).echo,
  relay: async () => (await import('./relay.ts')).relay,
  kv: async () => (await import('./kv/app.ts')).kv,
} as const;

export type AppName = keyof typeof loaders;

export async function loadApp(name: AppName): Promise<AnyApp> {
  // Each application knows the types of its own options; whoever has only the name knows just the table.
  return (await loaders[name]()) as unknown as AnyApp;
}
