/**
 * `isthmus unmount`: takes a mount of `isthmus mount` away.
 * It touches the mount table.
 */
import { realpathSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { ERRNO, IsthmusError, systemError } from '../../errors.ts';
import { mounts, unmount as unmountIdle, unmountLazily } from '../../linux/fuse.ts';
import { hasFusermount, unmountByHelper } from '../../linux/fusermount.ts';
import { defineCommand } from '../command.ts';

const TYPE = 'fuse.isthmus';

export const unmount = defineCommand({
  name: 'unmount',
  summary: 'Takes away what isthmus mount shows.',
  description: 'The process that serves the mount ends by itself then, after it has sent what was written.',
  positionals: [{ name: 'DIR', help: 'The directory it is shown on.' }],
  options: {
    lazy: { type: 'boolean', short: 'l', help: 'At once, even if programs still use it; they get errors.' },
  },
  examples: [{ line: 'unmount /mnt', what: 'fails with EBUSY while a program uses it' }],
  async run({ values, positionals }) {
    const directory = mountPoint(positionals[0]!);
    const entry = mounts().findLast((each) => each.directory === directory);
    if (entry?.type !== TYPE) {
      const what = entry === undefined ? 'nothing is mounted there' : `what is mounted there is ${entry.type}`;
      throw new IsthmusError(`unmount ${directory}: ${what}`, { code: 'EINVAL', errno: -ERRNO.EINVAL });
    }
    const result = values.lazy ? unmountLazily(directory) : unmountIdle(directory);
    if (result === 0) return 0;
    if (result === -ERRNO.EPERM && hasFusermount()) {
      const failed = unmountByHelper(directory, values.lazy);
      if (failed === null) return 0;
      throw new IsthmusError(`unmount ${directory}: ${failed}`, { code: 'EPERM', errno: -ERRNO.EPERM });
    }
    const busy = result === -ERRNO.EBUSY ? 'a program uses it; --lazy takes it away all the same' : undefined;
    throw systemError(result, 'unmount', directory, busy);
  },
});

/** The directory as the mount table names it. It may be dead, so only what lies above it is looked at. */
function mountPoint(path: string): string {
  const absolute = resolve(path);
  try {
    return join(realpathSync(dirname(absolute)), basename(absolute));
  } catch {
    return absolute;
  }
}
