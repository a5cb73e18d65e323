/**
 * What IP and ICMP tell TCP and UDP. Types only; src/net/tcp/tcp.ts fits TcpLayer as it is.
 */
import type { HeapBuffer } from '../ring/heap.ts';
import type { Flow } from './flow.ts';

/** What is looked at to see that an ICMP error is about data in flight, and that a peer makes progress. */
export interface TcpProgress {
  readonly flow: Flow;
  readonly sndUna: number;
  readonly sndNxt: number;
}

export interface TcpLayer {
  acceptsPartial: boolean;
  readonly table: { find(flow: Flow): TcpProgress | null };
  setTime(ms: number): void;
  /** The packet is borrowed. */
  input(packet: HeapBuffer, at: number, length: number, flow: Flow): void;
  flush(): void;
  packetTooBig(flow: Flow, seq: number, mtu: number): void;
  unreachable(flow: Flow, seq: number, errno: number, hard: boolean): void;
}

export interface Transports {
  readonly tcp: TcpLayer | null;
  readonly udp: {
    /** True where a datagram of this flow may have come from here. */
    sends(flow: Flow): boolean;
    unreachable(flow: Flow, errno: number): void;
  };
}
