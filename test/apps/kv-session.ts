/**
 * The session that every client runs against both servers: one line per command, in the syntax of redis-cli.
 * Data and a parser for it; it touches nothing.
 *
 * A line may begin with how its reply is compared: `~sorted` (order is the server's choice), `~shape` (type only, as the
 * value is the server's own), `~near` (integers within 2 or 1 %, times), `~skipcli` (not through redis-cli, whose own state it would change).
 */

export type Comparison = 'equal' | 'sorted' | 'shape' | 'near';

export interface Step {
  /** As redis-cli takes it. */
  readonly line: string;
  readonly args: readonly Buffer[];
  readonly compare: Comparison;
  readonly cli: boolean;
}

const STRINGS = String.raw`
SET k v
GET k
GET missing
SET k v2 NX
SET n v NX
SET n v XX
SET gone v XX
SET k v3 GET
SET fresh v GET
SET k v EX 100
~near TTL k
SET k v PX 100000
~near PTTL k
SET k v2 KEEPTTL
~near TTL k
SET k v EXAT 4102444800
EXPIRETIME k
SET k v PXAT 4102444800123
PEXPIRETIME k
SET k v EX 0
SET k v EX -1
SET k v EX notanumber
SET k v EX 10 PX 10
SET k v NX XX
SET k v BOGUS
SET k
SET k v NX GET
SET "bin\x00ary\xff\r\n" "\x00\x01\r\n\xfe\xff"
GET "bin\x00ary\xff\r\n"
STRLEN "bin\x00ary\xff\r\n"
SET "" "empty key"
GET ""
SET empty ""
GET empty
SETNX k other
SETNX nx value
SETEX ex 100 v
SETEX ex 0 v
PSETEX pex 100000 v
PSETEX pex -5 v
GETSET k newer
GETSET nosuch v
GETDEL nosuch
GETDEL nosuch
GETEX k
GETEX k EX 50
~near TTL k
GETEX k PERSIST
TTL k
GETEX k PX 50000
GETEX k EXAT 4102444800
GETEX k PXAT 4102444800000
GETEX k EX 0
GETEX k NOPE
APPEND k tail
APPEND ap one
APPEND ap two
GET ap
STRLEN ap
STRLEN missing
SETRANGE ap 3 XXX
SETRANGE ap 10 far
GET ap
SETRANGE ap -1 x
SETRANGE none 0 ""
SETRANGE ap 536870912 x
GETRANGE ap 0 2
GETRANGE ap -3 -1
GETRANGE ap 5 1
GETRANGE ap 0 -100
SUBSTR ap 0 3
MSET a 1 b 2 c 3
MSET a 1 b
MGET a b missing c
MSETNX x 1 a 2
MSETNX x 1 y 2
INCR counter
INCR counter
DECR counter
INCRBY counter 41
DECRBY counter 100
INCRBYFLOAT counter 10.5
INCRBYFLOAT counter 5.0e3
INCRBYFLOAT counter -0.1
INCRBYFLOAT counter x
INCR counter
INCR k
INCRBY i notanumber
SET big 9223372036854775807
INCR big
DECRBY big 1
INCRBY big -9223372036854775808
DECRBY big -9223372036854775808
SET big -9223372036854775808
DECR big
GET big
LCS a b
MSET lcs1 ohmytext lcs2 mynewtext
LCS lcs1 lcs2
LCS lcs1 lcs2 LEN
LCS lcs1 lcs2 IDX
LCS lcs1 lcs2 IDX MINMATCHLEN 4 WITHMATCHLEN
LCS lcs1 lcs2 IDX LEN
SETBIT bits 7 1
SETBIT bits 7 0
SETBIT bits 100 1
SETBIT bits -1 1
SETBIT bits 0 2
GETBIT bits 100
GETBIT bits 5000
GETBIT missing 1
SET bits foobar
BITCOUNT bits
BITCOUNT bits 0 0
BITCOUNT bits 1 1
BITCOUNT bits 5 30 BIT
BITCOUNT missing
BITPOS bits 1
BITPOS bits 0 2
BITPOS bits 1 2 -1 BYTE
BITOP AND bdest bits k
BITOP NOT bnot bits
BITOP XOR bx bits k
BITOP OR bo bits k
GET bnot
BITFIELD bf SET u8 0 255 INCRBY u8 0 10 GET u4 4
BITFIELD bf OVERFLOW SAT INCRBY i8 0 200 OVERFLOW FAIL INCRBY u8 0 255
BITFIELD_RO bf GET u8 0
LPUSH wrong x
GET wrong
APPEND wrong x
INCR wrong
SETRANGE wrong 0 x
STRLEN wrong
`;

const KEYS = `
FLUSHALL
DBSIZE
MSET one 1 two 2 three 3 four 4
DBSIZE
EXISTS one two nosuch one
EXISTS nosuch
TYPE one
TYPE nosuch
DEL one nosuch
UNLINK two
TOUCH three four nosuch
~sorted KEYS *
~sorted KEYS t*
KEYS f[n-p]ur
KEYS f?ur
KEYS nosuch*
RENAME three drei
RENAME nosuch other
RENAMENX drei four
RENAMENX drei trois
COPY four copy
COPY four copy
COPY four copy REPLACE
COPY four copy DB 1
COPY nosuch copy
RANDOMKEY extra
~shape RANDOMKEY
EXPIRE four 100
~near TTL four
EXPIRE four 200 NX
EXPIRE four 200 GT
EXPIRE four 150 GT
EXPIRE four 100 LT
EXPIRE trois 100 XX
EXPIRE four 100 NX GT
EXPIRE four 100 BOGUS
EXPIRE nosuch 100
EXPIRE four notanumber
PEXPIRE four 100000
~near PTTL four
EXPIREAT four 4102444800
PEXPIREAT four 4102444800000
EXPIRETIME four
PEXPIRETIME four
PEXPIRETIME nosuch
EXPIRETIME trois
PERSIST four
PERSIST four
TTL four
TTL nosuch
PTTL four
PTTL nosuch
EXPIRE four -1
EXISTS four
OBJECT ENCODING copy
SET emb abc
OBJECT ENCODING emb
OBJECT ENCODING nosuch
OBJECT REFCOUNT emb
~near OBJECT IDLETIME emb
OBJECT FREQ emb
~shape OBJECT HELP
OBJECT BOGUS x
SET long "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
OBJECT ENCODING long
MOVE emb 1
SELECT 1
GET emb
DBSIZE
MOVE emb 0
FLUSHDB
DBSIZE
SELECT 0
SELECT 99
SELECT x
SWAPDB 0 1
SWAPDB 1 0
SWAPDB 0 99
~sorted SCAN 0 COUNT 1000
SCAN 0 MATCH nosuch* COUNT 1000
SCAN 0 COUNT 1000 TYPE hash
~sorted SCAN 0 COUNT 1000 TYPE string
SCAN notacursor
SCAN 0 COUNT 0
SCAN 0 BOGUS
RPUSH tosort 3 1 2 10
SORT tosort
SORT tosort DESC
SORT tosort ALPHA
SORT tosort LIMIT 1 2
MSET w_3 1 w_1 9 w_2 5 w_10 2
SORT tosort BY w_* GET # GET w_*
SORT tosort BY nosort
SORT tosort STORE sorted
LRANGE sorted 0 -1
SORT_RO tosort DESC
SORT emb BOGUS
RPUSH nonum a b
SORT nonum
DUMP nosuch
~shape MEMORY USAGE long
MEMORY USAGE nosuch
~shape MEMORY DOCTOR
~shape MEMORY STATS
~shape MEMORY HELP
WAIT 0 10
FLUSHALL ASYNC
FLUSHALL BOGUS
DBSIZE
DEL
EXISTS
`;

const HASHES = String.raw`
HSET h f1 v1 f2 v2
HSET h f1 changed f3 v3
HSET h f1
HGET h f1
HGET h nosuch
HGET nosuch f
HMSET h f4 v4 f5 5
HMSET h f4
HMGET h f1 nosuch f5
HMGET nosuch a b
~sorted HGETALL h
HGETALL nosuch
~sorted HKEYS h
~sorted HVALS h
HKEYS nosuch
HLEN h
HLEN nosuch
HEXISTS h f1
HEXISTS h nosuch
HSTRLEN h f1
HSTRLEN h nosuch
HSETNX h f1 x
HSETNX h f9 x
HINCRBY h f5 10
HINCRBY h f5 -100
HINCRBY h f1 1
HINCRBY h f5 notanumber
HSET h max 9223372036854775807
HINCRBY h max 1
HINCRBYFLOAT h f5 0.5
HINCRBYFLOAT h f5 1e3
HINCRBYFLOAT h f1 1
HINCRBYFLOAT h fl 3.0
HDEL h f1 f2 nosuch
HDEL nosuch f
~shape HRANDFIELD h
~shape HRANDFIELD h 2
~shape HRANDFIELD h -3
~sorted HRANDFIELD h 100
HRANDFIELD nosuch
HRANDFIELD nosuch 3
HSET one f v
HRANDFIELD one 1 WITHVALUES
HRANDFIELD one -2 WITHVALUES
HRANDFIELD h x
~sorted HSCAN h 0 COUNT 100
HSCAN one 0 MATCH f* COUNT 10
HSCAN nosuch 0
HSCAN one 0 COUNT 0
OBJECT ENCODING h
TYPE h
HSET "h\x00bin" "\xff" "\r\n"
HGET "h\x00bin" "\xff"
SET str x
HSET str f v
HGET str f
HGETALL str
DEL one
HDEL h f3 f4 f5 f9 max fl
EXISTS h
HGET
`;

const LISTS = String.raw`
RPUSH l a b c
LPUSH l z
LPUSHX l y
RPUSHX l d
LPUSHX nosuch x
RPUSHX nosuch x
LRANGE l 0 -1
LRANGE l 1 2
LRANGE l -2 -1
LRANGE l 5 1
LRANGE nosuch 0 -1
LRANGE l x 1
LLEN l
LLEN nosuch
LINDEX l 0
LINDEX l -1
LINDEX l 99
LINDEX l x
LSET l 0 first
LSET l 99 x
LSET nosuch 0 x
LINSERT l BEFORE a before
LINSERT l AFTER a after
LINSERT l AFTER nosuch x
LINSERT nosuch BEFORE a x
LINSERT l SIDEWAYS a x
LPOS l a
LPOS l nosuch
RPUSH dup a b a b a
LPOS dup a RANK 2
LPOS dup a RANK -1
LPOS dup a COUNT 0
LPOS dup a COUNT 2 RANK -1
LPOS dup a COUNT 0 MAXLEN 2
LPOS dup a RANK 0
LREM dup 1 a
LREM dup -1 b
LREM dup 0 nosuch
LRANGE dup 0 -1
LPOP l
RPOP l
LPOP l 2
RPOP l 2
LPOP l 0
LPOP nosuch
LPOP nosuch 2
LPOP l -1
RPUSH t 1 2 3 4 5
LTRIM t 1 3
LRANGE t 0 -1
LTRIM t 5 1
EXISTS t
RPUSH src 1 2 3
RPOPLPUSH src dst
RPOPLPUSH nosuch dst
LMOVE src dst LEFT RIGHT
LMOVE dst dst LEFT RIGHT
LMOVE src dst UP DOWN
LRANGE dst 0 -1
RPOPLPUSH dst dst
LMPOP 1 dst LEFT
LMPOP 2 nosuch dst RIGHT COUNT 5
LMPOP 1 nosuch LEFT
LMPOP 0 x LEFT
RPUSH q 1 2 3 4 5 6 7 8
BLPOP q 1
BRPOP nosuch q 1
BLMOVE q q2 LEFT RIGHT 1
BRPOPLPUSH q q2 1
BLMPOP 1 2 nosuch q LEFT COUNT 2
BLPOP nosuch 0.01
BRPOP nosuch 0.01
BLMOVE nosuch q2 LEFT RIGHT 0.01
BRPOPLPUSH nosuch q2 0.01
BLMPOP 0.01 1 nosuch LEFT
BLPOP q -1
BLPOP q x
RPUSH bin "\x00\xff\r\n"
LRANGE bin 0 -1
OBJECT ENCODING bin
SET str x
LPUSH str x
LRANGE str 0 -1
LPUSH
`;

const SETS = String.raw`
SADD s a b c
SADD s a d
SADD s
SCARD s
SCARD nosuch
SISMEMBER s a
SISMEMBER s nosuch
SISMEMBER nosuch a
SMISMEMBER s a nosuch b
SMISMEMBER nosuch a b
~sorted SMEMBERS s
SMEMBERS nosuch
SREM s a nosuch
SREM nosuch a
SADD s2 b c x
~sorted SINTER s s2
~sorted SUNION s s2
~sorted SDIFF s s2
SINTER s nosuch
SINTERCARD 2 s s2
SINTERCARD 2 s s2 LIMIT 1
SINTERCARD 0 s
SINTERCARD 2 s s2 LIMIT -1
SINTERSTORE d s s2
SUNIONSTORE d s s2
SDIFFSTORE d s s2
~sorted SMEMBERS d
SDIFFSTORE d s s
EXISTS d
SMOVE s s2 d
SMOVE s s2 nosuch
SMOVE nosuch s2 x
~shape SRANDMEMBER s2
~shape SRANDMEMBER s2 2
~shape SRANDMEMBER s2 -5
~sorted SRANDMEMBER s2 100
SRANDMEMBER nosuch
SRANDMEMBER nosuch 2
~shape SPOP s2
~shape SPOP s2 1
SPOP nosuch
SPOP nosuch 1
SPOP s2 -1
SADD one m
SPOP one
EXISTS one
~sorted SSCAN s 0 COUNT 100
SSCAN s 0 MATCH nosuch*
SADD ints 3 1 2
SMEMBERS ints
OBJECT ENCODING ints
SADD ints notint
OBJECT ENCODING ints
SADD bin "\x00\xff"
SMEMBERS bin
SET str x
SADD str x
SINTER s str
`;

const ZSETS = `
ZADD z 1 a 2 b 3 c
ZADD z 2.5 b 4 d
ZADD z NX 9 a 5 e
ZADD z XX 9 a 5 nosuch
ZADD z GT 1 a 10 b
ZADD z LT 1 a 20 b
ZADD z CH 7 a 7 f
ZADD z INCR 1.5 a
ZADD z NX INCR 1 a
ZADD z NX XX 1 a
ZADD z GT LT 1 a
ZADD z x a
ZADD z nan a
ZADD z 1
ZADD z INCR 1 a 2 b
ZADD inf +inf top -inf bottom
ZRANGE inf 0 -1 WITHSCORES
ZINCRBY inf -inf top
ZCARD z
ZCARD nosuch
ZSCORE z a
ZSCORE z nosuch
ZMSCORE z a nosuch b
ZINCRBY z 2 a
ZINCRBY z 0.1 new
ZRANK z a
ZRANK z nosuch
ZREVRANK z a
ZCOUNT z -inf +inf
ZCOUNT z (3 7
ZCOUNT z x 1
ZRANGE z 0 -1
ZRANGE z 0 -1 WITHSCORES
ZRANGE z 0 -1 REV
ZRANGE z (1 5 BYSCORE
ZRANGE z 5 (1 BYSCORE REV LIMIT 0 2
ZRANGE z 0 -1 LIMIT 0 1
ZREVRANGE z 0 1 WITHSCORES
ZRANGEBYSCORE z -inf +inf WITHSCORES
ZRANGEBYSCORE z (2 +inf LIMIT 1 2
ZREVRANGEBYSCORE z +inf (2
ZRANGEBYSCORE z x 1
ZADD lex 0 a 0 b 0 c 0 d 0 e
ZRANGEBYLEX lex - +
ZRANGEBYLEX lex [b (d
ZRANGEBYLEX lex b d
ZREVRANGEBYLEX lex + [c
ZRANGE lex [b + BYLEX LIMIT 1 2
ZLEXCOUNT lex - +
ZLEXCOUNT lex [b [d
ZREMRANGEBYLEX lex [a (c
ZRANGE lex 0 -1
ZRANGESTORE dst z 0 2
ZRANGESTORE dst z (1 5 BYSCORE
ZRANGE dst 0 -1 WITHSCORES
ZREM z a nosuch
ZREM nosuch a
ZREMRANGEBYRANK z 0 0
ZREMRANGEBYSCORE z 0 2
ZRANGE z 0 -1 WITHSCORES
ZADD u1 1 a 2 b
ZADD u2 10 b 20 c
ZUNIONSTORE out 2 u1 u2
ZUNIONSTORE out 2 u1 u2 WEIGHTS 2 3 AGGREGATE MAX
ZRANGE out 0 -1 WITHSCORES
ZINTERSTORE out 2 u1 u2
ZDIFFSTORE out 2 u1 u2
ZUNION 2 u1 u2 WITHSCORES
ZINTER 2 u1 u2 WITHSCORES
ZINTER 2 u1 u2 AGGREGATE MIN
ZDIFF 2 u1 u2 WITHSCORES
ZINTERCARD 2 u1 u2
ZINTERCARD 2 u1 u2 LIMIT 1
ZUNION 0 u1
ZUNIONSTORE out 2 u1
ZPOPMIN u1
ZPOPMAX u2
ZPOPMIN u1 5
ZPOPMAX nosuch
ZPOPMIN nosuch 2
ZADD m 1 a 2 b 3 c 4 d 5 e 6 f
ZMPOP 1 m MIN
ZMPOP 2 nosuch m MAX COUNT 2
ZMPOP 1 nosuch MIN
BZPOPMIN m 1
BZPOPMAX nosuch m 1
BZMPOP 1 1 m MIN
BZPOPMIN nosuch 0.01
BZPOPMAX nosuch 0.01
BZMPOP 0.01 1 nosuch MIN
ZADD r 1 only
ZRANDMEMBER r
ZRANDMEMBER r 2
ZRANDMEMBER r -2 WITHSCORES
ZRANDMEMBER nosuch
ZRANDMEMBER nosuch 2
ZSCAN r 0
ZSCAN nosuch 0
~sorted ZSCAN lex 0 COUNT 100
OBJECT ENCODING r
ZADD prec 0.1 a 3.0 b 1e300 c 1e-7 d 123456789012345 e 0.30000000000000004 f
ZRANGE prec 0 -1 WITHSCORES
SET str x
ZADD str 1 x
ZRANGE str 0 -1
`;

const TRANSACTIONS = `
MULTI
SET t 1
INCR t
GET t
EXEC
MULTI
SET t nope
INCR t
LPUSH t x
GET t
EXEC
MULTI
NOSUCHCOMMAND
SET t 1
EXEC
MULTI
GET
EXEC
MULTI
SET t discarded
DISCARD
GET t
EXEC
DISCARD
MULTI
MULTI
WATCH t
DISCARD
WATCH t
SET t changed
MULTI
GET t
EXEC
WATCH t
MULTI
GET t
EXEC
WATCH t other
UNWATCH
SET t again
MULTI
GET t
EXEC
MULTI
EXEC
MULTI
SELECT 2
SET indb 2
EXEC
GET indb
SELECT 0
GET indb
WATCH
`;

const SERVER = `
PING
PING hello
PING a b
ECHO "hello world"
ECHO
~shape TIME
CONFIG GET maxmemory-policy
CONFIG GET save
CONFIG GET nosuchparameter
~sorted CONFIG GET maxmemory maxmemory-samples
~sorted CONFIG GET m?xmemory
CONFIG SET maxmemory-policy allkeys-lru
CONFIG GET maxmemory-policy
CONFIG SET maxmemory-policy noeviction
CONFIG SET maxmemory-policy bogus
CONFIG SET nosuchparameter 1
CONFIG SET maxmemory notanumber
CONFIG SET
CONFIG RESETSTAT
~shape CONFIG HELP
CONFIG BOGUS
~shape CONFIG REWRITE
~shape INFO
~shape INFO server
~shape INFO clients memory
INFO nosuchsection
COMMAND COUNT extra
~shape COMMAND COUNT
~shape COMMAND
~shape COMMAND LIST
COMMAND LIST FILTERBY PATTERN xgetx
COMMAND LIST FILTERBY BOGUS x
~shape COMMAND INFO get
COMMAND INFO nosuch
~shape COMMAND DOCS get
COMMAND GETKEYS MSET a 1 b 2
COMMAND GETKEYS GET
COMMAND GETKEYS PING x
COMMAND GETKEYS NOSUCH x
COMMAND GETKEYS GET a b c
COMMAND GETKEYSANDFLAGS SET a 1
~shape COMMAND HELP
COMMAND BOGUS
~shape CLIENT ID
CLIENT GETNAME
CLIENT SETNAME tester
CLIENT GETNAME
CLIENT SETNAME "bad name"
CLIENT SETNAME ""
~shape CLIENT LIST
~shape CLIENT LIST TYPE normal
CLIENT LIST TYPE bogus
CLIENT LIST ID 999999
~shape CLIENT INFO
CLIENT KILL 1.2.3.4:5
CLIENT KILL ID 999999
CLIENT KILL ADDR 1.2.3.4:5
CLIENT KILL BOGUS x
CLIENT KILL
CLIENT NO-EVICT on
CLIENT NO-EVICT off
CLIENT NO-EVICT maybe
CLIENT UNBLOCK 999999
CLIENT UNBLOCK x
CLIENT REPLY bogus
CLIENT PAUSE x
CLIENT PAUSE 0
CLIENT UNPAUSE
CLIENT TRACKINGINFO
CLIENT GETREDIR
CLIENT CACHING yes
CLIENT TRACKING off
~shape CLIENT HELP
CLIENT BOGUS
~near LASTSAVE
~shape DEBUG HELP
DEBUG BOGUS
~shape LATENCY HELP
LATENCY LATEST
LATENCY HISTORY x
ACL WHOAMI
MEMORY PURGE
LATENCY RESET
LATENCY DOCTOR x
SLOWLOG LEN
SLOWLOG GET
SLOWLOG RESET
~shape SLOWLOG HELP
~shape ROLE
AUTH
AUTH password
AUTH user password
NOSUCHCOMMAND
NOSUCHCOMMAND with "some args" here
GET
HELLO 9
HELLO x
~near OBJECT IDLETIME nosuch
READONLY
READWRITE
ASKING
~shape LOLWUT
FLUSHDB ASYNC
FLUSHDB SYNC
FLUSHDB BOGUS
PUBLISH channel message
PUBSUB CHANNELS
PUBSUB NUMPAT
PUBSUB NUMSUB a
SPUBLISH channel message
~shape PUBSUB HELP
EVAL "return 1" 0
SCRIPT FLUSH
SCRIPT EXISTS abc
PFADD hll a b c
PFCOUNT hll
RESET
`;

/** Commands that change the connection itself; each client test runs them in its own way. */
export const RUN_ELSEWHERE: ReadonlySet<string> = new Set([
  'hello',
  'quit',
  'shutdown',
  'client|reply',
  'monitor',
  'subscribe',
  'psubscribe',
  'unsubscribe',
  'punsubscribe',
  'ssubscribe',
  'sunsubscribe',
]);

export const SESSION: Readonly<Record<string, string>> = {
  strings: STRINGS,
  keys: KEYS,
  hashes: HASHES,
  lists: LISTS,
  sets: SETS,
  zsets: ZSETS,
  transactions: TRANSACTIONS,
  server: SERVER,
};

/** The steps of one group, in order. */
export function stepsOf(text: string): Step[] {
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map(parseStep);
}

function parseStep(text: string): Step {
  const match = /^((?:~[a-z]+ )*)(.*)$/.exec(text)!;
  const marks = match[1]!.split(' ').filter((mark) => mark !== '');
  const line = match[2]!;
  const compare = (marks.find((mark) => mark !== '~skipcli') ?? '~equal').slice(1) as Comparison;
  return { line, args: splitArguments(line), compare, cli: !marks.includes('~skipcli') };
}

/** Splits a line as redis-cli does: words and double quoted strings with \xHH, \r and \n. */
export function splitArguments(line: string): Buffer[] {
  const words = line.match(/"(?:[^"\\]|\\.)*"|[^ ]+/g) ?? [];
  return words.map((word) => {
    if (!word.startsWith('"')) return Buffer.from(word);
    const text = word
      .slice(1, -1)
      .replace(/\\(?:x([0-9a-f]{2})|(.))/g, (_, hex?: string, letter?: string) =>
        hex !== undefined ? String.fromCharCode(Number.parseInt(hex, 16)) : (ESCAPES[letter!] ?? letter!),
      );
    return Buffer.from(text, 'latin1');
  });
}

const ESCAPES: Readonly<Record<string, string>> = { n: '\n', r: '\r', t: '\t' };
