/**
 * A command on one side of the lab: this process goes there and turns into it, as `nsenter` does.
 * So whatever ends the one ends the other, SIGKILL too, and nobody stands between a signal and the command.
 */
import { IsthmusError } from '../errors.ts';
import { become } from '../linux/exec.ts';
import { labStatus } from '../linux/lab-control.ts';
import { openNamespace } from '../linux/namespace.ts';

/** Does not come back. @throws IsthmusError ENOENT where there is no such lab or command, EPERM without root */
export async function runInLab(
  name: string,
  side: 'server' | 'client',
  command: readonly [string, ...string[]],
): Promise<never> {
  const status = await labStatus(name);
  if (status === null) {
    throw new IsthmusError(`lab ${name} is not up; isthmus lab up makes it`, { code: 'ENOENT', errno: -2 });
  }
  const namespace = openNamespace(status[side].path);
  try {
    return namespace.run(() => become(command));
  } finally {
    namespace.close();
  }
}
