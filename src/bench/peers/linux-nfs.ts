/**
 * The Linux kernel's own NFS client: Linux 6.1 as a user-mode program (Debian: user-mode-linux) with its nfs modules, started for
 * each measurement. It fetches and unpacks three packages with apt-get (nothing is installed), makes a tap device, and needs root.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { findProgram } from '../find.ts';
import { type DelayLine, startDelayLine } from './delay-line.ts';
import type { Ganesha } from './ganesha.ts';

const PACKAGES = ['user-mode-linux', 'kmod', 'libkmod2'];
/** RFC 2544: addresses for benchmarks. */
const HOST = '198.18.77.1';
const GUEST = '198.18.77.2';
const TAP = 'isthmus-uml';
const LIMIT_MS = 300_000;
const HALT = '#include <sys/reboot.h>\nint main(void) { reboot(RB_POWER_OFF); return 0; }\n';

/** Why it cannot be had here, or null. */
export function linuxNfsMissing(): string | null {
  if (process.arch !== 'x64') return `user-mode-linux is not built for ${process.arch}`;
  if (process.getuid?.() !== 0) return 'User-Mode Linux needs a tap device, hence root';
  for (const program of ['apt-get', 'dpkg', 'ip', 'cc', 'mount.nfs']) {
    const found = findProgram(program) ?? (existsSync(`/sbin/${program}`) ? `/sbin/${program}` : null);
    if (found === null) return `${program} is not installed`;
  }
  return null;
}

export interface LinuxRun {
  readonly seconds: number;
  readonly stdout: string;
}

export class LinuxNfs {
  readonly #directory: string;
  readonly #files: DelayLine;
  readonly #mounting: DelayLine;

  private constructor(directory: string, files: DelayLine, mounting: DelayLine) {
    this.#directory = directory;
    this.#files = files;
    this.#mounting = mounting;
  }

  /** @throws Error when a package cannot be fetched or the tap device cannot be made */
  static async start(directory: string, server: Ganesha): Promise<LinuxNfs> {
    unpack(directory);
    // What a killed run has left.
    spawnSync('ip', ['link', 'del', TAP]);
    run('ip', ['tuntap', 'add', TAP, 'mode', 'tap']);
    try {
      run('ip', ['addr', 'add', `${HOST}/30`, 'dev', TAP]);
      run('ip', ['link', 'set', TAP, 'up']);
      const files = await startDelayLine({ port: server.port, listenHost: HOST, oneWayMs: 0 });
      const mounting = await startDelayLine({ port: server.mountPort, listenHost: HOST, oneWayMs: 0 });
      return new LinuxNfs(directory, files, mounting);
    } catch (error) {
      spawnSync('ip', ['link', 'del', TAP]);
      throw error;
    }
  }

  setOneWayMs(oneWayMs: number): void {
    this.#files.setOneWayMs(oneWayMs);
  }

  /** Boots, mounts NFSv3, runs a script of sh in `work` on the mount, and halts. Its own clock says how long the script took. */
  async run(script: string, environment: Readonly<Record<string, string>>): Promise<LinuxRun> {
    const init = join(this.#directory, 'init.sh');
    writeFileSync(init, this.#init(script, environment), { mode: 0o755 });
    const args = [
      'mem=512M',
      'rootfstype=hostfs',
      'rootflags=/',
      'rw',
      `init=${init}`,
      `vec0:transport=tap,ifname=${TAP},depth=128,gro=1`,
      'con=null',
      'con0=fd:0,fd:1',
      'quiet',
    ];
    const child = spawn('setpriv', ['--pdeathsig', 'KILL', join(this.#directory, 'root/usr/bin/linux.uml'), ...args], {
      stdio: ['ignore', 'pipe', 'ignore'],
      env: { ...process.env, TMPDIR: '/dev/shm' },
      detached: true,
    });
    const output = await outputOf(child);
    const ended = /^ENDED (\d+) (\d+)\r?$/m.exec(output);
    if (ended === null) throw new Error(`User-Mode Linux: ${output.trim().slice(-300)}`);
    if (ended[1] !== '0') throw new Error(`the script ended with ${ended[1]}: ${output.trim().slice(-300)}`);
    const begin = output.indexOf('BEGIN');
    const stdout = output.slice(output.indexOf('\n', begin) + 1, ended.index).replaceAll('\r', '');
    return { seconds: Number(ended[2]) / 1e9, stdout };
  }

  async close(): Promise<void> {
    await this.#files.close();
    await this.#mounting.close();
    spawnSync('ip', ['link', 'del', TAP]);
  }

  #init(script: string, environment: Readonly<Record<string, string>>): string {
    const root = join(this.#directory, 'root');
    const release = readdirSync(join(root, 'usr/lib/uml/modules'))[0]!;
    const modules = join(root, 'usr/lib/uml/modules', release);
    const libraries = ['lib/x86_64-linux-gnu', 'usr/lib/x86_64-linux-gnu'].map((path) => join(root, path)).join(':');
    const options = `vers=3,proto=tcp,sec=sys,port=${this.#files.port},mountport=${this.#mounting.port},mountproto=tcp,nolock,noacl`;
    return `#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t tmpfs tmp /run; mount -t tmpfs tmp /mnt
ip link set lo up; ip addr add ${GUEST}/30 dev vec0; ip link set vec0 up
for module in ${modulesFor(modules, ['nfsv3']).join(' ')}; do
  LD_LIBRARY_PATH=${libraries} ${root}/bin/insmod ${modules}/$module
done
mkdir -p /mnt/n /run/rpcbind
mount -t nfs -o ${options} ${HOST}:/export /mnt/n || echo MOUNT FAILED
${Object.entries(environment)
  .map(([name, value]) => `export ${name}='${value}'`)
  .join('\n')}
echo BEGIN
start=$(date +%s%N)
(cd /mnt/n/work && ${script})
code=$?
echo ENDED $code $(($(date +%s%N) - start))
umount /mnt/n
exec ${join(this.#directory, 'halt')}
`;
  }
}

async function outputOf(child: ChildProcess): Promise<string> {
  let output = '';
  child.stdout!.setEncoding('latin1').on('data', (text: string) => {
    output += text;
  });
  // It is several processes, in a group of their own.
  const kill = (): void => {
    try {
      process.kill(-child.pid!, 'SIGKILL');
    } catch {
      // They have ended.
    }
  };
  process.once('exit', kill);
  const timer = setTimeout(kill, LIMIT_MS);
  await once(child, 'close');
  clearTimeout(timer);
  process.off('exit', kill);
  kill();
  return output;
}

/** Fetches and unpacks what is not there yet. */
function unpack(directory: string): void {
  mkdirSync(directory, { recursive: true });
  if (!existsSync(join(directory, 'root/usr/bin/linux.uml'))) {
    const fetched = spawnSync('apt-get', ['-q', 'download', ...PACKAGES], { cwd: directory, encoding: 'utf8' });
    if (fetched.status !== 0) {
      spawnSync('apt-get', ['-q', 'update'], { cwd: directory });
      run('apt-get', ['-q', 'download', ...PACKAGES], directory);
    }
    for (const name of readdirSync(directory)) {
      if (name.endsWith('.deb')) run('dpkg', ['-x', name, 'root'], directory);
    }
    if (!existsSync(join(directory, 'root/bin/insmod'))) symlinkSync('kmod', join(directory, 'root/bin/insmod'));
  }
  writeFileSync(join(directory, 'halt.c'), HALT);
  run('cc', ['-O1', '-static', '-o', 'halt', 'halt.c'], directory);
}

/** The files of these modules and of all they need, in the order in which they must be loaded. */
function modulesFor(directory: string, names: readonly string[]): string[] {
  const needs = new Map<string, string[]>();
  for (const line of readFileSync(join(directory, 'modules.dep'), 'utf8').split('\n')) {
    const [file, rest] = line.split(':');
    if (rest !== undefined) needs.set(file!, rest.split(' ').filter(Boolean));
  }
  const order = new Set<string>();
  for (const name of names) {
    const file = [...needs.keys()].find((each) => each.endsWith(`/${name}.ko`));
    if (file === undefined) throw new Error(`User-Mode Linux has no module ${name}`);
    for (const each of [...needs.get(file)!].reverse()) order.add(each);
    order.add(file);
  }
  return [...order];
}

function run(program: string, args: readonly string[], cwd = '/'): void {
  const { status, stderr, error } = spawnSync(program, args, { cwd, encoding: 'utf8' });
  if (status !== 0) throw new Error(`${program} ${args.slice(0, 3).join(' ')}: ${error?.message ?? stderr.trim()}`);
}
