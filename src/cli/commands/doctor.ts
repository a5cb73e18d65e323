/**
 * `isthmus doctor`: what this machine and this process may use, what each datapath needs, and which one `auto` takes.
 * It tries things out and undoes them at once; it changes nothing.
 */
import type { LimitValue } from '../../linux/limits.ts';
import type { Facility, Probe } from '../../linux/probe.ts';
import { defineCommand } from '../command.ts';

interface DatapathDiagnosis {
  readonly name: string;
  readonly what: string;
  readonly available: boolean;
  /** Why not; empty where it is available. */
  readonly reason: string;
  readonly needs: string;
  /** What `--datapath auto` takes here. */
  readonly automatic: boolean;
}

/** The datapaths there are, best first, and the facility of the machine each stands on. */
const DATAPATHS: readonly { name: string; what: string; facility: (probe: Probe) => Facility; needs: string }[] = [
  {
    name: 'uring',
    what: "the kernel's sockets through io_uring: one system call per batch",
    facility: ({ ioUring }) => ioUring,
    needs: 'Linux 6.1 or later with io_uring allowed (sysctl kernel.io_uring_disabled, seccomp profile)',
  },
  {
    name: 'kernel',
    what: "the kernel's sockets through epoll",
    facility: ({ epoll }) => epoll,
    needs: 'any Linux; no privileges',
  },
  {
    name: 'xdp:INTERFACE',
    what: 'our own TCP/IP over AF_XDP, past the kernel',
    facility: ({ xdp }) => xdp,
    needs: 'CAP_NET_RAW, CAP_NET_ADMIN, CAP_BPF and an Ethernet interface without an XDP program',
  },
  {
    name: 'simulated',
    what: 'memory of this process, for tests',
    facility: () => ({ available: true, reason: '', needs: '' }),
    needs: 'nothing',
  },
];

export const doctor = defineCommand({
  name: 'doctor',
  summary: 'Shows what this machine allows, what each datapath needs, and which will be used.',
  options: { json: { type: 'boolean', help: 'One JSON object on standard output.' } },
  examples: [{ line: 'doctor', what: 'before the first program, or when one is slow' }],
  async run({ values }, io) {
    const { probe } = await import('../../linux/probe.ts');
    const { automaticDatapath, datapathRefusal } = await import('../datapaths.ts');
    const { packageVersion } = await import('../version.ts');
    const found = probe();
    const automatic = await automaticDatapath();
    const datapaths: DatapathDiagnosis[] = [];
    for (const { name, what, facility, needs } of DATAPATHS) {
      const machine = facility(found);
      // A facility may be there and the datapath refuse all the same: what it says itself is the better reason.
      const refusal = !machine.available ? machine.reason : name.includes(':') ? null : await datapathRefusal(name);
      datapaths.push({
        name,
        what,
        available: refusal === null,
        reason: refusal ?? '',
        needs: machine.needs === '' ? needs : machine.needs,
        automatic: name === automatic.name,
      });
    }
    const interfaces = found.xdp.available ? await etherInterfaces() : [];
    const diagnosis = { isthmus: packageVersion(), ...found, interfaces, datapaths, auto: automatic };
    io.out(values.json ? `${JSON.stringify(diagnosis, finite)}\n` : describe(diagnosis));
    return 0;
  },
});

interface EtherInterface {
  readonly name: string;
  readonly driver: string;
  readonly mtu: number;
  readonly queues: number;
  readonly up: boolean;
  /** What XDP can do with it; generic mode works everywhere. */
  readonly native: boolean;
  readonly zeroCopy: boolean;
  /** It has an XDP program already. */
  readonly taken: boolean;
}

/** What `xdp:INTERFACE` can be. */
async function etherInterfaces(): Promise<EtherInterface[]> {
  const { LinkFlag, NetworkReader } = await import('../../linux/rtnetlink.ts');
  const { activeQueues, driverName, xdpFeatures } = await import('../../linux/ethtool.ts');
  const reader = new NetworkReader();
  try {
    return reader
      .links()
      .filter(({ flags, mac }) => (flags & LinkFlag.LOOPBACK) === 0 && mac !== '')
      .map(({ index, name, mtu, up, receiveQueues, xdp }) => {
        const features = xdpFeatures(index);
        return {
          name,
          driver: driverName(name),
          mtu,
          queues: activeQueues(name)?.receive || receiveQueues,
          up,
          native: features?.native ?? false,
          zeroCopy: features?.zeroCopy ?? false,
          taken: xdp !== null,
        };
      });
  } finally {
    reader.close();
  }
}

function interfaceText({ name, driver, mtu, queues, up, native, zeroCopy, taken }: EtherInterface): string {
  const mode = native ? `native mode${zeroCopy ? ', zero copy' : ''}` : 'generic mode';
  const state = taken ? '; it has an XDP program' : up ? '' : '; it is down';
  return `${name}: ${driver || 'no driver name'}, ${mode}, ${queues} ${queues === 1 ? 'queue' : 'queues'}, MTU ${mtu}${state}`;
}

/** JSON has no infinity; a limit that is none is null. */
function finite(_key: string, value: unknown): unknown {
  return value === Number.POSITIVE_INFINITY ? null : value;
}

function describe(
  diagnosis: Probe & {
    isthmus: string;
    interfaces: EtherInterface[];
    datapaths: DatapathDiagnosis[];
    auto: { line: string };
  },
): string {
  const { kernel, processors, limits, hugePages, ioUring, xdp, tun, fuse, capabilities, seccomp } = diagnosis;
  const lines = [
    `isthmus ${diagnosis.isthmus}, Node ${diagnosis.node}, Linux ${kernel.release}, ${diagnosis.architecture}`,
    '',
    'This machine and this process',
    row('processors', `${processors.allowed.length} of ${processors.online} allowed: ${processors.allowed.join(', ')}`),
    row('open files', `${limit(limits.openFiles, '')}: a connection takes one`),
    row('locked memory', limit(limits.lockedMemory, 'bytes')),
    row('huge pages', `transparent: ${hugePages.transparent ?? 'none'}${reserved(hugePages)}`),
    row('seccomp', ['none', 'strict', 'a filter'][seccomp] ?? String(seccomp)),
    row('capabilities', capabilityText(capabilities)),
    row('io_uring', ioUring.available ? `yes: ${ioUring.flags.join(', ') || 'plain'}` : no(ioUring)),
    ...(ioUring.available ? [row('', `features ${ioUring.features.join(', ')}`)] : []),
    row('AF_XDP', xdp.available ? 'yes' : no(xdp)),
    ...diagnosis.interfaces.map((each) => row('', interfaceText(each))),
    row('/dev/net/tun', tun.available ? 'yes' : no(tun)),
    row('/dev/fuse', fuse.available ? 'yes' : no(fuse)),
    '',
    'Datapaths',
  ];
  for (const { name, what, available, reason, needs, automatic } of diagnosis.datapaths) {
    lines.push(row(name, `${available ? 'yes' : 'no'}${automatic ? ', taken by auto' : ''}: ${what}`));
    if (!available) lines.push(row('', `${reason}; it needs ${needs}`));
  }
  lines.push('', diagnosis.auto.line);
  return `${lines.join('\n')}\n`;
}

function row(name: string, text: string): string {
  return `  ${name.padEnd(14)} ${text}`;
}

function no({ reason, needs }: Facility): string {
  return `no: ${reason}${needs === '' ? '' : `; it needs ${needs}`}`;
}

function limit({ soft, hard }: LimitValue, unit: string): string {
  const text = (value: number) => (value === Number.POSITIVE_INFINITY ? 'no limit' : `${value} ${unit}`.trim());
  return soft === hard ? text(soft) : `${text(soft)}, can be raised to ${text(hard)}`;
}

function reserved({ reserved: pages }: Probe['hugePages']): string {
  const some = pages.filter(({ total }) => total > 0);
  if (some.length === 0) return '; none reserved';
  return some.map(({ pageBytes, total, free }) => `; ${free} of ${total} free of ${pageBytes / 1024} KiB`).join('');
}

/** The ones that matter here. */
const RELEVANT = [
  'CAP_NET_ADMIN',
  'CAP_NET_RAW',
  'CAP_BPF',
  'CAP_SYS_ADMIN',
  'CAP_SYS_NICE',
  'CAP_IPC_LOCK',
  'CAP_SYS_PTRACE',
];

function capabilityText(held: readonly string[]): string {
  const some = RELEVANT.filter((name) => held.includes(name));
  return some.length === 0 ? 'none that matters here' : some.join(', ');
}
