/**
 * Connecting for the io_uring datapath: TCP by an entry of the ring, everything else by a call that does not wait.
 * It writes connects into the ring, and completes and fails them.
 *
 * A connection then moves into the ring's file table, where accepted ones are: a descriptor costs a look-up and two
 * atomic operations with each send (1.5 % of an echo). Where no place is left for it, it stays a descriptor.
 */
import { ERRNO, IsthmusError, systemError } from '../../errors.ts';
import { type Address, Family, SocketType } from '../../kernel/datapath.ts';
import type { Operation } from '../../kernel/operation.ts';
import type { MappedMemory } from '../../linux/memory.ts';
import { addressText, SOCKADDR_MAX_BYTES, writeSockaddr } from '../../linux/sockaddr.ts';
import * as linux from '../../linux/socket.ts';
import type { Ring } from '../../linux/uring.ts';
import { SqeFlag } from '../../linux/uring-abi.ts';
import { prepCancelUserData, prepClose, prepConnect } from '../../linux/uring-prep.ts';
import { Phase } from '../sockets/sock.ts';
import type { Receiver } from './receive.ts';
import type { Sender } from './send.ts';
import { Flight, Kind, SLOT_SHIFT, type SocketTable, type UringSocket } from './socket.ts';

/** Bytes of an address of family AF_UNSPEC: all zero. */
const NOWHERE_BYTES = 16;

/** Bytes of mapped memory for the addresses of `entries` submissions. */
export function connectBytes(entries: number): number {
  return (entries + 1) * SOCKADDR_MAX_BYTES;
}

export class Connector {
  readonly #ring: Ring;
  readonly #table: SocketTable;
  readonly #receiver: Receiver;
  readonly #sender: Sender;
  readonly #memory: MappedMemory;
  /** One address per submission entry: the kernel has copied it when it has taken the entry. */
  readonly #addresses: number;
  readonly #nowhere: number;

  /** @param memory {@link connectBytes} of it from `offset` on, zero-filled */
  constructor(
    ring: Ring,
    table: SocketTable,
    receiver: Receiver,
    sender: Sender,
    memory: MappedMemory,
    offset: number,
  ) {
    this.#ring = ring;
    this.#table = table;
    this.#receiver = receiver;
    this.#sender = sender;
    this.#memory = memory;
    this.#nowhere = offset;
    this.#addresses = offset + SOCKADDR_MAX_BYTES;
  }

  connect(socket: UringSocket, address: Address, op: Operation<void>): void {
    socket.about = addressText(address);
    const stream = socket.type === SocketType.STREAM;
    if (stream && socket.phase !== Phase.CREATED) {
      op.failErrno(socket.phase === Phase.CONNECTING ? ERRNO.EALREADY : ERRNO.EISCONN, 'connect', socket.about);
      return;
    }
    try {
      if (stream && socket.family !== Family.UNIX) this.#begin(socket, address, op);
      else {
        const result = linux.connect(socket.file, address);
        if (result < 0) throw systemError(result, 'connect', socket.about);
        socket.phase = Phase.OPEN;
        if (stream) this.#moveToTable(socket);
        op.complete(undefined);
      }
    } catch (error) {
      op.fail(error as Error);
    }
  }

  #begin(socket: UringSocket, address: Address, op: Operation<void>): void {
    const ring = this.#ring;
    const at = this.#addresses + (ring.tail & ring.sqMask) * SOCKADDR_MAX_BYTES;
    const length = writeSockaddr(address, this.#memory.u8, at, 'connect');
    const data = (socket.slot << SLOT_SHIFT) | Kind.CONNECT;
    prepConnect(ring, socket.file, 0, this.#memory.addressHigh, at, length, data, socket.generation);
    socket.phase = Phase.CONNECTING;
    socket.connecting = op;
    socket.connectFlight = Flight.ARMED;
  }

  withdraw(socket: UringSocket, op: Operation<unknown>): void {
    if (socket.connecting !== op) return;
    socket.connecting = null;
    this.cancel(socket);
    this.#failed(socket, ERRNO.ECANCELED);
  }

  /** Ends the connect in flight; its completion is still to come. */
  cancel(socket: UringSocket): void {
    if (socket.connectFlight !== Flight.ARMED) return;
    socket.connectFlight = Flight.CANCELLING;
    const target = (socket.slot << SLOT_SHIFT) | Kind.CONNECT;
    prepCancelUserData(this.#ring, target, socket.generation, SqeFlag.CQE_SKIP, Kind.NONE, 0);
  }

  onConnect(socket: UringSocket, result: number): void {
    const op = socket.connecting;
    socket.connectFlight = Flight.NONE;
    socket.connecting = null;
    if (op === null) {
      // Withdrawn, but it may have succeeded: nobody must find the connection open.
      if (result === 0 && socket.phase === Phase.CREATED) {
        linux.connectTo(socket.file, this.#memory.address + this.#nowhere, NOWHERE_BYTES);
      }
    } else if (result < 0) {
      this.#failed(socket, -result);
      op.failErrno(result, 'connect', socket.about);
    } else {
      socket.phase = Phase.OPEN;
      this.#moveToTable(socket);
      op.complete(undefined);
      if (socket.outHead >= 0) this.#sender.pushes.mark(socket);
      if (socket.waiting.head !== null) this.#receiver.arm(socket);
    }
  }

  #moveToTable(socket: UringSocket): void {
    if (!this.#table.mayMove(socket)) return;
    try {
      this.#ring.updateFile(socket.slot, socket.file);
    } catch (error) {
      if (!(error instanceof IsthmusError)) throw error;
      return; // the kernel is short of memory
    }
    // By an entry, because entries before it may still name the descriptor.
    prepClose(this.#ring, socket.file, SqeFlag.CQE_SKIP, Kind.NONE, 0);
    socket.file = socket.slot;
    socket.fileFlag = SqeFlag.FIXED_FILE;
  }

  /** The queue can only be closed now; whoever waits on it learns it. */
  #failed(socket: UringSocket, errno: number): void {
    socket.phase = Phase.CREATED;
    socket.failed = errno;
    this.#receiver.end(socket);
    this.#sender.broken(socket, errno);
  }

  /**
   * Resets a connection of the ring's file table, which has no descriptor to set SO_LINGER on: connecting to nowhere
   * disconnects with a reset (connect(2)).
   */
  reset(socket: UringSocket): void {
    const { addressHigh } = this.#memory;
    const flags = socket.fileFlag | SqeFlag.CQE_SKIP;
    prepConnect(this.#ring, socket.file, flags, addressHigh, this.#nowhere, NOWHERE_BYTES, Kind.NONE, 0);
  }
}
