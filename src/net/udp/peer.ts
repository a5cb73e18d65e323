/**
 * A datagram's other end, kept beside its buffer as the kernel's socket addresses are (address/sockaddr.ts), written from
 * and read into words. Pure: it touches the heap's table of peers and the flow it is given.
 */
import type { HeapBuffer } from '../../ring/heap.ts';
import type { Flow } from '../flow.ts';

const AF_INET = 2;
const AF_INET6 = 10;
const MAPPED = 0xffff;

/**
 * Writes a flow's remote side as the buffer's peer.
 * @param mapped an IPv4 address is written as IPv6's ::ffff:a.b.c.d, as a socket for both families has it
 */
export function writePeer(buffer: HeapBuffer, flow: Flow, mapped: boolean): void {
  const { view, peerOffset: at } = buffer;
  const v6 = flow.family === 6 || mapped;
  view.setUint16(at, v6 ? AF_INET6 : AF_INET, true);
  view.setUint16(at + 2, flow.remotePort);
  if (!v6) {
    view.setInt32(at + 4, flow.remote3);
    view.setInt32(at + 8, 0);
    view.setInt32(at + 12, 0);
    buffer.peerLength = 16;
    return;
  }
  view.setInt32(at + 4, 0);
  view.setInt32(at + 8, flow.remote0);
  view.setInt32(at + 12, flow.remote1);
  view.setInt32(at + 16, flow.family === 6 ? flow.remote2 : MAPPED);
  view.setInt32(at + 20, flow.remote3);
  // sin6_scope_id is in the machine's order, which is little-endian here.
  view.setInt32(at + 24, flow.scope, true);
  buffer.peerLength = 28;
}

/** Reads the buffer's peer into a flow's remote side, an IPv4 address in IPv6 as IPv4; false where there is none. */
export function readPeer(buffer: HeapBuffer, flow: Flow): boolean {
  const { view, peerOffset: at, peerLength } = buffer;
  if (peerLength === 0) return false;
  const kind = view.getUint16(at, true);
  const port = view.getUint16(at + 2);
  if (kind === AF_INET) {
    setRemote(flow, 4, 0, 0, 0, view.getInt32(at + 4), port, 0);
    return true;
  }
  if (kind !== AF_INET6) return false;
  const w0 = view.getInt32(at + 8);
  const w1 = view.getInt32(at + 12);
  const w2 = view.getInt32(at + 16);
  const w3 = view.getInt32(at + 20);
  const scope = view.getInt32(at + 24, true);
  if ((w0 | w1) === 0 && w2 === MAPPED) setRemote(flow, 4, 0, 0, 0, w3, port, 0);
  else setRemote(flow, 6, w0, w1, w2, w3, port, scope);
  return true;
}

/** Changes a flow's remote side; what IP remembers of the way there is forgotten where it is another host. */
export function setRemote(
  flow: Flow,
  family: number,
  w0: number,
  w1: number,
  w2: number,
  w3: number,
  port: number,
  scope: number,
): void {
  flow.remotePort = port;
  if (
    flow.remote3 === w3 &&
    flow.family === family &&
    flow.remote2 === w2 &&
    flow.remote1 === w1 &&
    flow.remote0 === w0 &&
    flow.scope === scope
  ) {
    return;
  }
  flow.family = family;
  flow.remote0 = w0;
  flow.remote1 = w1;
  flow.remote2 = w2;
  flow.remote3 = w3;
  flow.scope = scope;
  flow.route = -1;
}
