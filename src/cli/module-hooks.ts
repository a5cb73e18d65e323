/**
 * Resolution hooks: `isthmus` in a program is this very package, wherever the program lies, and a TypeScript file that
 * is written as an ES module is one, also where no package.json says so.
 * They run where Node runs loader hooks (beside the program's thread on Node 20) and read the files they are asked about.
 *
 * Without the second such a file would be loaded as CommonJS, and `isthmus` in it would be a second copy of the package.
 */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

interface Resolved {
  readonly url: string;
  readonly format?: string | null | undefined;
  readonly shortCircuit?: boolean;
}
type Next = (specifier: string, context: unknown) => Resolved | Promise<Resolved>;

const SELF = new URL(import.meta.url.endsWith('.ts') ? '../index.ts' : '../index.js', import.meta.url).href;

/** Asynchronous under `module.register`, synchronous under `module.registerHooks`, as the next hook is. */
export function resolve(specifier: string, context: unknown, next: Next): Resolved | Promise<Resolved> {
  if (specifier === 'isthmus') return { url: SELF, format: 'module', shortCircuit: true };
  const resolved = next(specifier, context);
  return resolved instanceof Promise ? resolved.then(asModule) : asModule(resolved);
}

function asModule(resolved: Resolved): Resolved {
  const { url, format } = resolved;
  if (format !== 'commonjs' || !url.startsWith('file:') || !/\.tsx?(\?|$)/.test(url)) return resolved;
  const text = readFileSync(fileURLToPath(url.replace(/\?.*$/, '')), 'utf8');
  return /^\s*(import|export)\b/m.test(text) ? { ...resolved, format: 'module' } : resolved;
}
