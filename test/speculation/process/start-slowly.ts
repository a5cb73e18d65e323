/**
 * A program of its own for start.test.ts: starts a command in a directory of a mount whose server does not answer.
 * It mounts on the directory given and says `asked` once the server has been asked; it is meant to be killed then.
 */

import { systemClock } from '../../../src/remote/view/clock.ts';
import { SpeculativeMount } from '../../../src/speculation/files/run.ts';
import { MemoryServer } from '../../remote/memory-server.ts';

let asked = (): void => {};
const delay = (): number => {
  asked();
  return 0;
};
const server = new MemoryServer({ clock: systemClock, delay });
// The simulated server has nothing that would keep us alive.
setInterval(() => {}, 1000);
const mount = await SpeculativeMount.open({ server, directory: process.argv[2]! });
asked = () => process.stdout.write('asked\n');
server.pause();
void mount.run({ command: ['true'], cwd: `${process.argv[2]}/directory` });
