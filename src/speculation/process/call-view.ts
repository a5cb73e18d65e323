/**
 * What the table of system calls sees of a call, and what it can say to it. Types only.
 */

/** What a descriptor is. */
export type Target =
  | 'mount' // a file or directory on a speculative mount
  | 'local' // a file or directory in a local directory whose changes can be undone
  | 'file' // another regular file or directory
  | 'device' // /dev/null and its kin: written data goes nowhere, read data is the same for all
  | 'inside' // a pipe that only exists because of the speculation, and ends with it
  | 'pipe'
  | 'socket'
  | 'terminal'
  | 'other'
  | 'none'; // not open: the call fails

export interface CallView {
  /** Argument i as an int, or as an address or size. */
  int(i: number): number;
  size(i: number): number;
  /** The 32-bit word at `size(i) + offset` in the caller's memory; 0 if it cannot be read. */
  word(i: number, offset: number): number;
  descriptor(i: number): Target;
  /** Where the path at argument i lies, relative to the directory descriptor at argument `directory` (−1: the cwd). */
  path(i: number, directory: number): 'mount' | 'device' | 'local' | 'elsewhere';
  /** It has no checkpoint of its own, so a rollback ends it, and what only concerns itself is its own affair. */
  readonly ownAffair: boolean;
}

/** `wait: …` says what for. `special` calls are handled by the tracer in ways of their own. */
export type Verdict =
  | 'allow'
  | 'write inside' // allowed where somebody reads it
  | 'withhold' // output: copied, pretended, and emitted later
  | 'exit'
  | 'exec'
  | 'await child'
  | 'signal action' // allowed, remembered
  | 'alternate stack' // allowed, remembered
  | 'change local' // allowed, recorded before
  | 'make pipe' // allowed, the pipe is inside
  | `wait: ${string}`;
