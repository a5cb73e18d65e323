/**
 * The error replies that more than one command gives, in the words of redis 7.0.
 * Constants only; each text begins with its code and goes out behind a `-`.
 */

export const ERR_SYNTAX = 'ERR syntax error';
export const ERR_WRONG_TYPE = 'WRONGTYPE Operation against a key holding the wrong kind of value';
export const ERR_NOT_INTEGER = 'ERR value is not an integer or out of range';
export const ERR_NOT_FLOAT = 'ERR value is not a valid float';
export const ERR_OUT_OF_RANGE = 'ERR value is out of range';
export const ERR_NOT_POSITIVE = 'ERR value is out of range, must be positive';
export const ERR_NO_SUCH_KEY = 'ERR no such key';
export const ERR_SAME_OBJECT = 'ERR source and destination objects are the same';
export const ERR_INDEX_RANGE = 'ERR index out of range';
export const ERR_INVALID_CURSOR = 'ERR invalid cursor';
export const ERR_OVERFLOW = 'ERR increment or decrement would overflow';
export const ERR_OOM = "OOM command not allowed when used memory > 'maxmemory'.";
export const ERR_EXECABORT = 'EXECABORT Transaction discarded because of previous errors.';
export const ERR_STRING_TOO_LONG = 'ERR string exceeds maximum allowed size (proto-max-bulk-len)';

/** `ERR wrong number of arguments for 'get' command`; subcommands are named `container|sub`. */
export function wrongArity(name: string): string {
  return `ERR wrong number of arguments for '${name}' command`;
}
