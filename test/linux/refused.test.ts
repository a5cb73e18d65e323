/** A process that may not use io_uring or AIO: what it is told, and what works all the same. Each case in a child of its own. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { describe, it } from 'node:test';

const url = (file: string): string => JSON.stringify(new URL(`../../src/linux/${file}.js`, import.meta.url).href);
const deny = JSON.stringify(new URL('./deny.js', import.meta.url).href);
const URING = [425]; // set-up alone: libuv may have a ring of its own by then
const IO_SETUP = process.arch === 'x64' ? 206 : 0;

function denied(numbers: number[], errno: number, body: string): Promise<unknown> {
  const program = `
    const { denySystemCalls } = await import(${deny});
    const { Ring, uringRefusal } = await import(${url('uring')});
    const { probe } = await import(${url('probe')});
    denySystemCalls(${JSON.stringify(numbers)}, ${errno});
    ${body}`;
  return new Promise((resolve, reject) => {
    execFile(process.execPath, ['--input-type=module', '-e', program], { timeout: 30_000 }, (error, stdout) =>
      error ? reject(error) : resolve(JSON.parse(stdout)),
    );
  });
}

const tellAll = `
  let thrown; try { new Ring(); } catch (error) { thrown = error; }
  const p = probe();
  console.log(JSON.stringify({ name: thrown.name, code: thrown.code, errno: thrown.errno, syscall: thrown.syscall,
    message: thrown.message, refusal: uringRefusal().code, uring: p.ioUring, seccomp: p.seccomp, epoll: p.epoll.available }));`;

describe('without io_uring', () => {
  it('that is forbidden: EPERM, with the knobs', async () => {
    const told = (await denied(URING, 1, tellAll)) as Record<string, unknown> & { uring: Record<string, unknown> };
    const { name, code, errno, syscall, refusal, seccomp, epoll } = told;
    assert.deepEqual(
      { name, code, errno, syscall, refusal, seccomp, epoll },
      {
        name: 'IsthmusError',
        code: 'EPERM',
        errno: -1,
        syscall: 'io_uring_setup',
        refusal: 'EPERM',
        seccomp: 2,
        epoll: true,
      },
    );
    assert.match(String(told['message']), /io_uring_disabled.*seccomp.*--datapath kernel/);
    assert.equal(told.uring['available'], false);
    assert.match(String(told.uring['needs']), /seccomp|io_uring_disabled/);
  });

  it('that is not there: ENOSYS', async () => {
    const told = (await denied(URING, 38, tellAll)) as Record<string, unknown>;
    assert.equal(told['code'], 'ENOSYS');
    assert.match(String(told['message']), /no io_uring.*--datapath kernel/);
  });
});

describe('without Linux AIO', () => {
  it('a descriptor is watched all the same', async () => {
    const body = `
      const { watchDescriptor } = await import(${url('watch')});
      const { createEventfd, signalEventfd, drainEventfd } = await import(${url('eventfd')});
      const eventfd = createEventfd();
      let calls = 0;
      const watch = watchDescriptor(eventfd, () => {
        drainEventfd(eventfd);
        if (++calls < 3) return signalEventfd(eventfd);
        watch.close();
        console.log(calls);
      });
      signalEventfd(eventfd);`;
    assert.equal(await denied([IO_SETUP], 38, body), 3);
  });
});
