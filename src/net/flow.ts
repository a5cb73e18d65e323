/**
 * What the transports and the IP layer tell each other: a flow's addresses, where segments go, and who keeps time.
 * Types, plain data and its sum; a Flow is filled in once and then read by whoever has it.
 */
import type { HeapBuffer } from '../ring/heap.ts';
import { pseudoSum4 } from './wire/ipv4.ts';
import { pseudoSum6 } from './wire/ipv6.ts';

/**
 * Bytes a transport leaves free in front of its own header for what stands before it: 40 of IPv6, 14 of Ethernet, 16 of what
 * a device is told of the frame (linux/xdp-metadata.ts), rounded up so that the transport's header stays aligned.
 */
export const HEADROOM = 72;

/**
 * The two ends of a flow as the local side sees them. An address is four 32-bit words in network order, each read as
 * a signed integer (they stay small integers in V8); an IPv4 address is in word 3, the others are 0.
 * The fields are plain because every packet reads them.
 */
export class Flow {
  /** 4 or 6. */
  family = 4;
  local0 = 0;
  local1 = 0;
  local2 = 0;
  local3 = 0;
  remote0 = 0;
  remote1 = 0;
  remote2 = 0;
  remote3 = 0;
  localPort = 0;
  remotePort = 0;
  /** Sum of the pseudo header without the length, for TCP (RFC 9293 3.1); kept by TCP. */
  pseudo = 0;
  /** For the IP layer: what it likes to remember of the way to the remote side, e.g. an index into its neighbours. */
  route = -1;
  /** IPv6 traffic class or IPv4 type of service for what is sent. */
  trafficClass = 0;
  /** Interface of a link-local address (RFC 4007), 0 for none. */
  scope = 0;

  /** Becomes the same flow as `other`, but for what the IP layer remembers. */
  copy(other: Flow): this {
    this.family = other.family;
    this.local0 = other.local0;
    this.local1 = other.local1;
    this.local2 = other.local2;
    this.local3 = other.local3;
    this.remote0 = other.remote0;
    this.remote1 = other.remote1;
    this.remote2 = other.remote2;
    this.remote3 = other.remote3;
    this.localPort = other.localPort;
    this.remotePort = other.remotePort;
    this.pseudo = other.pseudo;
    this.route = other.route;
    this.trafficClass = other.trafficClass;
    this.scope = other.scope;
    return this;
  }

  /** True for the same family, addresses, ports and scope. */
  equals(other: Flow): boolean {
    return (
      this.remotePort === other.remotePort &&
      this.localPort === other.localPort &&
      this.remote3 === other.remote3 &&
      this.local3 === other.local3 &&
      this.family === other.family &&
      (this.family === 4 ||
        (this.remote2 === other.remote2 &&
          this.remote1 === other.remote1 &&
          this.remote0 === other.remote0 &&
          this.local2 === other.local2 &&
          this.local1 === other.local1 &&
          this.local0 === other.local0 &&
          this.scope === other.scope))
    );
  }

  /** Sets the local address from 4 or 16 bytes in network order. */
  setLocal(bytes: Uint8Array, port: number): this {
    this.family = bytes.length === 4 ? 4 : 6;
    this.local0 = wordOf(bytes, 0);
    this.local1 = wordOf(bytes, 1);
    this.local2 = wordOf(bytes, 2);
    this.local3 = wordOf(bytes, 3);
    this.localPort = port;
    return this;
  }

  /** Sets the remote address from 4 or 16 bytes in network order. */
  setRemote(bytes: Uint8Array, port: number): this {
    this.family = bytes.length === 4 ? 4 : 6;
    this.remote0 = wordOf(bytes, 0);
    this.remote1 = wordOf(bytes, 1);
    this.remote2 = wordOf(bytes, 2);
    this.remote3 = wordOf(bytes, 3);
    this.remotePort = port;
    return this;
  }
}

/** Sum of the flow's pseudo header without the length, folded (RFC 768, RFC 9293 3.1, RFC 8200 8.1). */
export function pseudoSum(flow: Flow, protocol: number): number {
  const { local0, local1, local2, local3, remote0, remote1, remote2, remote3 } = flow;
  if (flow.family === 4) return pseudoSum4(local3, remote3, protocol);
  return pseudoSum6(local0, local1, local2, local3, remote0, remote1, remote2, remote3, protocol);
}

function wordOf(bytes: Uint8Array, word: number): number {
  if (bytes.length === 4) {
    if (word !== 3) return 0;
    word = 0;
  }
  const at = 4 * word;
  return (bytes[at]! << 24) | (bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!;
}

/** Where TCP's segments go: the IP layer (docs/design/net.md). */
export interface SegmentOutput {
  /**
   * Sends one segment. `packet` holds the TCP header (and, where `payload` is null, all the data) at its offset and
   * length, with {@link HEADROOM} free bytes before it; one reference passes to the callee. The rest of the segment is
   * `payloadLength` bytes at `payloadOffset` of `payload.memory`: the callee retains `payload` for as long as it reads
   * it after the call. The checksum is complete, or partial where the device completes it. Never throws; a segment that
   * cannot be sent is dropped.
   */
  transmit(
    flow: Flow,
    packet: HeapBuffer,
    payload: HeapBuffer | null,
    payloadOffset: number,
    payloadLength: number,
  ): void;
  /** Segments that can be sent now without a drop. TCP stops at 0 and goes on in its next flush. */
  room(): number;
  /** Largest IP packet on the way to the flow's remote side, in bytes, headers included (RFC 1191, RFC 8201). */
  mtu(flow: Flow): number;
}

/** Who is told that a timer is due; the handle names no timer any more. */
export interface Timed {
  expired(timer: number): void;
}

/** Timers as the kernel's wheel gives them. Deadlines are milliseconds on the clock that the transport is given. */
export interface Timers {
  /** Arms a timer; gives a handle, at least 0. */
  schedule(deadline: number, target: Timed): number;
  /** Disarms it; false where it has fired already. */
  cancel(timer: number): boolean;
}
