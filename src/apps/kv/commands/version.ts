/**
 * The version of redis whose commands and replies these are.
 * A constant; clients choose what they send by it.
 */
export const REDIS_VERSION = '7.0.15';
