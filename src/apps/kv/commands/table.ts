/**
 * All commands of the engine, family by family.
 * Pure data.
 */
import type { CommandSpec } from '../command.ts';
import { bitCommands } from './bits.ts';
import { clientCommands } from './client.ts';
import { configCommands } from './config.ts';
import { connectionCommands } from './connection.ts';
import { counterCommands } from './counter.ts';
import { expireCommands } from './expire.ts';
import { genericCommands } from './generic.ts';
import { hashCommands } from './hash.ts';
import { infoCommands } from './info.ts';
import { introspectionCommands } from './introspection.ts';
import { listCommands } from './list.ts';
import { objectCommands } from './object.ts';
import { serverCommands } from './server.ts';
import { setCommands } from './set.ts';
import { sortCommands } from './sort.ts';
import { stringCommands } from './string.ts';
import { transactionCommands } from './transaction.ts';
import { zsetCommands } from './zset.ts';

export const commandSpecs: readonly CommandSpec[] = [
  ...stringCommands,
  ...counterCommands,
  ...bitCommands,
  ...hashCommands,
  ...listCommands,
  ...setCommands,
  ...zsetCommands,
  ...genericCommands,
  ...expireCommands,
  ...sortCommands,
  ...objectCommands,
  ...transactionCommands,
  ...connectionCommands,
  ...clientCommands,
  ...serverCommands,
  ...configCommands,
  ...infoCommands,
  ...introspectionCommands,
];
