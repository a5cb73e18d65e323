/**
 * `isthmus mount`: shows a remote tree as a directory, until it is unmounted or interrupted.
 * It touches the file server, the FUSE device, the mount table, and child processes: a guardian, and COMMAND.
 */
import { spawn } from 'node:child_process';
import { constants } from 'node:os';
import { UsageError } from '../../apps/options.ts';
import type { Mount } from '../../remote/fuse/mount.ts';
import type { View } from '../../remote/view/view.ts';
import { defineCommand, type Io } from '../command.ts';

/** Set for the copy of this program that has a user namespace of its own. */
const IN_NAMESPACE = 'ISTHMUS_MOUNT_NAMESPACE';
const BACKGROUND_READY_MS = 60_000;
/** What each of the private kinds of mount needs, for messages. */
const NEEDS =
  'mounting needs root, or fusermount3 (Debian: apt install fuse3). Without both, isthmus mount URL DIR -- COMMAND runs COMMAND in a namespace of its own that has the mount';

export const mount = defineCommand({
  name: 'mount',
  summary: 'Shows the tree of a file server (NFSv3, NFSv4.1) as a directory.',
  description:
    'URL is nfs://HOST[:PORT]/PATH, with ?version=3 or 4.1, uid=, gid=, groups=, mountport=, timeout=SECONDS where the defaults do not fit. ' +
    'It runs until Ctrl-C, SIGTERM or isthmus unmount; then everything written is sent first. However it ends, a guardian process takes the mount away.\n' +
    'With -- COMMAND the mount is seen by COMMAND alone, and ends with it. This also works without privileges, where the machine allows user namespaces and the FUSE device may be opened.\n' +
    'Close-to-open consistency: open sees what was closed before, on whatever machine. In between, attributes are up to 3 to 60 seconds old. Locks (fcntl, flock) hold between programs on this mount, not between machines. ' +
    'Without --allow-other only the user who mounts may enter, root neither.',
  positionals: [
    { name: 'URL', help: 'The exported tree: nfs://HOST[:PORT]/PATH.' },
    { name: 'DIR', help: 'The directory to show it on.' },
  ],
  rest: { name: 'COMMAND', help: 'Runs this with the mount, which nobody else sees.' },
  options: {
    background: { type: 'boolean', short: 'b', help: 'Returns when the mount stands.' },
    'allow-other': { type: 'boolean', help: 'Other users may enter; each asks the server in its own name.' },
    'read-only': { type: 'boolean', short: 'r', help: 'Refuses every change.' },
    cache: { type: 'bytes', value: 'BYTES', default: 256 << 20, min: 1 << 20, help: 'File data kept in memory.' },
    actimeo: {
      type: 'seconds',
      value: 'SECONDS',
      min: 0,
      help: 'Uses attributes and names this long without asking; 0: never. Without it 3 to 60 s for files, 30 to 60 s for directories.',
    },
    device: { type: 'string', value: 'FILE', default: '/dev/fuse', help: 'The FUSE device.' },
    stats: { type: 'boolean', help: 'Says at the end what was asked, and of whom.' },
  },
  examples: [
    { line: 'mount nfs://server/home /mnt', what: 'until Ctrl-C' },
    { line: 'mount -b nfs://server/home /mnt', what: 'in the background; ends with isthmus unmount /mnt' },
    { line: 'mount nfs://server/home /mnt -- make -C /mnt', what: 'for one command' },
  ],
  async run({ values, positionals, rest }, io) {
    const [url, directory] = positionals as [string, string];
    if (values.background && rest.length > 0) throw new UsageError('--background and -- COMMAND exclude each other');
    if (values.background) return background(io);
    const isRoot = process.getuid?.() === 0;
    if (rest.length > 0 && !isRoot && process.env[IN_NAMESPACE] === undefined) return inNamespace(io);
    if (rest.length > 0) {
      const { enterPrivateMountNamespace } = await import('../../linux/fuse.ts');
      // Before anything else: the guardian and the command must be in it, too.
      enterPrivateMountNamespace();
    }
    const started = await start(url, directory, values, io.interrupted);
    if (started === null) return 0;
    const { view, mounted } = started;
    const code = rest.length > 0 ? await runCommand(rest) : await untilEnd(url, mounted, io);
    const unwritten = await mounted.unmount();
    await closed(view);
    if (values.stats) io.err(statistics(view, mounted));
    if (unwritten > 0) {
      io.err(`isthmus mount: ${unwritten} files could not be written before the end\n`);
      return code || 1;
    }
    return code;
  },
});

interface MountValues {
  readonly 'allow-other': boolean;
  readonly 'read-only': boolean;
  readonly cache: number;
  readonly actimeo: number | undefined;
  readonly device: string;
}

/** @returns null when it was interrupted before the mount stood */
async function start(
  url: string,
  directory: string,
  values: MountValues,
  interrupted: AbortSignal,
): Promise<{ view: View; mounted: Mount } | null> {
  const { connectServer } = await import('../../remote/connect.ts');
  const { parseNfsUrl } = await import('../../remote/url.ts');
  const { openView } = await import('../../remote/view/view.ts');
  const { systemClock } = await import('../../remote/view/clock.ts');
  const { mountView } = await import('../../remote/fuse/mount.ts');
  let credential: { readonly uid: number; readonly gid: number };
  try {
    credential = parseNfsUrl(url).credential;
  } catch (error) {
    throw new UsageError((error as Error).message);
  }
  const times = values.actimeo === undefined ? {} : sameTimes(values.actimeo * 1000);
  try {
    const server = await connectServer(url, interrupted);
    try {
      const options = { ...times, dataBytes: values.cache, owner: credential };
      const view = await openView(server, systemClock, options, interrupted);
      const mounted = mountView(view, {
        directory,
        source: sourceOf(url),
        allowOther: values['allow-other'],
        readOnly: values['read-only'],
        device: values.device,
      });
      return { view, mounted };
    } catch (error) {
      await server.close().catch(() => {});
      throw withNeeds(error);
    }
  } catch (error) {
    if (interrupted.aborted) return null;
    throw error;
  }
}

function sameTimes(ms: number): {
  fileMinMs: number;
  fileMaxMs: number;
  directoryMinMs: number;
  directoryMaxMs: number;
} {
  return { fileMinMs: ms, fileMaxMs: ms, directoryMinMs: ms, directoryMaxMs: ms };
}

/** As `mount` shows it: without the parameters. */
function sourceOf(url: string): string {
  return url.replace(/\?.*$/, '');
}

function withNeeds(error: unknown): unknown {
  const { code, syscall, message } = error as { code?: unknown; syscall?: unknown; message: string };
  if ((code === 'EPERM' || code === 'EACCES') && (syscall === 'mount' || syscall === 'open')) {
    (error as { message: string }).message = `${message}\n${NEEDS}.`;
  }
  return error;
}

async function untilEnd(url: string, mounted: Mount, io: Io): Promise<number> {
  if (process.send !== undefined) {
    process.send({ mounted: true });
    process.disconnect();
  } else io.err(`isthmus mount: ${sourceOf(url)} on ${mounted.directory}; Ctrl-C unmounts it\n`);
  const stop = new Promise<void>((resolve) => {
    io.interrupted.addEventListener('abort', () => resolve(), { once: true });
    if (io.interrupted.aborted) resolve();
    process.once('SIGHUP', () => resolve());
  });
  // Somebody may unmount it, and the device may fail: that is an error, told by `ended`.
  await Promise.race([stop, mounted.session.ended]);
  return 0;
}

/** The exit code, as a shell tells it. Ctrl-C is the command's affair. */
function runCommand(command: readonly string[]): Promise<number> {
  // Whoever got capabilities only for the mount does not pass them on.
  const plain =
    process.env[IN_NAMESPACE] === undefined ? command : ['setpriv', '--ambient-caps=-all', '--', ...command];
  // By way of a shell: starting a program waits until it is executed, and this thread has to serve it if it is on the mount.
  const argv = ['sh', '-c', 'exec "$@"', 'sh', ...plain];
  const { [IN_NAMESPACE]: _, ...env } = process.env;
  return new Promise((resolve, reject) => {
    const child = spawn(argv[0]!, argv.slice(1), { stdio: 'inherit', env });
    child.once('error', reject);
    child.once('exit', (code, signal) => {
      resolve(signal === null ? (code ?? 1) : 128 + constants.signals[signal]);
    });
  });
}

async function closed(view: View): Promise<void> {
  await Promise.race([
    view.server.close().catch(() => {}),
    new Promise((resolve) => setTimeout(resolve, 2000).unref()),
  ]);
}

function statistics(view: View, { session }: Mount): string {
  const { requests, local, waited } = session.runCounters;
  const { calls, replays, reconnects } = view.server.counters;
  const lines = [
    `requests of programs ${requests}, answered here ${local}, waited for the server ${waited}`,
    `calls to the server ${calls}, sent again ${replays}, reconnects ${reconnects}`,
    `changes by others ${view.counters.foreignChanges}, stale handles ${view.counters.staleHandles}, data written again after a restart ${view.counters.rewrites}`,
  ];
  return `${lines.map((line) => `isthmus mount: ${line}`).join('\n')}\n`;
}

/** This program again with these arguments, less `--background`. */
function ownArguments(): string[] {
  const args = process.argv.slice(1);
  const end = args.indexOf('--');
  return args.filter((arg, i) => (end >= 0 && i > end) || (arg !== '--background' && arg !== '-b'));
}

/** Starts a copy that stays, and waits until its mount stands. */
function background(io: Io): Promise<number> {
  const child = spawn(process.execPath, [...process.execArgv, ...ownArguments()], {
    detached: true,
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
  });
  let text = '';
  child.stderr!.setEncoding('utf8').on('data', (more: string) => {
    text += more;
  });
  return new Promise((resolve, reject) => {
    const stop = (): void => {
      child.kill('SIGTERM');
    };
    io.interrupted.addEventListener('abort', stop, { once: true });
    const timer = setTimeout(stop, BACKGROUND_READY_MS);
    child.once('error', reject);
    child.once('close', (code) => {
      clearTimeout(timer);
      io.err(text);
      resolve(code ?? 1);
    });
    child.once('message', () => {
      clearTimeout(timer);
      resolve(0);
    });
  });
}

/** Runs this program again in a user namespace where it may mount. Its mounts are seen there only. */
async function inNamespace(io: Io): Promise<number> {
  const own = [process.execPath, ...process.execArgv, ...ownArguments()];
  const argv = ['--user', '--map-current-user', '--keep-caps', '--mount', '--', ...own];
  const child = spawn('unshare', argv, { stdio: 'inherit', env: { ...process.env, [IN_NAMESPACE]: '1' } });
  return new Promise((resolve) => {
    child.once('error', (error) => {
      io.err(`isthmus mount: unshare(1) of util-linux is needed: ${error.message}\n`);
      resolve(1);
    });
    child.once('exit', (code, signal) => {
      resolve(signal === null ? (code ?? 1) : 128 + constants.signals[signal]);
    });
  });
}
