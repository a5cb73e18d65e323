/**
 * What a comparison with redis cannot show of the collection commands: random picks, scans to their end, output limits,
 * what watchers are told and what memory is accounted.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createTestEngine, MemorySink, type TestEngine } from '../harness.ts';

/** Bulk strings of a flat reply, in order. */
function strings(reply: string): string[] {
  return [...reply.matchAll(/\$[0-9]+\r\n([^\r]*)\r\n/g)].map((match) => match[1]!);
}

function fill(kv: TestEngine, size: number): void {
  for (let i = 0; i < size; i++) {
    kv.call('SADD', 's', `m${i}`);
    kv.call('SADD', 'i', i);
    kv.call('HSET', 'h', `m${i}`, `v${i}`);
    kv.call('ZADD', 'z', i / 2, `m${i}`);
  }
}

const SIZES = [1, 5, 100, 700];

test('a positive count gives different elements, a negative one gives as many as asked for', () => {
  for (const size of SIZES) {
    const kv = createTestEngine({ seed: size });
    fill(kv, size);
    for (const [command, key] of [
      ['SRANDMEMBER', 's'],
      ['SRANDMEMBER', 'i'],
      ['HRANDFIELD', 'h'],
      ['ZRANDMEMBER', 'z'],
    ] as const) {
      const known = new Set(Array.from({ length: size }, (_, i) => (key === 'i' ? `${i}` : `m${i}`)));
      for (const count of [1, 2, size >> 2, size - 1, size, size + 10]) {
        const got = strings(kv.call(command, key, count));
        assert.equal(got.length, Math.min(count, size), `${command} ${count} of ${size}`);
        assert.equal(new Set(got).size, got.length);
        for (const member of got) assert.ok(known.has(member), member);
      }
      const many = strings(kv.call(command, key, -3 * size));
      assert.equal(many.length, 3 * size);
      for (const member of many) assert.ok(known.has(member), member);
      assert.ok(known.has(strings(kv.call(command, key))[0]!));
    }
  }
});

test('random fields come with their values, random members with their scores', () => {
  const kv = createTestEngine();
  fill(kv, 300);
  for (const count of [3, 250, 1000, -40]) {
    const fields = strings(kv.call('HRANDFIELD', 'h', count, 'WITHVALUES'));
    for (let i = 0; i < fields.length; i += 2) assert.equal(fields[i + 1], `v${fields[i]!.slice(1)}`);
    const members = strings(kv.call('ZRANDMEMBER', 'z', count, 'WITHSCORES'));
    for (let i = 0; i < members.length; i += 2) assert.equal(Number(members[i + 1]), Number(members[i]!.slice(1)) / 2);
    assert.equal(fields.length, members.length);
  }
});

test('every element comes up: no random choice is blind to some', () => {
  const kv = createTestEngine();
  fill(kv, 150);
  for (const [command, key] of [
    ['SRANDMEMBER', 's'],
    ['SRANDMEMBER', 'i'],
    ['HRANDFIELD', 'h'],
    ['ZRANDMEMBER', 'z'],
  ] as const) {
    const met = new Map<string, number>();
    for (const member of strings(kv.call(command, key, -30000))) met.set(member, (met.get(member) ?? 0) + 1);
    assert.equal(met.size, 150);
    // 200 expected of each, standard deviation 14
    for (const [member, times] of met) assert.ok(times > 120 && times < 280, `${member}: ${times}`);
  }
});

test('SPOP takes each member once, and the key with the last', () => {
  for (const size of SIZES) {
    const kv = createTestEngine({ seed: size });
    fill(kv, size);
    for (const key of ['s', 'i']) {
      const met = new Set<string>();
      while (kv.call('EXISTS', key) === ':1\r\n') {
        for (const member of strings(met.size % 2 === 0 ? kv.call('SPOP', key) : kv.call('SPOP', key, 7))) {
          assert.ok(!met.has(member));
          met.add(member);
          assert.equal(kv.call('SISMEMBER', key, member), ':0\r\n');
        }
      }
      assert.equal(met.size, size);
    }
  }
});

test('scans meet every element, in steps of about COUNT, and MATCH leaves out the others', () => {
  const kv = createTestEngine();
  fill(kv, 1500);
  for (const [command, key, width] of [
    ['SSCAN', 's', 1],
    ['HSCAN', 'h', 2],
    ['ZSCAN', 'z', 2],
  ] as const) {
    for (const [pattern, expected] of [
      ['*', 1500],
      ['m12?', 10],
      ['nothing', 0],
    ] as const) {
      const met = new Set<string>();
      let cursor = '0';
      let steps = 0;
      do {
        const [next, ...found] = strings(kv.call(command, key, cursor, 'COUNT', 50, 'MATCH', pattern));
        for (let i = 0; i < found.length; i += width) {
          met.add(found[i]!);
          if (command === 'HSCAN') assert.equal(found[i + 1], `v${found[i]!.slice(1)}`);
          if (command === 'ZSCAN') assert.equal(Number(found[i + 1]), Number(found[i]!.slice(1)) / 2);
        }
        assert.ok(found.length <= 50 * width);
        cursor = next!;
        steps++;
      } while (cursor !== '0');
      assert.equal(met.size, expected);
      assert.equal(steps, 30);
    }
  }
});

test('a count without measure ends where the output limit ends the client', () => {
  const kv = createTestEngine();
  fill(kv, 200);
  for (const command of [
    ['SRANDMEMBER', 's', '-9223372036854775807'],
    ['HRANDFIELD', 'h', '-4611686018427387903', 'WITHVALUES'],
    ['ZRANDMEMBER', 'z', '-4611686018427387903', 'WITHSCORES'],
  ]) {
    const sink = new MemorySink(4096, 100_000);
    kv.connect(sink).call(...command);
    assert.ok(sink.writer.overflowed);
  }
});

test('watchers are told of changes, and of nothing else', () => {
  const kv = createTestEngine();
  const other = kv.connect();
  const setUp = () => {
    kv.call('FLUSHALL');
    kv.call('SADD', 's', 'a', 'b');
    kv.call('HSET', 'h', 'a', '1', 'b', '2');
    kv.call('RPUSH', 'l', 'a', 'b', 'a');
    kv.call('ZADD', 'z', '1', 'a', '2', 'b');
    kv.call('SADD', 'other', 'c');
  };
  const told = (key: string, command: string): boolean => {
    setUp();
    kv.call('WATCH', key);
    other.call(...command.split(' '));
    kv.call('MULTI');
    kv.call('PING');
    return kv.call('EXEC') === '*-1\r\n';
  };
  for (const [key, command] of [
    ['s', 'SADD s c'],
    ['s', 'SREM s a'],
    ['s', 'SPOP s'],
    ['s', 'SPOP s 10'],
    ['s', 'SMOVE s other a'],
    ['other', 'SMOVE s other a'],
    ['other', 'SINTERSTORE other s none'],
    ['other', 'SUNIONSTORE other s none'],
    ['h', 'HSET h a 1'],
    ['h', 'HSETNX h c 1'],
    ['h', 'HDEL h a b'],
    ['h', 'HINCRBY h a 1'],
    ['h', 'HINCRBYFLOAT h a 1.5'],
    ['l', 'LPUSH l x'],
    ['l', 'RPUSHX l x'],
    ['l', 'LPOP l'],
    ['l', 'RPOP l 5'],
    ['l', 'LSET l 0 x'],
    ['l', 'LINSERT l BEFORE b x'],
    ['l', 'LREM l 0 a'],
    ['l', 'LTRIM l 1 1'],
    ['l', 'LMOVE l m LEFT LEFT'],
    ['m', 'LMOVE l m LEFT LEFT'],
    ['l', 'RPOPLPUSH l l'],
    ['l', 'LMPOP 1 l LEFT'],
    ['z', 'ZADD z 3 a'],
    ['z', 'ZADD z 3 c'],
    ['z', 'ZINCRBY z 1 a'],
    ['z', 'ZREM z a'],
    ['z', 'ZPOPMIN z'],
    ['z', 'ZMPOP 1 z MAX'],
    ['z', 'ZREMRANGEBYRANK z 0 -1'],
    ['z', 'ZREMRANGEBYSCORE z 1 1'],
    ['z', 'ZUNIONSTORE z 1 s'],
    ['z', 'ZRANGESTORE z z 5 6'],
  ] as const) {
    assert.ok(told(key, command), command);
  }
  for (const [key, command] of [
    ['s', 'SADD s a'],
    ['s', 'SREM s x'],
    ['s', 'SPOP s 0'],
    ['s', 'SMOVE s other x'],
    ['s', 'SMOVE s s a'],
    ['s', 'SUNIONSTORE other s none'],
    ['none', 'SINTERSTORE none s none'],
    ['h', 'HSETNX h a 2'],
    ['h', 'HDEL h x'],
    ['h', 'HINCRBY h a x'],
    ['none', 'LPUSHX none x'],
    ['l', 'LPOP l 0'],
    ['l', 'LSET l 10 x'],
    ['l', 'LINSERT l BEFORE x y'],
    ['l', 'LREM l 0 x'],
    ['none', 'LMOVE none none LEFT LEFT'],
    ['z', 'ZADD z NX 3 a'],
    ['z', 'ZADD z 1 a'],
    ['z', 'ZADD z XX 1 c'],
    ['z', 'ZADD z GT 0 a'],
    ['z', 'ZREM z x'],
    ['z', 'ZPOPMIN z 0'],
    ['z', 'ZREMRANGEBYSCORE z 5 6'],
    ['none', 'ZUNIONSTORE none 1 none'],
  ] as const) {
    assert.ok(!told(key, command), command);
  }
});

test('memory is accounted as collections grow, and all of it given back', () => {
  const kv = createTestEngine();
  const used = () => kv.engine.store.objectBytes;
  assert.equal(used(), 0);
  for (const [add, remove, key] of [
    [['SADD', 's'], ['SREM', 's'], 's'],
    [['HSET', 'h', 'x'], ['HDEL', 'h'], 'h'],
    [['RPUSH', 'l'], ['LREM', 'l', '0'], 'l'],
    [['ZADD', 'z', '1'], ['ZREM', 'z'], 'z'],
  ] as const) {
    let before = 0;
    for (const size of [10, 1000, 5000]) {
      for (let i = 0; i < size; i++)
        kv.call(...(add[0] === 'HSET' ? ['HSET', 'h', `member:${i}`, 'value'] : [...add, `member:${i}`]));
      const now = used();
      // Not less than the bytes, not more than 120 beside them for each element of a large value.
      assert.ok(now > before + size, `${key} of ${size}: ${now}`);
      assert.ok(now < 1200 + 2 * size * 120, `${key} of ${size}: ${now}`);
      before = now;
    }
    if (key !== 'l') for (let i = 0; i < 5000; i++) kv.call(...remove, `member:${i}`);
    else kv.call('LTRIM', 'l', '1', '0');
    assert.equal(kv.call('EXISTS', key), ':0\r\n');
    assert.equal(used(), 0, key);
  }
});
