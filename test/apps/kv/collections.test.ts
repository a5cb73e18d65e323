/**
 * Hashes, lists, sets and sorted sets against a real redis-server: thousands of random commands from a seed, with small
 * values and with large ones, in RESP2 and RESP3. Set ISTHMUS_SEED to try others.
 */
import { test } from 'node:test';
import { comparisonOfCollection, randomCollectionCommand, type Scale } from './collection-commands.ts';
import { Dice, type Oracle, startOracle, testSeed } from './oracle.ts';

async function run(oracle: Oracle, seed: number, scale: Scale, rounds: number, commands: number): Promise<void> {
  const dice = new Dice(seed);
  for (let round = 0; round < rounds; round++) {
    await oracle.clear();
    const resp = 2 + (round % 2);
    await oracle.both(['HELLO', resp], { typeOnly: true });
    await oracle.both(['SET', 'text', 'value']);
    await oracle.all(
      Array.from({ length: commands }, () => randomCollectionCommand(dice, scale)),
      (args) => comparisonOfCollection(args, !scale.long && scale.members < 60),
      `seed ${seed}, round ${round}, RESP${resp}`,
    );
  }
}

test('random commands on small collections get the replies of redis', async (t) => {
  const oracle = await startOracle(t);
  if (oracle === null) return;
  await run(oracle, testSeed(20250101), { members: 12, long: false }, 30, 600);
});

test('random commands on large collections get the replies of redis', async (t) => {
  const oracle = await startOracle(t);
  if (oracle === null) return;
  await run(oracle, testSeed(20250102), { members: 400, long: true }, 8, 1500);
});

/** Mistakes and edges, each as redis answers them. */
const EDGES = `
hset h f x|hset h a b c|hmset h a|hset h g 9223372036854775807|hincrby h g 1|hincrby h g -1|hincrby h g 1.5|hincrby h f 1
hincrby h new -9223372036854775808|hincrby h new -1|hincrbyfloat h f 1|hincrbyfloat h p nan|hincrbyfloat h p inf|hincrbyfloat h p x
hincrbyfloat h p 3.0e3|hincrbyfloat h p 0.1|hincrbyfloat h p 0.2|hincrbyfloat h p -3000.3|hstrlen h p|hget h p
hrandfield none|hrandfield none 3|hrandfield h abc|hrandfield h -9223372036854775808|hrandfield h 9223372036854775807 withvalues
hrandfield h 1 foo|hrandfield h 0|hrandfield h 100 withvalues|hrandfield s|hscan h x|hscan none 0 foo bar|hscan h 0 foo bar
hscan h 0 count 0|hscan h 0 count x|hscan h 0 match|hscan h 0 match p count 1000|hscan s 0|hkeys none|hgetall none
rpush l a b c a|lpos l a rank 0|lpos l a rank x|lpos l a count -1|lpos l a count x|lpos l a maxlen -1|lpos l a foo|lpos l a rank
lpos l a count 0|lpos l a rank -1 count 0 maxlen 3|lpos none a|lpos none a count 1|lpos s a|lpop none|lpop none 2|lpop none 0
lpop l -1|lpop l x|lpop l 1 2|lpop l 0|rpop l 2|lpop s 0|linsert l foo a b|linsert none before a b|linsert l before zz b
linsert l after b x|lset none 0 a|lset l 10 a|lset l x a|lset l -1 z|lindex none abc|lindex l abc|lindex l -100|ltrim l a b
ltrim none 0 1|lrange l 0 x|lrange none 0 -1|lmove l l2 foo left|lmove l l2 left foo|lmove none l2 left left|lmove l s left left
lmove l l left right|lmove l l2 left right|rpoplpush l2 l2|rpoplpush s l|lmpop 0 l left|lmpop x l left|lmpop 1 l|lmpop 1 l foo
lmpop 1 l left count 0|lmpop 1 l left count|lmpop 1 l left foo 1|lmpop 1 l left count 1 count 1|lmpop 2 none s left
lmpop 2 none l right count 10|lmpop 1 none left|lpushx none a|rpushx none a|lrem none 0 a|lrem l x a
sadd t 1 2 3|object encoding t|spop t 1 2|spop t -1|spop t x|spop none|spop none 2|spop t 0|spop h 0|srandmember none
srandmember none 2|srandmember t x|srandmember t 1 2|srandmember t 0|srandmember t 5|smove t u 1|smove t u 9|smove t t 2|smove t s 2
smove none s 2|smove s u 2|sintercard 0 a|sintercard x a|sintercard 2 a|sintercard 1 t limit -1|sintercard 1 t limit
sintercard 1 t limit 1|sintercard 2 t none|sintercard 2 t s|sinter t none|sinter none s|sinterstore d t none|sinterstore d s t
sunionstore d t u|smembers d|object encoding d|sdiffstore d none t|exists d|sunion none|sdiff none t|smismember none a b
sismember none a|scard s|sscan none 0|sscan t x|sscan t 0 count 1 match 2|smembers s
zadd z nx xx 1 a|zadd z gt lt 1 a|zadd z gt nx 1 a|zadd z lt nx 1 a|zadd z incr 1 a 2 b|zadd z incr 1|zadd z 1|zadd z nx 1
zadd z 1 a 2|zadd z x a|zadd z nan a|zadd z inf a|zincrby z -inf a|zincrby z x a|zadd z nx incr -inf a|zadd z 1 b 2 c 3 d
zadd z ch 5 b 2 c|zadd z gt ch 1 b 9 c|zadd z lt incr 1 c|zadd z xx incr 1 none|zadd none xx 1 a|zadd none xx incr 1 a
zadd s 1 a|zscore z a|zscore none a|zmscore z a x|zmscore none a|zrank z b|zrank z none|zrevrank z b|zrank none a
zpopmin s 0|zpopmin none 0|zpopmin z 0|zpopmin z -1|zpopmin z x|zpopmin z 1 2|zmpop 1 z foo|zmpop 1 z min count 0
zmpop 0 z min|zmpop 2 none z max|zmpop 1 none min|zmpop 2 s z min|zrandmember z x|zrandmember z 1 foo|zrandmember z 0
zrandmember z 10 withscores|zrandmember none|zrandmember none 1|zscan z x|zscan none 0 foo bar|zscan z 0 foo bar|zscan z 0
zadd z 1 b 2 c 2 cc 2 ccc 3 d 4 e|zrange z 0 1 limit 1 2|zrange z 0 1 limit 0 -1|zrange z 0 1 bylex|zrange z - + bylex withscores
zrange z a b|zrange z a b byscore|zrange z 0 -1 rev withscores|zrange z 1 3 byscore bylex|zrange z 1 3 byscore limit 1
zrange z (1 +inf byscore limit 1 2|zrange z 3 1 byscore rev limit -1 2|zrange z 3 1 byscore rev limit 1 -5|zrange z 5 1
zrevrange z 0 1 rev|zrevrange z 0 1 byscore|zrevrange z 0 1 withscores|zrangebyscore z 1 2 bylex|zrangebyscore z (1 (3 withscores
zrevrangebyscore z 3 (1 limit 0 2|zrangebylex z a b|zrangebylex z [a|zrangestore d z 0 -1 withscores|zrangestore d z 0 1
zrangestore d none 0 1|zrangestore d s 0 1|zrangestore d z 1 2 byscore rev|zrangestore d z 2 1 byscore rev limit 0 1|zrange d 0 -1
zremrangebyscore z a b|zremrangebyrank z a b|zremrangebylex z a b|zremrangebyrank none 0 1|zremrangebyscore s 0 1|zcount z a b
zcount z (1 2|zlexcount z a b|zlexcount z - +|zcount none 0 1|zunion 0 a|zunionstore d 0 a|zinterstore d -1 a|zunion 2 a|zunion x a
zinter 1 z weights|zinter 1 z weights x|zinter 1 z weights 1 aggregate|zinter 1 z aggregate avg|zdiff 1 z weights 1
zunionstore d 2 z t weights 2 0.5 aggregate max|zrange d 0 -1 withscores|zunionstore d 1 z withscores|zinter 2 z s withscores
zintercard 1 z limit -1|zintercard 1 z limit 2|zintercard 1 z withscores|zintercard 0 z|zdiffstore d 2 z z|zdiff 2 z none withscores
zunion 2 none none|zunion 2 z text|zunion 2 t u withscores|zinter 2 text none
`;

test('mistakes and edges get the replies of redis, in RESP2 and RESP3', async (t) => {
  const oracle = await startOracle(t);
  if (oracle === null) return;
  const commands = EDGES.trim()
    .split(/[|\n]/)
    .map((line) => line.split(' '));
  for (const resp of [2, 3]) {
    await oracle.clear();
    await oracle.both(['HELLO', resp], { typeOnly: true });
    await oracle.both(['SET', 'text', 'value']);
    await oracle.both(['SADD', 's', 'a', 'b']);
    await oracle.all(commands, (args) => comparisonOfCollection(args, true), `RESP${resp}`);
  }
});
