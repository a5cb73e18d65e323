/**
 * The machine a benchmark ran on, as far as a reader of its numbers must know.
 * It touches what the operating system says of itself.
 */
import { cpus, release, totalmem } from 'node:os';
import { packageVersion } from '../cli/version.ts';
import type { Machine } from './bench.ts';

export function describeMachine(serverCpu: number, loadCpu: number): Machine {
  return {
    cpu: cpus()[0]?.model.trim() ?? 'unknown',
    cpus: cpus().length,
    memoryBytes: totalmem(),
    arch: process.arch,
    kernel: release(),
    node: process.versions.node,
    isthmus: packageVersion(),
    serverCpu,
    loadCpu,
    date: new Date().toISOString(),
  };
}
