/**
 * How far V8 inlines in a process that runs a kernel of ours and nothing else.
 * It sets one flag of V8, for the whole process: for a command to do, not for a library.
 */
import { setFlagsFromString } from 'node:v8';

/**
 * Bytecode taken into one optimized function; V8's own bound is 920. A frame's way through a stack is some forty small
 * functions, of which that bound leaves half as calls: an echo between two stacks in memory takes a fifth less time with
 * this one, and no less with a larger one (docs/results).
 */
const INLINED_BYTECODE = 3000;

/** To be called before what is to be fast has run. */
export function inlineFurther(): void {
  setFlagsFromString(`--max-inlined-bytecode-size-cumulative=${INLINED_BYTECODE}`);
}
