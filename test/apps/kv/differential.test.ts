/**
 * The engine's own families against a real redis-server: thousands of random commands from a seed, and chosen edge cases.
 * Set ISTHMUS_SEED to try others.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Argument, MemorySink, TestClient } from './harness.ts';
import { Dice, parseReply, type Reply, startOracle, testSeed } from './oracle.ts';
import { comparisonOf, randomCommand } from './random-commands.ts';

test('random commands get the replies of redis', async (t) => {
  const oracle = await startOracle(t);
  if (oracle === null) return;
  const seed = testSeed(20240607);
  const dice = new Dice(seed);
  for (let round = 0; round < 20; round++) {
    await oracle.clear();
    await oracle.all(
      Array.from({ length: 500 }, () => randomCommand(dice)),
      comparisonOf,
      `seed ${seed}, round ${round}`,
    );
  }
});

test('random commands get the replies of redis in RESP3', async (t) => {
  const oracle = await startOracle(t);
  if (oracle === null) return;
  const seed = testSeed(3);
  const dice = new Dice(seed);
  for (let round = 0; round < 4; round++) {
    await oracle.clear();
    await oracle.both(['HELLO', '3'], { mask: /\$2\r\nid\r\n:[0-9]+\r\n/ });
    await oracle.all(
      Array.from({ length: 500 }, () => randomCommand(dice)),
      comparisonOf,
      `seed ${seed}, round ${round}`,
    );
  }
});

test('transactions get the replies of redis', async (t) => {
  const oracle = await startOracle(t);
  if (oracle === null) return;
  const seed = testSeed(17);
  const dice = new Dice(seed);
  // what replies the same whenever it is asked
  const steady = (): Argument[] => {
    for (;;) {
      const args = randomCommand(dice);
      const how = comparisonOf(args);
      if (Object.keys(how).length === 0 && !/^(hello|keys|select|multi|exec|object)$/i.test(String(args[0])))
        return args;
    }
  };
  for (let round = 0; round < 200; round++) {
    if (round % 20 === 0) await oracle.clear();
    const commands: Argument[][] = [['WATCH', 'a', 'b']];
    if (dice.chance(20)) commands.push(steady());
    commands.push(['MULTI']);
    for (let i = dice.below(8); i >= 0; i--) commands.push(steady());
    commands.push([dice.chance(90) ? 'EXEC' : 'DISCARD']);
    await oracle.all(commands, () => ({}), `seed ${seed}, round ${round}`);
  }
});

test('SORT gets the replies of redis', async (t) => {
  const oracle = await startOracle(t);
  if (oracle === null) return;
  const seed = testSeed(23);
  const dice = new Dice(seed);
  await oracle.clear();
  const setup: Argument[][] = [
    ['RPUSH', 'numbers', ...Array.from({ length: 30 }, () => dice.below(20))],
    ['RPUSH', 'words', 'delta', 'alpha', 'Charlie', 'bravo', '', 'alpha', '10', '9'],
    ['SADD', 'set', '3', '1', '2', '10'],
    ['ZADD', 'zset', '3', '1', '1', '3', '2', '2', '10', '0'],
    ...Array.from({ length: 12 }, (_, i): Argument[] => ['SET', `weight_${i}`, 20 - i]),
    ...Array.from({ length: 12 }, (_, i): Argument[] => [
      'HSET',
      `object_${i}`,
      'rank',
      (i * 7) % 11,
      'name',
      `name ${i}`,
    ]),
    ['SET', 'string', 'x'],
  ];
  await oracle.all(setup);
  const commands: Argument[][] = [];
  for (let i = 0; i < 600; i++) {
    const args: Argument[] = [
      dice.pick(['SORT', 'SORT', 'SORT', 'SORT_RO']),
      dice.pick(['numbers', 'words', 'zset', 'set', 'string', 'nosuch']),
    ];
    if (dice.chance(30))
      args.push('BY', dice.pick(['weight_*', 'object_*->rank', 'nosort', '*', 'nosuch_*', 'object_*->']));
    if (dice.chance(30))
      args.push('LIMIT', dice.pick(['0', '2', '-1', '100', 'x']), dice.pick(['3', '0', '-1', '100']));
    for (; dice.chance(25); ) args.push('GET', dice.pick(['#', 'weight_*', 'object_*->name', 'nosuch_*', 'plain']));
    if (dice.chance(50)) args.push(dice.pick(['ASC', 'DESC', 'desc']));
    // what is equal under ALPHA comes in the order of redis's own sort algorithm where it is sorted by other keys
    if (dice.chance(60) && !args.includes('BY')) args.push('ALPHA');
    if (dice.chance(10)) args.push('STORE', 'stored');
    if (dice.chance(3)) args.push('bad');
    // a set that is not sorted has no order
    if (args[1] === 'set' && args.includes('nosort')) continue;
    commands.push(args);
    if (dice.chance(20)) commands.push(['LRANGE', 'stored', '0', '-1'], ['TYPE', 'stored']);
  }
  await oracle.all(commands, () => ({}), `seed ${seed}`);
});

const RAW: readonly string[] = [
  'PING\r\n',
  'PING\n',
  '\r\n\r\nPING\r\n',
  'SET k "a\\x41\\n\\t\\"b"\r\nGET k\r\n',
  "SET k 'it\\'s \\n'\r\nGET k\r\n",
  'SET k "open\r\nPING\r\n',
  'SET k "a"b\r\nPING\r\n',
  'ECHO ""\r\n',
  '  ECHO   spaced  \r\n',
  '*0\r\nPING\r\n',
  '*-5\r\nPING\r\n',
  '*1\r\n$4\r\nPING\r\n',
  '*x\r\nPING\r\n',
  '*\r\nPING\r\n',
  '* 1\r\n$4\r\nPING\r\n',
  '*01\r\n$4\r\nPING\r\n',
  '*9999999999\r\n',
  '*1\r\n:4\r\nPING\r\n',
  '*1\r\nPING\r\n',
  '*1\r\n$\r\n',
  '*1\r\n$x\r\n',
  '*1\r\n$-1\r\n',
  '*1\r\n$04\r\nPING\r\n',
  '*1\r\n$536870913\r\n',
  '*2\r\n$4\r\nECHO\r\n$0\r\n\r\n',
  '*1\r\n$0\r\n\r\n',
  '*3\r\n$3\r\nSET\r\n$1\r\na\r\n',
  'QUIT\r\nPING\r\n',
  'GET\r\nGET a b\r\n',
  'nosuch a b c\r\n',
  `nosuch ${'x'.repeat(200)} y\r\n`,
  `${'n'.repeat(200)}\r\n`,
  'CLIENT REPLY OFF\r\nPING\r\nCLIENT REPLY ON\r\nPING\r\n',
  'CLIENT REPLY SKIP\r\nPING\r\nECHO a\r\n',
  'MULTI\r\nSET a 1\r\nCLIENT REPLY SKIP\r\nGET a\r\nEXEC\r\n',
  'MULTI\r\nnosuch\r\nEXEC\r\nMULTI\r\nMULTI\r\nWATCH a\r\nEXEC\r\n',
  'CLIENT SETNAME \u0001\r\nCLIENT SETNAME ok\r\nCLIENT GETNAME\r\nRESET\r\nCLIENT GETNAME\r\n',
  'CONFIG GET maxmemory-samples\r\nCONFIG SET nosuch 1\r\nCONFIG SET maxmemory x\r\nCONFIG SET maxmemory-policy bad\r\n',
  'SELECT 99\r\nSELECT x\r\nSWAPDB 0 99\r\nSWAPDB x 1\r\nSWAPDB 0 y\r\nMOVE a 99\r\nCOPY a b DB 99\r\n',
  'EXEC a\r\nMULTI\r\nSET a 1\r\nEXEC a\r\nGET a\r\n',
  'SLOWLOG LEN\r\nLATENCY LATEST\r\nLATENCY RESET\r\nROLE\r\nACL WHOAMI\r\nCOMMAND INFO nosuch\r\n',
];

test('raw requests, well formed and not, get the bytes of redis', async (t) => {
  const oracle = await startOracle(t);
  if (oracle === null) return;
  for (const raw of RAW) {
    const bytes = Buffer.from(raw, 'latin1');
    const theirs = await oracle.rawRedis(bytes);
    const client = new TestClient(oracle.engine, new MemorySink());
    assert.equal(client.send(bytes).toString('latin1'), theirs, JSON.stringify(raw));
    oracle.engine.closeSession(client.session);
    await oracle.clear();
  }
});

/** What COMMAND INFO says of a command: name, arity, flags, keys; sets in one order. */
function declaration(info: Reply): unknown {
  const [name, arity, flags, first, last, step] = info as [string, number, string[], number, number, number];
  return { name, arity, flags: [...flags].sort(), first, last, step };
}

test('commands are declared as redis declares them', async (t) => {
  const oracle = await startOracle(t);
  if (oracle === null) return;
  let compared = 0;
  for (const { name } of oracle.engine.table.commands) {
    const [ours] = parseReply(oracle.ours(['COMMAND', 'INFO', name])) as Reply[][];
    const [theirs] = parseReply(await oracle.redis(['COMMAND', 'INFO', name])) as Reply[][];
    assert.ok(ours && theirs, name);
    assert.deepEqual(declaration(ours), declaration(theirs));
    assert.deepEqual([...(ours[6] as string[])].sort(), [...(theirs[6] as string[])].sort(), `${name}: categories`);
    compared++;
    for (const sub of ours[9] as Reply[][]) {
      // CLIENT SETINFO and NO-TOUCH are of redis 7.2
      const same = (theirs[9] as Reply[][]).find((other) => other[0] === sub[0]);
      if (same === undefined) assert.match(String(sub[0]), /^client\|(setinfo|no-touch)$/);
      else assert.deepEqual(declaration(sub), declaration(same));
    }
  }
  assert.ok(compared > 150, `${compared} commands`);
});

/** Mistakes and edges of each command, one after another, as redis answers them. Words in quotes may be empty. */
const EDGES = `
set k v exat 1|get k|exists k|set k v pxat 1|ttl k|set k v ex 9223372036854775807|set k v px 9223372036854775807|set k v exat 9223372036854775807
set k v nx xx|set k v nx get|set k v xx get|get k|set k v get nx ex 10|set n 10|set n 11 xx keepttl get|getex k ex 0|getex k exat 1|get k|getex k persist ex 1|getex nosuch ex x
setex k 0 v|setex k -1 v|psetex k 0 v|setex k x v|setex k 9223372036854775807 v|getset|getdel nosuch|mset a|mset a 1 b|msetnx a 1 b
rpush list a|get list|set list x get|append list x|setrange list 0 x|incr list|getrange list 0 1|strlen list|getset list x|getdel list|getex list|mget list a|bitcount list|setbit list 0 1|bitop not d list
expire nosuch 10|expire list 10 nx|expire list 20 nx|expire list 5 gt|expire list 50 gt|expire list 100 lt|expire list 20 lt|expire list 20 nx xx|expire list 20 gt lt|expire list 20 nx gt|expire list x|expire list 9223372036854775807|pexpire list 9223372036854775807|expireat list 1|exists list
expire k -1|set k v|pexpireat k -1|exists k|expireat nosuch 5|persist nosuch|type nosuch|rename nosuch x|renamenx nosuch x|rename a a|set a 1|rename a a|renamenx a a
copy a a|copy a b|copy a b|copy a b replace|copy a b db|copy a b db 1 replace|copy nosuch b|move a 0|move a 1|move a 1|select 1|exists a b|flushdb|select 0
object|object encoding|object encoding nosuch|object freq k|object idletime nosuch|object refcount nosuch|object foo k|memory usage nosuch|memory usage|memory usage k samples|memory usage k samples -1|memory usage k samples x|memory usage k foo 1|memory foo
client|client foo|client id x|client getname|client setname|client setname a b|client setname ok|client getname|client setname ""|client kill|client kill 1.2.3.4:5|client kill id x|client kill id 0|client kill id 999|client kill type foo|client kill type normal skipme foo|client kill addr 1.2.3.4:5 id 7|client kill id|client kill foo bar|client kill user nosuch|client kill type pubsub|client kill laddr 9.9.9.9:9
client list type foo|client list type pubsub|client list id x|client list id 99999|client list foo|client no-evict foo|client no-evict on|client no-evict off|client reply foo|client reply|client getredir|client info x
command count x|command getkeys get a|command getkeys get|command getkeys|command getkeys nosuch a|command getkeys ping|command getkeys mset a 1 b 2|command getkeys mset a 1 b|command list filterby pattern ge?|command list filterby module foo|command list filterby aclcat nosuch|command list filterby foo bar|command list foo|command info nosuch|command docs nosuch|command foo
config|config foo|config get|config set a|config set maxmemory|config set maxmemory -1|config set maxmemory 10xb|config set maxmemory 1kb maxmemory 2kb|config get nosuch|config set maxmemory-policy foo|config set maxmemory-samples 0|config set maxmemory-samples x|config set maxmemory-samples 5|config set lfu-log-factor -1|config set timeout -1|config set proto-max-bulk-len 1|config set databases 5|config set maxmemory 0|config resetstat x|config resetstat|config rewrite
auth|auth a|auth default|auth default x|auth a b|auth a b c|hello 5|hello x|hello 2 auth default|hello 2 auth a b|hello 2 foo|hello 2 setname|ping a b|echo|echo a b|select|select 1 2|select -1|swapdb 0|swapdb 0 1 2|swapdb a 0|swapdb 0 a|swapdb 0 16|swapdb -1 0|time x|dbsize x
flushdb foo|flushall foo|flushdb async sync|slowlog|slowlog get -2|slowlog get -1|slowlog get 5|slowlog len x|slowlog reset|slowlog foo|latency|latency foo|latency history x|latency history|latency latest x|latency reset a b|acl|acl whoami|acl whoami x|role x|debug|debug foo|debug sleep 0|lolwut|reset x
multi x|multi|multi|watch a|get|exec|multi|get a|discard x|discard|discard|exec|unwatch x|unwatch|watch|multi|debug foo|exec|multi|client foo|exec|multi|config foo|exec|multi|get a b|get a|exec|multi|exec
scan|scan 0 count|scan 0 count 0|scan 0 count -1|scan 0 match|scan 0 type|scan 0 foo bar|scan 0 foo|scan abc|scan 0x10|scan 1e5|keys|keys a b|randomkey x|touch|unlink|del|exists|type|sort|sort nosuch limit 0|sort nosuch limit a b|sort nosuch by|sort nosuch get|sort nosuch store|sort nosuch store d|sort k|sort_ro nosuch store d
incr|incrby n|incrby n x|incrby n 1.5|incrbyfloat n|incrbyfloat n x|incrbyfloat n nan|incrbyfloat n inf|incrbyfloat n 1e400|incrbyfloat n 1e308|incrbyfloat n 0x10|incrbyfloat n " 1"|set n abc|incrbyfloat n 1|set n " 1"|incrbyfloat n 1|incr n|set n 5|incrbyfloat n 3.0e0|object encoding n|incr n|object encoding n|append n 1|object encoding n|incr n|object encoding n|set n 0.1|incrbyfloat n 0.2|incrbyfloat n -0.3|incrbyfloat n 1e-17|incrbyfloat n 1e-18|incrbyfloat n 12345678901234567890|incrbyfloat n 1e30|incrbyfloat n -1e30
setrange n -1 x|setrange n x x|setrange n 536870911 xx|setrange nosuch 0 ""|setrange nosuch 5 ""|exists nosuch|getrange nosuch 0 1|getrange n 0|setbit n -1 0|setbit n 4294967296 0|setbit n 4294967295 2|setbit n x 0|getbit n 4294967296|getbit n -1|bitcount n 0|bitcount n 0 0 foo|bitcount n 0 0 bit bit|bitcount n x 0|bitpos n 2|bitpos n x|bitpos n 1 0 0 bit x|bitpos nosuch 1 x|bitpos nosuch 0|bitop foo d n|bitop and d|bitop not d n n|bitop and d nosuch|exists d
get a b|GET|set|foo|foo bar baz
`;

test('edge cases and mistakes get the replies of redis', async (t) => {
  const oracle = await startOracle(t);
  if (oracle === null) return;
  for (const line of EDGES.split(/[|\n]/).filter((text) => text !== '')) {
    const args = [...line.matchAll(/"([^"]*)"|(\S+)/g)].map((match) => match[1] ?? match[2]!);
    // lists of commands and counts of connections differ
    const differs = /^(client kill type normal|command getkeys|command list|lolwut)/.test(line);
    await oracle.both(args, differs ? { typeOnly: true } : {});
  }
});
