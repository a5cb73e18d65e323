/**
 * Random commands on hashes, lists, sets and sorted sets for the differential test: legal ones, and the usual mistakes.
 * Pure: the same dice give the same commands.
 */
import type { Argument } from './harness.ts';
import type { Comparison, Dice } from './oracle.ts';

const HASHES = ['h1', 'h2', 'h3'];
const LISTS = ['l1', 'l2', 'l3'];
const SETS = ['s1', 's2', 's3', 's4'];
const SORTED = ['z1', 'z2', 'z3', 'z4'];
const OTHERS = ['text', 'none', ...HASHES, ...LISTS, ...SETS, ...SORTED];
const NAMES = ['a', 'b', 'c', 'd', 'abc', 'abd', '', '0', 'with space', 'a\u0000b', '\r\n', 'x'.repeat(64)];
const INTEGERS = [
  '0',
  '1',
  '2',
  '3',
  '-1',
  '-7',
  '10',
  '100',
  '65536',
  '4294967296',
  '-9223372036854775808',
  '9223372036854775807',
];
const FLOATS = ['0', '1', '-1', '2', '3', '1.5', '-2.25', '0.1', '3.3333333333333335', '1e17', '1e300', '-1e-7', '100'];
const ODD_FLOATS = ['inf', '-inf', '+inf', 'Infinity', '-0', '0x10', '5e-324', '.5', '5.', '1e2', '+3'];
const NO_FLOATS = ['nan', 'abc', '', ' 1', '1 ', '1e400', '--1', '(1', '0x'];
const NO_INTEGERS = ['x', '', '1.5', ' 1', '+1', '01', '9223372036854775808', '-0'];
const LONG = 'y'.repeat(65);

const mixedCase = (dice: Dice, word: string): string => (dice.chance(20) ? word.toLowerCase() : word);

/** How large the values of a run may become, and whether long strings may come. */
export interface Scale {
  /** Number of numbered members; beyond 128 the packed forms are left. */
  members: number;
  long: boolean;
}

/** One or two random commands on collections. */
export function randomCollectionCommand(dice: Dice, scale: Scale): Argument[] {
  const maker = new Maker(dice, scale);
  const family = dice.below(100);
  if (family < 22) return maker.hash();
  if (family < 46) return maker.list();
  if (family < 66) return maker.set();
  if (family < 94) return maker.sortedSet();
  return maker.generic();
}

class Maker {
  readonly #dice: Dice;
  readonly #scale: Scale;

  constructor(dice: Dice, scale: Scale) {
    this.#dice = dice;
    this.#scale = scale;
  }

  #key(own: readonly string[]): string {
    return this.#dice.chance(3) ? this.#dice.pick(OTHERS) : this.#dice.pick(own);
  }

  #name(): string {
    const dice = this.#dice;
    if (this.#scale.long && dice.chance(1)) return LONG;
    if (dice.chance(this.#scale.members > 20 ? 80 : 40)) return `m${dice.below(this.#scale.members)}`;
    return dice.chance(30) ? dice.pick(INTEGERS) : dice.pick(NAMES);
  }

  /** Mostly integers in one set, so that it stays one. */
  #member(key: string): string {
    const dice = this.#dice;
    if (key !== 's1' || dice.chance(1)) return this.#name();
    return dice.chance(50) ? String(dice.below(this.#scale.members * 6)) : dice.pick(INTEGERS);
  }

  #integer(): string {
    const dice = this.#dice;
    if (dice.chance(90)) return String(dice.below(14) - 6);
    return dice.chance(50) ? dice.pick(INTEGERS) : dice.pick(NO_INTEGERS);
  }

  /** Few different ones, so that members meet in their scores. */
  #float(): string {
    const dice = this.#dice;
    if (dice.chance(85)) return dice.chance(50) ? String(dice.below(8) - 3) : dice.pick(FLOATS);
    return dice.chance(80) ? dice.pick(ODD_FLOATS) : dice.pick(NO_FLOATS);
  }

  /** For HINCRBYFLOAT: sums stay short in small runs; hexadecimal is not taken. */
  #decimal(): string {
    const text = this.#float();
    return text.startsWith('0x') || (!this.#scale.long && /e[34]00/.test(text)) ? '0.7' : text;
  }

  #some<T>(most: number, make: () => T): T[] {
    return Array.from({ length: 1 + this.#dice.below(most) }, make);
  }

  #maybe(...args: Argument[]): Argument[] {
    return this.#dice.chance(40) ? args : [];
  }

  /** Sometimes one argument too many, a wrong one, or a case that differs. */
  #spoil(args: Argument[]): Argument[] {
    const dice = this.#dice;
    if (args[0] === 'SPOP') return args;
    if (dice.chance(1)) args.push(dice.pick(['foo', '1', 'LIMIT', 'WITHSCORES', 'COUNT']));
    if (dice.chance(1) && args.length > 1) args.pop();
    args[0] = mixedCase(dice, String(args[0]));
    return args;
  }

  hash(): Argument[] {
    const dice = this.#dice;
    const key = this.#key(HASHES);
    const name = (): string => this.#name();
    const value = (): string => (dice.chance(40) ? this.#integer() : name());
    return this.#spoil(
      dice.pick<() => Argument[]>([
        () => ['HSET', key, ...this.#some(4, () => [name(), value()]).flat()],
        () => ['HSET', key, ...this.#some(this.#scale.members > 20 ? 40 : 4, () => [name(), value()]).flat()],
        () => ['HMSET', key, ...this.#some(3, () => [name(), value()]).flat()],
        () => ['HSETNX', key, name(), value()],
        () => ['HGET', key, name()],
        () => ['HMGET', key, ...this.#some(4, name)],
        () => ['HGETALL', key],
        () => ['HKEYS', key],
        () => ['HVALS', key],
        () => ['HDEL', key, ...this.#some(3, name)],
        () => ['HLEN', key],
        () => ['HSTRLEN', key, name()],
        () => ['HEXISTS', key, name()],
        () => ['HINCRBY', key, dice.pick(['n1', 'n2', name()]), this.#integer()],
        () => ['HINCRBYFLOAT', key, dice.pick(['f1', 'f2', 'n1', name()]), this.#decimal()],
        () => ['HSCAN', key, '0', ...this.#maybe('MATCH', dice.pick(['*', 'm*', '?', '[a-c]*']))],
        () => ['HRANDFIELD', key, ...this.#maybe(this.#integer(), ...this.#maybe('WITHVALUES'))],
      ])(),
    );
  }

  list(): Argument[] {
    const dice = this.#dice;
    const key = this.#key(LISTS);
    const item = (): string => (this.#scale.long && dice.chance(3) ? 'z'.repeat(dice.below(9000)) : this.#name());
    const index = (): string => (dice.chance(30) ? String(dice.below(600) - 300) : this.#integer());
    const end = (): string => mixedCase(dice, dice.pick(['LEFT', 'RIGHT', 'LEFT', 'RIGHT', 'left', 'FOO']));
    const most = this.#scale.members > 20 ? 100 : 4;
    return this.#spoil(
      dice.pick<() => Argument[]>([
        () => ['LPUSH', key, ...this.#some(most, item)],
        () => ['RPUSH', key, ...this.#some(most, item)],
        () => [dice.pick(['LPUSHX', 'RPUSHX']), key, ...this.#some(3, item)],
        () => [dice.pick(['LPOP', 'RPOP']), key],
        () => [dice.pick(['LPOP', 'RPOP']), key, dice.chance(80) ? String(dice.below(12)) : this.#integer()],
        () => ['LLEN', key],
        () => ['LRANGE', key, index(), index()],
        () => ['LRANGE', key, '0', '-1'],
        () => ['LINDEX', key, index()],
        () => ['LSET', key, index(), item()],
        () => ['LINSERT', key, dice.pick(['BEFORE', 'AFTER', 'before', 'NEAR']), this.#name(), item()],
        () => ['LREM', key, this.#integer(), this.#name()],
        () => (dice.chance(30) ? ['LTRIM', key, index(), index()] : ['LTRIM', key, '1', '-2']),
        () => [
          'LPOS',
          key,
          this.#name(),
          ...this.#maybe('RANK', dice.chance(95) ? String(dice.below(9) - 4) : dice.pick(NO_INTEGERS)),
          ...this.#maybe('COUNT', this.#integer()),
          ...this.#maybe('MAXLEN', this.#integer()),
        ],
        () => ['LMOVE', key, this.#key(LISTS), end(), end()],
        () => ['RPOPLPUSH', key, this.#key(LISTS)],
        () => {
          const keys = this.#some(3, () => this.#key(LISTS));
          const count = dice.chance(90) ? String(keys.length) : this.#integer();
          return ['LMPOP', count, ...keys, end(), ...this.#maybe('COUNT', this.#integer())];
        },
      ])(),
    );
  }

  set(): Argument[] {
    const dice = this.#dice;
    const key = this.#key(SETS);
    const member = (): string => this.#member(key);
    const keys = (): string[] => this.#some(4, () => this.#key(SETS));
    return this.#spoil(
      dice.pick<() => Argument[]>([
        () => ['SADD', key, ...this.#some(4, member)],
        () => ['SADD', key, ...this.#some(this.#scale.members > 20 ? 60 : 5, member)],
        () => ['SREM', key, ...this.#some(3, member)],
        () => ['SMEMBERS', key],
        () => ['SISMEMBER', key, member()],
        () => ['SMISMEMBER', key, ...this.#some(4, member)],
        () => ['SCARD', key],
        () => ['SPOP', key, '100000'],
        () => ['SRANDMEMBER', key, ...this.#maybe(this.#integer())],
        () => ['SMOVE', key, this.#key(SETS), member()],
        () => [dice.pick(['SINTER', 'SUNION', 'SDIFF']), ...keys()],
        () => [dice.pick(['SINTERSTORE', 'SUNIONSTORE', 'SDIFFSTORE']), this.#key(SETS), ...keys()],
        () => {
          const all = keys();
          const count = dice.chance(90) ? String(all.length) : this.#integer();
          return ['SINTERCARD', count, ...all, ...this.#maybe('LIMIT', this.#integer())];
        },
        () => ['SSCAN', key, '0', ...this.#maybe('COUNT', this.#integer())],
      ])(),
    );
  }

  #scoreBound(): string {
    const dice = this.#dice;
    if (dice.chance(20)) return dice.pick(['-inf', '+inf', '(inf', '', '(', ' 1', '( 2', '1e400', '(-1e400']);
    return (dice.chance(30) ? '(' : '') + this.#float();
  }

  #memberBound(): string {
    const dice = this.#dice;
    if (dice.chance(30)) return dice.pick(['-', '+']);
    if (dice.chance(3)) return dice.pick(['', 'a', '+a', '-1']);
    return dice.pick(['[', '(']) + dice.pick(['a', 'b', 'm', 'm1', 'm12', 'm5', '', 'z']);
  }

  #rangeOptions(): Argument[] {
    const dice = this.#dice;
    const options: Argument[] = [];
    if (dice.chance(40)) options.push('WITHSCORES');
    if (dice.chance(30)) options.push('LIMIT', this.#integer(), this.#integer());
    if (dice.chance(30)) options.push('REV');
    return options;
  }

  sortedSet(): Argument[] {
    const dice = this.#dice;
    const key = this.#key(SORTED);
    const name = (): string => this.#name();
    // All scores of z4 are the same: only there are ranges by member defined.
    const pair = (): Argument[] => [key === 'z4' ? '0' : this.#float(), name()];
    const flags = (): Argument[] =>
      dice.chance(50) ? [] : this.#some(2, () => dice.pick(['NX', 'XX', 'GT', 'LT', 'CH', 'CH', 'INCR', 'ch']));
    const inputs = (): Argument[] => {
      const keys = this.#some(4, () => this.#key(dice.chance(20) ? SETS : ['z1', 'z2', 'z3']));
      const count = dice.chance(95) ? String(keys.length) : this.#integer();
      return [count, ...keys];
    };
    const weights = (given: Argument[]): Argument[] =>
      this.#maybe('WEIGHTS', ...Array.from({ length: Number(given.length - 1) }, () => this.#float()));
    const how = (): Argument[] => this.#maybe('AGGREGATE', dice.pick(['SUM', 'MIN', 'MAX', 'max', 'AVG']));
    const most = this.#scale.members > 20 ? 60 : 4;
    const z = dice.pick(['z1', 'z2', 'z3']);
    return this.#spoil(
      dice.pick<() => Argument[]>([
        () => ['ZADD', key, ...(key === 'z4' ? [] : flags()), ...this.#some(most, pair).flat()],
        () => ['ZADD', key, ...(key === 'z4' ? [] : flags()), ...pair()],
        () => ['ZADD', key, ...this.#some(most, pair).flat()],
        () => ['ZREM', key, ...this.#some(3, name)],
        () => ['ZSCORE', key, name()],
        () => ['ZMSCORE', key, ...this.#some(4, name)],
        () => ['ZINCRBY', z, this.#float(), name()],
        () => ['ZCARD', key],
        () => ['ZCOUNT', key, this.#scoreBound(), this.#scoreBound()],
        () => ['ZLEXCOUNT', 'z4', this.#memberBound(), this.#memberBound()],
        () => [dice.pick(['ZRANK', 'ZREVRANK']), key, name()],
        () => ['ZRANGE', key, this.#integer(), this.#integer(), ...this.#rangeOptions()],
        () => ['ZRANGE', key, '0', '-1', 'WITHSCORES'],
        () => ['ZRANGE', key, this.#scoreBound(), this.#scoreBound(), 'BYSCORE', ...this.#rangeOptions()],
        () => ['ZRANGE', 'z4', this.#memberBound(), this.#memberBound(), 'BYLEX', ...this.#rangeOptions()],
        () => ['ZREVRANGE', key, this.#integer(), this.#integer(), ...this.#rangeOptions()],
        () => [
          dice.pick(['ZRANGEBYSCORE', 'ZREVRANGEBYSCORE']),
          key,
          this.#scoreBound(),
          this.#scoreBound(),
          ...this.#rangeOptions(),
        ],
        () => [
          dice.pick(['ZRANGEBYLEX', 'ZREVRANGEBYLEX']),
          'z4',
          this.#memberBound(),
          this.#memberBound(),
          ...this.#rangeOptions(),
        ],
        () => ['ZRANGESTORE', z, this.#key(SORTED), this.#integer(), this.#integer(), ...this.#rangeOptions()],
        () => ['ZRANGESTORE', z, z, this.#scoreBound(), this.#scoreBound(), 'BYSCORE', ...this.#rangeOptions()],
        () => ['ZREMRANGEBYRANK', key, this.#integer(), this.#integer()],
        () => ['ZREMRANGEBYSCORE', key, this.#scoreBound(), this.#scoreBound()],
        () => ['ZREMRANGEBYLEX', 'z4', this.#memberBound(), this.#memberBound()],
        () => [dice.pick(['ZPOPMIN', 'ZPOPMAX']), key, ...this.#maybe(this.#integer())],
        () => {
          const keys = this.#some(3, () => this.#key(SORTED));
          const count = dice.chance(90) ? String(keys.length) : this.#integer();
          return [
            'ZMPOP',
            count,
            ...keys,
            dice.pick(['MIN', 'MAX', 'max', 'MID']),
            ...this.#maybe('COUNT', this.#integer()),
          ];
        },
        () => ['ZRANDMEMBER', key, ...this.#maybe(this.#integer(), ...this.#maybe('WITHSCORES'))],
        () => {
          const given = inputs();
          return [dice.pick(['ZUNION', 'ZINTER']), ...given, ...weights(given), ...how(), ...this.#maybe('WITHSCORES')];
        },
        () => {
          const given = inputs();
          return [dice.pick(['ZUNIONSTORE', 'ZINTERSTORE']), z, ...given, ...weights(given), ...how()];
        },
        () => ['ZDIFF', ...inputs(), ...this.#maybe('WITHSCORES')],
        () => ['ZDIFFSTORE', z, ...inputs()],
        () => ['ZINTERCARD', ...inputs(), ...this.#maybe('LIMIT', this.#integer())],
        () => ['ZSCAN', key, '0', ...this.#maybe('MATCH', 'm*')],
      ])(),
    );
  }

  generic(): Argument[] {
    const dice = this.#dice;
    const key = dice.pick(OTHERS);
    return dice.pick<() => Argument[]>([
      () => ['OBJECT', 'ENCODING', key],
      () => ['OBJECT', 'ENCODING', key],
      () => ['TYPE', key],
      () => ['EXISTS', ...OTHERS],
      () => ['COPY', key, `${key[0]}3`, 'REPLACE'],
      () => (dice.chance(20) ? ['DEL', key] : ['SET', 'text', 'value']),
    ])();
  }
}

const UNORDERED = new Set(['hgetall', 'hkeys', 'hvals', 'smembers', 'spop', 'sinter', 'sunion', 'sdiff']);
const RANDOM = new Set(['hrandfield', 'srandmember', 'zrandmember']);

/** How to compare what such a command gives. `small`: hashes and sorted sets are packed, and so scanned in one order. */
export function comparisonOfCollection(args: readonly Argument[], small: boolean): Comparison {
  const name = String(args[0]).toLowerCase();
  if (name === 'hgetall') return { pairs: true };
  if (UNORDERED.has(name)) return { unordered: true };
  if (RANDOM.has(name) || name === 'sscan') return { typeOnly: true };
  if ((name === 'hscan' || name === 'zscan') && !small) return { typeOnly: true };
  return {};
}
