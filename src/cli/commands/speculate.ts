/**
 * `isthmus speculate`: runs a command on a remote tree ahead of the file server's answers, with the same result.
 * It touches the file server, the mount table, and the processes of COMMAND, which it traces.
 */
import { closeSync, openSync, realpathSync, statSync, writeSync } from 'node:fs';
import { constants } from 'node:os';
import { UsageError } from '../../apps/options.ts';
import type { RunResult, SpeculativeMount } from '../../speculation/files/run.ts';
import { defineCommand, type Io } from '../command.ts';

export const speculate = defineCommand({
  name: 'speculate',
  summary: 'Runs a command on a remote tree ahead of the server’s answers.',
  description:
    'COMMAND gets what the cache says at once, while the server is asked; its changes are assumed to succeed and sent behind it. Where the server says otherwise, the processes concerned go back to where they were and do it again. ' +
    'Output is held back until it is certain. So output, exit code and signals are those of the command alone, only sooner.\n' +
    'The mount is seen by COMMAND alone, and ends with it. Whatever is not understood (threads, shared memory, locks, changes outside the mount and --local) waits for the truth. ' +
    'Against NFSv4.1, changes travel many at a time; against NFSv3 those that depend on each other go one by one, so that less is gained.\n' +
    'Speculating needs x86-64, ptrace and the right to mount; where only ptrace is missing, the command runs on the mount without it.',
  positionals: [{ name: 'DIR', help: 'The directory to show the tree on.', optional: true }],
  rest: { name: 'COMMAND', help: 'The command and its arguments.' },
  options: {
    mount: { type: 'string', value: 'URL', help: 'The remote tree: nfs://HOST[:PORT]/PATH.' },
    stats: { type: 'boolean', help: 'Says at the end, on standard error, what was predicted, kept, undone and saved.' },
    trace: { type: 'string', value: 'FILE', help: 'Writes a trace that ui.perfetto.dev opens.' },
    local: {
      type: 'string',
      value: 'DIR[:DIR…]',
      help: 'Local directories (say, /tmp) whose files COMMAND may change ahead, too. What is undone is put back; other programs are not kept from seeing it before.',
    },
    plain: { type: 'boolean', help: 'The same mount, but every request waits for the server: to compare.' },
  },
  examples: [
    { line: 'speculate --mount nfs://server/src /mnt -- make -C /mnt', what: 'a build on a far server' },
    {
      line: 'speculate --mount nfs://server/src /mnt --local /tmp -- make -C /mnt',
      what: 'the same, temporary files too',
    },
    { line: 'speculate --mount nfs://server/src /mnt --stats -- git -C /mnt status', what: 'and what came of it' },
  ],
  async run({ values, positionals, rest }, io) {
    const [directory] = positionals;
    if (rest.length === 0) throw new UsageError('COMMAND is missing: isthmus speculate --mount URL DIR -- COMMAND');
    if (values.mount === undefined && directory !== undefined) throw new UsageError('DIR needs --mount URL');
    if (values.mount === undefined) {
      io.err('isthmus speculate: no --mount, so there is nothing to run ahead of; running the command plainly\n');
      return runPlainly(rest);
    }
    if (directory === undefined) throw new UsageError('--mount needs DIR, the directory to show the tree on');
    return runOnMount(values.mount, directory, rest, localDirectories(values.local), values, io);
  },
});

interface SpeculateValues {
  readonly stats: boolean;
  readonly trace: string | undefined;
  readonly plain: boolean;
}

async function runOnMount(
  url: string,
  directory: string,
  command: readonly string[],
  locals: readonly string[],
  values: SpeculateValues,
  io: Io,
): Promise<number> {
  const { enterPrivateMountNamespace } = await import('../../linux/fuse.ts');
  const { connectServer } = await import('../../remote/connect.ts');
  const { parseNfsUrl } = await import('../../remote/url.ts');
  const { SpeculativeMount } = await import('../../speculation/files/run.ts');
  const { SpeculationTrace } = await import('../../speculation/files/trace.ts');
  let owner: { readonly uid: number; readonly gid: number };
  try {
    owner = parseNfsUrl(url).credential;
  } catch (error) {
    throw new UsageError((error as Error).message);
  }
  const traceFile = values.trace === undefined ? null : openSync(values.trace, 'w');
  const trace = traceFile === null ? null : new SpeculationTrace(() => performance.now());
  enterNamespace(enterPrivateMountNamespace);
  const server = await connectServer(url, io.interrupted);
  try {
    const mount = await SpeculativeMount.open({ server, directory, view: { owner }, trace });
    let result: RunResult | number;
    let unwritten = 0;
    try {
      result = await runTraced(mount, command, locals, values, io);
    } finally {
      unwritten = await mount.close();
      if (traceFile !== null) {
        writeSync(traceFile, trace!.text());
        closeSync(traceFile);
      }
    }
    if (typeof result !== 'number' && values.stats) {
      const { describeStatistics } = await import('../../speculation/files/statistics.ts');
      io.err(describeStatistics(result.statistics, result.elapsedMs));
    }
    if (unwritten > 0) {
      io.err(`isthmus speculate: ${unwritten} files could not be written before the end\n`);
      return 1;
    }
    return typeof result === 'number' ? result : await endLike(result.status);
  } finally {
    await Promise.race([server.close().catch(() => {}), new Promise((resolve) => setTimeout(resolve, 2000).unref())]);
  }
}

/** @throws UsageError for what is not a directory */
function localDirectories(list: string | undefined): string[] {
  return (list ?? '')
    .split(':')
    .filter((path) => path !== '')
    .map((path) => {
      if (!statSync(path, { throwIfNoEntry: false })?.isDirectory())
        throw new UsageError(`--local: no directory: ${path}`);
      return realpathSync(path);
    });
}

/** A mount of its own, before anything else, so that what is started from here on is in it. */
function enterNamespace(enter: () => void): void {
  try {
    enter();
  } catch (error) {
    (error as Error).message +=
      '\nspeculating needs root, since it mounts; isthmus mount URL DIR -- COMMAND shows the tree without, where the machine allows user namespaces';
    throw error;
  }
}

/** Runs it traced; where that is not possible here, plainly on the same mount, and says so. */
async function runTraced(
  mount: SpeculativeMount,
  command: readonly string[],
  locals: readonly string[],
  values: SpeculateValues,
  io: Io,
): Promise<RunResult | number> {
  if (process.arch !== 'x64') {
    io.err(`isthmus speculate: not on ${process.arch} yet; running the command plainly\n`);
    return runPlainly(command);
  }
  const stop = passSignals((signal) => mount.signal(signal));
  let started = false;
  try {
    return await mount.run({
      command,
      locals,
      speculate: !values.plain,
      everyEvent: ({ type }) => {
        if (type === 'started') started = true;
      },
    });
  } catch (error) {
    const { code } = error as { code?: unknown };
    if (started || (code !== 'EPERM' && code !== 'ENOSYS')) throw error;
    io.err(
      `isthmus speculate: processes cannot be traced here (${(error as Error).message}); running the command plainly\n`,
    );
    stop();
    return await runPlainly(command);
  } finally {
    stop();
  }
}

/** Signals meant for the command. From a terminal it gets them itself, with us. */
function passSignals(send: (signal: number) => void): () => void {
  const handlers = (['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT'] as const).map((name) => {
    const fromTerminal = process.stdin.isTTY && name !== 'SIGTERM';
    const handler = (): void => {
      if (!fromTerminal) send(constants.signals[name]);
    };
    process.on(name, handler);
    return [name, handler] as const;
  });
  return () => {
    for (const [name, handler] of handlers) process.off(name, handler);
  };
}

async function runPlainly(command: readonly string[]): Promise<number> {
  const { spawn } = await import('node:child_process');
  // By way of a shell: starting a program waits until it is executed, and this thread has to serve it if it is on the mount.
  const child = spawn('sh', ['-c', 'exec "$@"', 'sh', ...command], { stdio: 'inherit' });
  const stop = passSignals((signal) => child.kill(signal));
  return new Promise((resolve, reject) => {
    child.once('error', (error) => {
      stop();
      reject(error);
    });
    child.once('exit', (code, signal) => {
      stop();
      resolve(endLike({ code: code ?? 0, signal: signal === null ? 0 : constants.signals[signal] }));
    });
  });
}

/** The command's end as ours: its exit code, or the signal that killed it. */
async function endLike({ code, signal }: { readonly code: number; readonly signal: number }): Promise<number> {
  if (signal === 0) return code;
  const name = Object.entries(constants.signals).find(([, number]) => number === signal)?.[0] as
    | NodeJS.Signals
    | undefined;
  if (name !== undefined) {
    process.removeAllListeners(name);
    process.kill(process.pid, name);
    // It is on its way, unless the signal is one that is ignored.
    await new Promise((resolve) => setTimeout(resolve, 1000));
  }
  return 128 + signal;
}
