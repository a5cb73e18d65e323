/**
 * What streams and datagram sockets in shared memory ask of their datapath.
 * Pure types: the datapath implements them (memory.ts).
 */
import type { Family, SocketOption, SocketType } from '../../kernel/datapath.ts';
import type { Heap } from '../../ring/heap.ts';
import type { DatagramEnd } from './datagram.ts';
import type { Link } from './link.ts';
import type { Claim, NameSpace } from './names.ts';
import type { StreamEnd } from './stream.ts';

/** Told how a search for a name ended, once. */
export interface Seeker {
  /** `name` is in full: where others share the port it says which of them was found. */
  found(link: Link, name: string): void;
  missing(): void;
}

/** Somebody who has a name. */
export interface Place {
  readonly link: Link;
  /** In full: with the share, where a port is shared. */
  readonly name: string;
}

export interface Hub {
  readonly heap: Heap;
  readonly sendLimit: number;
  /** Closed streams that still have something to send. */
  draining: number;
  /** Datagrams that were lost: no buffer, no room, nobody there. */
  lostDatagrams: number;
  openQueue(family: Family, type: SocketType): number;
  adopt(qd: number, end: StreamEnd): void;
  /** Something has arrived on the stream: its `serve` is called before the poll ends. */
  touch(end: StreamEnd): void;
  /** The heap is used up: its `serve` is called again when buffers may have come back. */
  starve(end: StreamEnd): void;

  claimPort(
    spaces: readonly NameSpace[],
    port: number,
    shared: boolean,
    about: string,
  ): { port: number; claims: Claim[] };
  claimPath(path: string): Claim;
  /** Names that are found from now on; streams are for `owner`, datagrams for sockets given to {@link Hub.receive}. */
  announce(claims: readonly Claim[], owner: StreamEnd | null): void;
  /** Gives names back. */
  release(claims: readonly Claim[]): void;
  /** Datagrams for this name, as a number (datagram.ts), go to `end`; null: to nobody any more. */
  receive(key: number, end: DatagramEnd | null): void;

  /** Who holds the name, if that is known already. */
  known(name: string): Place | undefined;
  /** It is not there any more. */
  unknown(name: string, fullName: string): void;
  /** Looks for the name. The seeker may be told before this returns. */
  seek(name: string, seeker: Seeker): void;
  /** The next port for a connection that begins here. */
  ephemeral(): number;
  /** What was sent outside of a turn becomes visible. */
  flush(): number;
  /** A stream has let go of the link's memory. */
  detached(link: Link): void;
}

/** What `getsockopt` says of an option that nobody set. */
export type Options = Map<SocketOption, number>;
