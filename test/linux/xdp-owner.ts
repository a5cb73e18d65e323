/**
 * For tests, as a process of its own: `filter INDEX` puts a filter and a socket on an interface of its namespace; `lab PATH`
 * makes a lab whose server also has a veth into the namespace at PATH; `lock BYTES` makes a socket with a UMEM of that
 * size. It says what it made, or why not, on a line of JSON, then stays until its standard input ends.
 */
import { XdpSocket } from '../../src/linux/af-xdp.ts';
import { createLab } from '../../src/linux/lab.ts';
import { mapArena } from '../../src/linux/memory.ts';
import { openNamespace } from '../../src/linux/namespace.ts';
import { NetworkSetup } from '../../src/linux/network-setup.ts';
import { NetworkReader } from '../../src/linux/rtnetlink.ts';
import { XdpFilter } from '../../src/linux/xdp-filter.ts';
import { requireXdp, xdpRefusal } from '../../src/linux/xdp-probe.ts';

const FRAMES = 64;
const [what, argument = ''] = process.argv.slice(2);

function filter(interfaceIndex: number): object {
  const memory = mapArena(FRAMES * 2048);
  requireXdp({ umemBytes: memory.byteLength });
  const made = new XdpFilter(interfaceIndex);
  const socket = new XdpSocket({ interfaceIndex, queue: 0, memory });
  made.join(0, socket.fd);
  made.own('10.88.0.9');
  const { mode, linkId, program, maps } = made;
  return { mode, link: linkId, program: program.id, maps: Object.values(maps).map(({ id }) => id) };
}

function lab(path: string): object {
  const { server, client } = createLab();
  const witness = openNamespace(path);
  const setup = server.namespace.run(() => new NetworkSetup());
  setup.createVeth({ name: 'to-witness' }, { name: 'witness', namespaceFd: witness.fd });
  setup.close();
  witness.close();
  return { server: server.path, client: client.path };
}

/** A UMEM of so many bytes, without having asked whether that is allowed. */
function lock(bytes: number): object {
  try {
    const memory = mapArena(bytes, { populate: false });
    const reader = new NetworkReader();
    const interfaceIndex = reader.link('lab-server')!.index;
    reader.close();
    return { zeroCopy: new XdpSocket({ interfaceIndex, queue: 0, memory }).zeroCopy };
  } catch (error) {
    return { message: (error as Error).message, refusal: xdpRefusal({ umemBytes: bytes })?.message };
  }
}

const actions: Record<string, () => object> = {
  filter: () => filter(Number(argument)),
  lab: () => lab(argument),
  lock: () => lock(Number(argument)),
};
const result = actions[what!]!();
process.stdout.write(`${JSON.stringify(result)}\n`);
process.stdin.resume().once('end', () => process.exit());
