/**
 * `isthmus lab`: two network namespaces joined by a veth pair, to try everything on one machine.
 * It touches the process that holds the lab (lab-hold.ts), which is all that there is of it: the lab ends with that process.
 */
import { UsageError } from '../../apps/options.ts';
import type { LabSideStatus, LabStatus } from '../../linux/lab-control.ts';
import { defineCommand, type Io } from '../command.ts';

const ACTIONS = ['up', 'down', 'status', 'run'] as const;
const SIDES = ['server', 'client'] as const;

export const lab = defineCommand({
  name: 'lab',
  summary: 'Two hosts on this machine: network namespaces joined by a veth pair.',
  description:
    'up makes the lab and leaves a process behind that holds it; down ends that process, and with it every namespace, device and address. So it is after a kill, too: nothing has a name, and nothing is left. ' +
    'run goes to one side and turns into a command there, as nsenter does. All of it needs root (CAP_SYS_ADMIN and CAP_NET_ADMIN).\n' +
    'The server has 10.88.0.1 and fd88::1, the client 10.88.0.2 and fd88::2; 10.88.0.9 and 10.88.0.10 belong to nobody, for a stack with an address of its own. Segmentation offload is off, because XDP would get what the kernel leaves to a device that is none.\n' +
    'With --delay there is a slow way beside the fast one: 10.88.1.1 and 10.88.1.2, on which every packet takes so long.',
  positionals: [
    { name: 'ACTION', help: `${ACTIONS.join(', ')}.` },
    { name: 'SIDE', help: 'For run: server or client.', optional: true },
  ],
  rest: { name: 'COMMAND', help: 'For run: the command and its arguments.' },
  options: {
    name: { type: 'string', value: 'NAME', default: 'default', help: 'Labs of different names stand side by side.' },
    queues: {
      type: 'integer',
      value: 'N',
      default: 1,
      min: 1,
      max: 64,
      help: 'up: receive and transmit queues of each end.',
    },
    mtu: { type: 'integer', value: 'BYTES', default: 1500, min: 1280, max: 9000, help: 'up: largest packet.' },
    offloads: {
      type: 'boolean',
      help: 'up: leaves segmentation to the device. For programs on kernel sockets only.',
    },
    headroom: {
      type: 'boolean',
      help: 'up: leaves room in front of frames for XDP, which spares a copy of each. Then the client has no kernel network, only stacks with an address of their own.',
    },
    delay: {
      type: 'seconds',
      value: 'TIME',
      min: 0,
      max: 10,
      help: 'up: what a packet takes in one direction on the slow way, as in 15ms. A round trip takes twice as long.',
    },
    foreground: { type: 'boolean', help: 'up: holds the lab itself, until Ctrl-C or lab down.' },
    json: { type: 'boolean', help: 'up, status: one JSON object instead of lines for people.' },
  },
  examples: [
    { line: 'lab up', what: 'makes the lab' },
    {
      line: 'lab run server -- isthmus echo --datapath xdp:lab-server --host 10.88.0.1',
      what: 'a server past the kernel',
    },
    { line: 'lab run client -- isthmus load 10.88.0.1:7000', what: 'and a load from the other side' },
    { line: 'lab down', what: 'ends it' },
  ],
  async run({ values, given, positionals, rest }, io) {
    const [action, side] = positionals;
    if (!ACTIONS.includes(action as 'up')) throw new UsageError(`ACTION is ${ACTIONS.join(', ')}, not '${action}'`);
    if (!/^[\w-]{1,32}$/.test(values.name)) throw new UsageError('--name is 1 to 32 letters, digits, _ and -');
    if (action !== 'run' && (side !== undefined || rest.length > 0)) {
      throw new UsageError(`unexpected argument '${side ?? rest[0]}'`);
    }
    for (const option of ['queues', 'mtu', 'offloads', 'headroom', 'delay', 'foreground']) {
      if (action !== 'up' && given.has(option)) throw new UsageError(`--${option} is for lab up`);
    }
    switch (action) {
      case 'up':
        return up(values, io);
      case 'down':
        return down(values.name, io);
      case 'status':
        return status(values, io);
      default:
        return runIn(values.name, side, rest);
    }
  },
});

interface UpValues {
  readonly name: string;
  readonly queues: number;
  readonly mtu: number;
  readonly offloads: boolean;
  readonly headroom: boolean;
  readonly delay: number | undefined;
  readonly foreground: boolean;
  readonly json: boolean;
}

async function up(values: UpValues, io: Io): Promise<number> {
  const { hold, leaveHolder } = await import('../lab-hold.ts');
  const { name, queues, mtu, offloads, headroom, delay, json } = values;
  const options = { name, queues, mtu, offloads, headroom, delayMs: (delay ?? 0) * 1000 };
  if (values.foreground) {
    await hold(options, io.interrupted, (held) => {
      io.out(text(held, name, json));
      if (!json) io.err('The lab stands until Ctrl-C or isthmus lab down.\n');
    });
    return 0;
  }
  if (io.errIsTerminal) io.err('making two namespaces …');
  try {
    const held = await leaveHolder(options);
    if (io.errIsTerminal) io.err('\r\x1b[K');
    io.out(text(held, name, json));
  } catch (error) {
    if (io.errIsTerminal) io.err('\r\x1b[K');
    throw error;
  }
  return 0;
}

async function down(name: string, io: Io): Promise<number> {
  const { endLab } = await import('../../linux/lab-control.ts');
  if (await endLab(name)) io.err(`lab ${name} is down\n`);
  else io.err(`lab ${name} is not up\n`);
  return 0;
}

async function status({ name, json }: { name: string; json: boolean }, io: Io): Promise<number> {
  const { labStatus } = await import('../../linux/lab-control.ts');
  const found = await labStatus(name);
  if (found === null) {
    if (json) io.out('null\n');
    else io.out(`lab ${name} is not up\n`);
    return 1;
  }
  io.out(text(found, name, json));
  return 0;
}

async function runIn(name: string, side: string | undefined, [program, ...args]: readonly string[]): Promise<never> {
  if (!SIDES.includes(side as 'server')) throw new UsageError(`SIDE is ${SIDES.join(' or ')}, for lab run`);
  if (program === undefined) throw new UsageError('COMMAND is missing: isthmus lab run server -- COMMAND');
  const { runInLab } = await import('../lab-run.ts');
  return runInLab(name, side as 'server' | 'client', [program, ...args]);
}

function text(held: LabStatus, name: string, json: boolean): string {
  if (json) return `${JSON.stringify(held)}\n`;
  const row = (side: LabSideStatus): string =>
    [
      `  ${side.name}  ${side.address4}  ${side.address6}  on ${side.interfaceName}`,
      `          free for a stack of its own: ${side.free4}  ${side.free6}`,
      ...(side.slow === null ? [] : [`          the slow way: ${side.slow.address4}  on ${side.slow.interfaceName}`]),
      `          isthmus lab run ${side.name} -- COMMAND, or nsenter --net=${side.path} COMMAND`,
    ].join('\n');
  const { pid, headroom, server, client } = held;
  const only = `  headroom for XDP: the client's kernel takes nothing, only a stack with an address of its own does\n`;
  return `lab ${name} is up, held by process ${pid}\n${row(server)}\n${row(client)}\n${headroom ? only : ''}`;
}
