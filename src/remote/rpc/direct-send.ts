/**
 * Sends small messages on a connected socket of node:net with one system call, past the stream machinery, which costs more
 * than the call. It touches the socket's descriptor while the socket is open, and memory of its own.
 */
import type { Socket } from 'node:net';
import { type MappedMemory, mapArena } from '../../linux/memory.ts';
import { MSG_DONTWAIT, send } from '../../linux/socket.ts';

/** Longer messages gain nothing: their copying and sending outweighs the rest. */
const MOST_BYTES = 64 * 1024;

let memory: MappedMemory | null = null;

/**
 * Tries to send `bytes[0..length)`; gives how many bytes the kernel took. The rest is for `socket.write`, which also learns of
 * a broken connection. Only when nothing that was written before still waits (`writableLength` is 0).
 */
export function sendDirectly(socket: Socket, bytes: Uint8Array, length: number): number {
  if (length > MOST_BYTES || socket.writableLength > 0) return 0;
  // Node keeps the descriptor to itself, but under a name that has not changed since it has had one.
  const descriptor = (socket as unknown as { _handle?: { fd?: number } | null })._handle?.fd;
  if (descriptor === undefined || descriptor < 0) return 0;
  memory ??= mapArena(MOST_BYTES);
  memory.u8.set(bytes.subarray(0, length));
  return Math.max(0, send(descriptor, memory.address, length, MSG_DONTWAIT));
}
