/** Every packet script under scripts/, one test each (scripts/README.md describes their format). */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { parseScripts } from './script-lines.ts';
import { ScriptRun } from './script-run.ts';

// Scripts are not compiled: they lie beside the sources, two folders up from what was built.
const built = fileURLToPath(new URL('../../../test/net/scripts', import.meta.url));
const directory = existsSync(built) ? built : 'test/net/scripts';

for (const file of readdirSync(directory).sort()) {
  if (!file.endsWith('.pkt')) continue;
  describe(file.slice(0, -4), () => {
    for (const script of parseScripts(readFileSync(`${directory}/${file}`, 'utf8'))) {
      test(script.name, () => {
        new ScriptRun(script.config).run(script);
      });
    }
  });
}
