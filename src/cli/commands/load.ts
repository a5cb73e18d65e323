/**
 * `isthmus load`: generates load on a server, shows it while it runs, and reports.
 * It touches a kernel of its own and, where asked, the counters of the server's process.
 */
import { writeFile } from 'node:fs/promises';
import { COMMANDS, type LoadConfig, PROTOCOLS, parseTarget } from '../../apps/load/config.ts';
import type { ProcessProbe, Progress } from '../../apps/load/load.ts';
import { type ParsedArguments, UsageError } from '../../apps/options.ts';
import { defineCommand, type Io } from '../command.ts';
import { DATAPATH_OPTION } from '../shared-options.ts';

/** Default patience: a lost datagram is sent again soon, a slow connection is given time. */
const TIMEOUT = { stream: 5, datagram: 0.5 };

export const loadOptions = {
  connections: {
    type: 'integer',
    short: 'c',
    value: 'N',
    default: 50,
    min: 1,
    max: 100_000,
    help: 'Connections (UDP: sockets).',
  },
  depth: {
    type: 'integer',
    short: 'd',
    value: 'N',
    default: 1,
    min: 1,
    max: 4096,
    help: 'Messages sent together on each connection; the next are sent when all of them were answered (closed loop).',
  },
  size: {
    type: 'bytes',
    short: 's',
    value: 'BYTES',
    default: 64,
    min: 1,
    max: 1 << 20,
    help: 'Size of a message; with RESP, of a value.',
  },
  rate: {
    type: 'number',
    short: 'r',
    value: 'N',
    min: 0.001,
    max: 1e8,
    help: 'Open loop: so many messages per second in all, sent when they are due whatever became of the ones before. Latency counts from when a message was due. The load polls, so it keeps its core busy.',
  },
  seconds: {
    type: 'seconds',
    short: 't',
    value: 'TIME',
    default: 10,
    min: 0.01,
    max: 86_400,
    help: 'How long to measure.',
  },
  count: {
    type: 'integer',
    short: 'n',
    value: 'N',
    min: 1,
    help: 'Ends after so many messages, if that is sooner than --seconds; without --seconds it decides alone.',
  },
  warmup: {
    type: 'seconds',
    short: 'w',
    value: 'TIME',
    default: 0.5,
    min: 0,
    max: 3600,
    help: 'Load that is not measured, before.',
  },
  timeout: {
    type: 'seconds',
    value: 'TIME',
    min: 0.01,
    max: 3600,
    help: `Without an answer for so long, a connection is given up and opened again, and datagrams are sent again. Default ${TIMEOUT.stream} s, with UDP ${TIMEOUT.datagram} s.`,
  },
  verify: {
    type: 'boolean',
    help: 'Compares every answer with what is expected. The values of a Redis server must come from loads of the same --size.',
  },
  reset: {
    type: 'boolean',
    help: 'connect: ends each connection with a reset, so that none waits in TIME_WAIT.',
  },
  idle: {
    type: 'integer',
    value: 'N',
    default: 0,
    min: 0,
    max: 1_000_000,
    help: 'Opens so many connections more, which say nothing.',
  },
  command: { type: 'string', value: 'NAME', choices: COMMANDS, default: 'mixed', help: 'RESP: what to send.' },
  'set-share': {
    type: 'number',
    value: 'SHARE',
    default: 0.1,
    min: 0,
    max: 1,
    help: 'RESP: share of SET in mixed; the rest is GET.',
  },
  keys: {
    type: 'integer',
    value: 'N',
    default: 10_000,
    min: 1,
    max: 1_000_000_000,
    help: 'RESP: how many keys there are.',
  },
  seed: { type: 'integer', value: 'N', default: 1, help: 'RESP: seed of the choice of commands and keys.' },
  'server-pid': {
    type: 'integer',
    value: 'PID',
    min: 1,
    help: "Reports CPU time and memory of the server's process as well.",
  },
  datapath: DATAPATH_OPTION,
  hdr: {
    type: 'string',
    value: 'FILE',
    help: "Writes the latencies as HdrHistogram's percentile distribution, in µs.",
  },
  json: { type: 'boolean', help: 'One JSON object on standard output instead of lines for people.' },
  quiet: { type: 'boolean', short: 'q', help: 'Nothing on standard error while it runs.' },
} as const;

export const load = defineCommand({
  name: 'load',
  summary: 'Generates load on a server and measures throughput and latency.',
  description:
    'tcp and udp send messages to an echo server and await them back. resp sends commands to a Redis server. connect opens a connection for each message. ' +
    'Ctrl-C ends a load early; what was measured so far is reported.\n' +
    'Errors are counted by kind: refused, reset, closed (by the peer), timeout, unanswered, wrong (answers that differ, or that nobody asked for), protocol (RESP errors), other. ' +
    'Exit code 1 where nothing was answered.',
  positionals: [
    {
      name: 'TARGET',
      help: `${PROTOCOLS.map((protocol) => `${protocol}://HOST:PORT`).join(', ')}; HOST:PORT means tcp, and a path instead of HOST:PORT a Unix socket.`,
    },
  ],
  options: loadOptions,
  examples: [
    { line: 'load 127.0.0.1:7000', what: '50 connections, one message of 64 bytes at a time' },
    { line: 'load udp://127.0.0.1:7000 -c 8 -s 512', what: 'datagrams' },
    { line: 'load resp://127.0.0.1:6379 -d 16 --command set', what: 'SET, 16 in a pipeline' },
    { line: 'load tcp://127.0.0.1:7000 -r 50000 --json', what: '50,000 messages per second, whatever happens' },
  ],
  async run(args, io) {
    const config = configOf(args);
    const { values } = args;
    const { startKernel, spawned } = await import('../launch.ts');
    const { runLoad } = await import('../../apps/load/load.ts');
    const { formatReport } = await import('../../apps/load/report.ts');
    const server = values['server-pid'] === undefined ? undefined : await probeOf(values['server-pid']);
    const running = await startKernel(values.datapath);
    try {
      const show = values.quiet ? undefined : new ProgressLine(io);
      const loading = spawned(
        running.kernel,
        runLoad(running.kernel, config, {
          progress: show && ((progress) => show.update(progress)),
          server,
          ownCpuNs,
          signal: io.interrupted,
        }),
      );
      const { report, run } = await Promise.race([loading, running.failed]);
      show?.clear();
      if (values.hdr !== undefined) {
        const { percentileDistribution } = await import('../../apps/load/hdr-file.ts');
        await writeFile(values.hdr, await percentileDistribution(run.histogram));
      }
      io.out(values.json ? `${JSON.stringify(report)}\n` : formatReport(report));
      if (report.messages > 0) return 0;
      if (run.lastError !== null) io.err(`isthmus load: ${run.lastError.message}\n`);
      return 1;
    } finally {
      await running.close();
    }
  },
});

/** @throws UsageError where options contradict each other */
export function configOf({ values, given, positionals }: ParsedArguments<typeof loadOptions>): LoadConfig {
  const target = parseTarget(positionals[0]!);
  const udp = target.protocol === 'udp';
  if (udp && values.size > 65_507) throw new UsageError('a datagram holds at most 65507 bytes (--size)');
  if (udp && values.size < 4) throw new UsageError('a datagram must hold its number: --size 4 or more');
  if (target.protocol === 'connect' && values.rate !== undefined) throw new UsageError('connect has no --rate');
  if (target.protocol === 'connect' && values.depth > 1) throw new UsageError('connect has no --depth');
  if (target.protocol !== 'connect' && values.reset) throw new UsageError('--reset is for connect');
  if (values.rate !== undefined && given.has('depth')) throw new UsageError('--rate and --depth exclude each other');
  return {
    ...target,
    connections: values.connections,
    depth: values.rate === undefined ? values.depth : 1,
    size: values.size,
    rate: values.rate,
    seconds: values.count !== undefined && !given.has('seconds') ? 86_400 : values.seconds,
    count: values.count,
    warmup: values.warmup,
    timeout: values.timeout ?? (udp ? TIMEOUT.datagram : TIMEOUT.stream),
    verify: values.verify,
    reset: values.reset,
    idle: values.idle,
    command: values.command,
    setShare: values['set-share'],
    keys: values.keys,
    seed: values.seed,
  };
}

/** CPU time of this process so far, in ns. */
export function ownCpuNs(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) * 1000;
}

/** @throws IsthmusError ESRCH where there is no such process */
export async function probeOf(pid: number): Promise<ProcessProbe> {
  const { processCpuNs } = await import('../../linux/affinity.ts');
  const { residentBytes } = await import('../../linux/limits.ts');
  const probe = { cpuNs: () => processCpuNs(pid), rssBytes: () => residentBytes(pid) };
  probe.cpuNs(); // a process that does not exist is an error now, not in the middle
  return probe;
}

/** What is shown while a load runs: one line that is written over on a terminal, a line now and then elsewhere. */
class ProgressLine {
  readonly #io: Io;
  #shown = 0;
  #phase = '';

  constructor(io: Io) {
    this.#io = io;
  }

  update(progress: Progress): void {
    const { phase, elapsed, total, recent, p50Us, p99Us, errors, connected } = progress;
    const time = total < 86_400 ? `${elapsed.toFixed(0)}/${Number(total.toFixed(1))} s` : `${elapsed.toFixed(0)} s`;
    const measured = phase === 'measure';
    const speed = measured ? `  ${Math.round(recent)} msg/s  p50 ${p50Us} µs  p99 ${p99Us} µs` : '';
    const text = `${phase} ${time}  ${connected} connected${speed}${errors > 0 ? `  ${errors} errors` : ''}`;
    if (this.#io.errIsTerminal) this.#io.err(`\r\x1b[K${text}`);
    // Elsewhere (a log) a line at each phase and every ten seconds is enough.
    else if (phase !== this.#phase || ++this.#shown % 10 === 0) this.#io.err(`${text}\n`);
    this.#phase = phase;
  }

  clear(): void {
    if (this.#io.errIsTerminal && this.#phase !== '') this.#io.err('\r\x1b[K');
  }
}
