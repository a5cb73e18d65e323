/**
 * Random commands of the engine's own families for the differential test: legal ones, and the usual mistakes.
 * Pure: the same dice give the same commands.
 */
import type { Argument } from './harness.ts';
import type { Comparison, Dice } from './oracle.ts';

const KEYS = ['a', 'b', 'c', 'd', 'key:with:colons', 'k\u0000nul', ''];
const NUMBERS = [
  '0',
  '1',
  '-1',
  '7',
  '10',
  '100',
  '-5',
  '9007199254740991',
  '9007199254740993',
  '9223372036854775807',
  '-9223372036854775808',
  '9223372036854775808',
  '01',
  '+1',
  ' 1',
  '1 ',
  '',
  'x',
  '1.5',
  '4294967296',
];
const VALUES = [
  '',
  'x',
  'hello',
  'hello world',
  '10',
  '-3',
  '007',
  '3.14',
  '1e3',
  '9223372036854775807',
  'a\r\nb',
  '\u0000\u00ff',
  'y'.repeat(44),
  'z'.repeat(45),
  'w'.repeat(300),
];
const FLOATS = [
  '0.1',
  '1.5',
  '-2.25',
  '1e10',
  '3',
  '10.50',
  'abc',
  '',
  '1e-5',
  'inf',
  '0.30000000000000004',
  '123456789.123456789',
];
/** Times to come: when redis counts a key that is already over is a matter of its own timer. */
const FUTURE = ['9999999999', '0', '-1', 'x', '9223372036854775807'];
const SECONDS = ['100', '1000', '0', '-1', '9223372036854775807', 'x', '10000000'];

const mixedCase = (dice: Dice, word: string): string => (dice.chance(20) ? word.toLowerCase() : word);

/** One random command of the engine's own families. */
export function randomCommand(dice: Dice): Argument[] {
  const key = (): string => dice.pick(KEYS);
  const value = (): string => dice.pick(VALUES);
  const number = (): string => (dice.chance(60) ? String(dice.below(40) - 20) : dice.pick(NUMBERS));
  const some = <T>(most: number, make: () => T): T[] => Array.from({ length: 1 + dice.below(most) }, make);
  const maybe = (...args: Argument[]): Argument[] => (dice.chance(50) ? args : []);
  const options = (): Argument[] =>
    some(3, () =>
      dice.pick([
        ['NX'],
        ['XX'],
        ['GET'],
        ['KEEPTTL'],
        ['EX', '100'],
        ['PX', '100000'],
        ['EX', number()],
        ['PXAT', '99999999999999'],
        ['EXAT', dice.pick(FUTURE)],
        ['bad'],
      ]),
    ).flat();
  const makers: (() => Argument[])[] = [
    () => ['SET', key(), value()],
    () => ['SET', key(), value()],
    () => ['SET', key(), number()],
    () => ['SET', key(), value(), ...options()],
    () => ['GET', key()],
    () => ['GETSET', key(), value()],
    () => ['GETDEL', key()],
    () => ['GETEX', key(), ...maybe(dice.pick(['EX', 'PX', 'PERSIST', 'EXAT', 'NX']), ...maybe(dice.pick(SECONDS)))],
    () => ['MGET', ...some(4, key)],
    () => ['MSET', ...some(3, () => [key(), value()]).flat(), ...(dice.chance(10) ? ['odd'] : [])],
    () => ['MSETNX', ...some(2, () => [key(), value()]).flat()],
    () => ['SETNX', key(), value()],
    () => ['SETEX', key(), dice.pick(SECONDS), value()],
    () => ['PSETEX', key(), dice.pick(['100000', '0', '-1', 'x', '9223372036854775807']), value()],
    () => ['APPEND', key(), value()],
    () => ['STRLEN', key()],
    () => ['GETRANGE', key(), number(), number()],
    () => ['SUBSTR', key(), number(), number()],
    () => ['SETRANGE', key(), dice.pick(['0', '1', '5', '50', '-1', 'x', '536870912']), value()],
    () => [dice.pick(['INCR', 'DECR']), key()],
    () => [dice.pick(['INCRBY', 'DECRBY']), key(), number()],
    () => ['INCRBYFLOAT', key(), dice.pick(FLOATS)],
    () => [
      'SETBIT',
      key(),
      dice.pick(['0', '1', '7', '8', '100', '-1', 'x', '4294967296']),
      dice.pick(['0', '1', '2', 'x']),
    ],
    () => ['GETBIT', key(), dice.pick(['0', '1', '7', '8', '100', '-1', 'x'])],
    () => ['BITCOUNT', key(), ...maybe(number(), ...maybe(number(), ...maybe(dice.pick(['BIT', 'BYTE', 'bad']))))],
    () => [
      'BITPOS',
      key(),
      dice.pick(['0', '1', '2', 'x']),
      ...maybe(number(), ...maybe(number(), ...maybe(dice.pick(['BIT', 'BYTE', 'bad'])))),
    ],
    () => ['BITOP', dice.pick(['AND', 'OR', 'XOR', 'NOT', 'bad']), key(), ...some(3, key)],
    () => [dice.pick(['DEL', 'UNLINK', 'EXISTS', 'TOUCH']), ...some(3, key)],
    () => ['TYPE', key()],
    () => [dice.pick(['RENAME', 'RENAMENX']), key(), key()],
    () => [
      'COPY',
      key(),
      key(),
      ...maybe(...dice.pick([['REPLACE'], ['DB', '1'], ['DB', '1', 'REPLACE'], ['DB', '99'], ['DB', 'x'], ['bad']])),
    ],
    () => ['MOVE', key(), dice.pick(['0', '1', '16', 'x', '-1'])],
    () => ['SELECT', dice.pick(['0', '0', '0', '1', '16', '-1', 'x'])],
    () => ['SWAPDB', dice.pick(['0', '1', '16', 'x']), dice.pick(['0', '1', 'y'])],
    () => ['KEYS', dice.pick(['*', 'a', '?', '[a-c]', 'key:*', '[^a]', 'k*', '\\a', '['])],
    () => ['DBSIZE'],
    () => [
      dice.pick(['EXPIRE', 'PEXPIRE', 'EXPIREAT', 'PEXPIREAT']),
      key(),
      dice.pick([...SECONDS, '99999999999']),
      ...maybe(...some(2, () => dice.pick(['NX', 'XX', 'GT', 'LT', 'bad']))),
    ],
    () => [dice.pick(['TTL', 'PTTL', 'EXPIRETIME', 'PEXPIRETIME']), key()],
    () => ['PERSIST', key()],
    () => ['OBJECT', dice.pick(['ENCODING', 'REFCOUNT', 'IDLETIME', 'FREQ']), key()],
    () => [
      'SCAN',
      dice.pick(['0', 'x', '-1']),
      ...dice.pick([
        ['COUNT', '1000'],
        ['COUNT', '1000', 'TYPE', 'string'],
        ['COUNT', '1000', 'MATCH', '?'],
        ['COUNT', '0'],
        ['COUNT', 'x'],
        ['MATCH'],
        ['bad', 'x'],
      ]),
    ],
    () => ['PING', ...maybe('hello', ...maybe('too many'))],
    () => ['ECHO', value()],
    () => ['nosuchcommand', value(), value()],
    () => [dice.pick(['GET', 'SET', 'INCR', 'EXPIRE', 'CONFIG', 'OBJECT', 'CLIENT'])],
    () => ['HELLO', dice.pick(['4', 'x', '1'])],
    () => ['HELLO', '3', dice.pick(['SETNAME', 'AUTH', 'bad']), ...maybe('x y')],
    () => ['AUTH', ...some(3, value)],
    () => [
      'CLIENT',
      dice.pick(['GETNAME', 'SETNAME', 'NO-EVICT', 'KILL', 'nosuch']),
      ...maybe(dice.pick(['name', 'with space', 'ON', 'off', 'bad'])),
    ],
    () => ['MULTI'],
    () => ['EXEC'],
    () => ['DISCARD'],
    () => ['WATCH', ...some(2, key)],
    () => ['UNWATCH'],
    () => ['FLUSHDB', ...maybe(dice.pick(['ASYNC', 'SYNC', 'bad']))],
    () => [
      'CONFIG',
      dice.pick(['GET', 'SET', 'nosuch']),
      dice.pick(['lfu-log-factor', 'databases', 'nosuch', 'maxmemory-samples']),
      ...maybe(dice.pick(['x', '5'])),
    ],
    () => ['SLOWLOG', dice.pick(['GET', 'RESET', 'nosuch']), ...maybe('x')],
    () => ['DEBUG', 'JMAP'],
    () => [dice.pick(['SORT', 'SORT_RO']), ...maybe(key())],
  ];
  const args = dice.pick(makers)();
  if (dice.chance(2)) args.push('extra');
  args[0] = mixedCase(dice, String(args[0]));
  return args;
}

/** How the replies to a command are compared. */
export function comparisonOf(args: readonly Argument[]): Comparison {
  const name = String(args[0]).toUpperCase();
  if (/^P?(TTL|EXPIRETIME)$/.test(name)) return { tolerance: 2000 };
  if (name === 'KEYS') return { unordered: true };
  // the connection's id
  if (name === 'HELLO') return { mask: /\$2\r\nid\r\n:[0-9]+\r\n/ };
  // how often redis shares a small integer is its own affair
  if (name === 'OBJECT' && String(args[1]) === 'REFCOUNT') return { typeOnly: true };
  if (name === 'OBJECT') return { tolerance: 1 };
  // the cursor is 0 in both; the keys may come in any order
  if (name === 'SCAN') return { typeOnly: true };
  // two clocks and several commands: replies may differ within
  if (name === 'EXEC') return { typeOnly: true };
  return {};
}
