#!/usr/bin/env node
/**
 * The `isthmus` command: runs one command of the table on this process's arguments.
 * It touches the process itself (arguments, streams, signals, exit code); commands get these through Io.
 */
import module from 'node:module';
import { runCommandLine } from './command-line.ts';

// Node 22 and later: compiled code is kept between runs.
(module as { enableCompileCache?: () => void }).enableCompileCache?.();

/** npm passes a Ctrl-C on that the terminal has sent us already: so soon, it is the same one. */
const SAME_SIGNAL_MS = 300;

const interruption = new AbortController();
let interruptedAt = 0;
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.on(signal, () => {
    const now = performance.now();
    if (!interruption.signal.aborted) {
      interruptedAt = now;
      interruption.abort();
    } else if (now - interruptedAt > SAME_SIGNAL_MS) {
      // Asked twice, it does not wait for anything any more.
      process.exit(signal === 'SIGINT' ? 130 : 143);
    }
  });
}
// A reader that went away (as `head` does) is no failure of ours.
process.stdout.on('error', (error: NodeJS.ErrnoException) => process.exit(error.code === 'EPIPE' ? 0 : 1));

const code = await runCommandLine(process.argv.slice(2), {
  out: (text) => process.stdout.write(text),
  err: (text) => process.stderr.write(text),
  errIsTerminal: process.stderr.isTTY === true,
  interrupted: interruption.signal,
});
if (code !== undefined) process.exit(code);
