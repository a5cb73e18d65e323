/**
 * Connections that were heard of and have fallen silent: each is asked once more, by ending its receive and beginning anew.
 * It touches nothing but the list; the receiver does the asking.
 *
 * Why: a multishot receive that has taken all bytes waits for the socket to wake it. A reset that came together with those
 * bytes has woken it already, and unlike an end of stream it is not counted as something to read (tcp_inq_hint in Linux):
 * nothing would ever tell. A new receive looks before it waits, and so finds it. A push would find it, too.
 */
import { Phase } from '../sockets/sock.ts';
import type { UringSocket } from './socket.ts';

/** A connection is asked after between one and two of these, in milliseconds. */
export const SILENCE_MS = 200;

export class Silence {
  #suspects: UringSocket[] = [];
  #due = 0;
  readonly #ask: (socket: UringSocket) => void;

  constructor(ask: (socket: UringSocket) => void) {
    this.#ask = ask;
  }

  /** Some connection is still to be asked. */
  get pending(): boolean {
    return this.#suspects.length > 0;
  }

  /** Connections that bytes have come from in this round or the last. */
  get talking(): number {
    return this.#suspects.length;
  }

  /** Bytes came; called when the connection is not on the list yet. */
  suspect(socket: UringSocket): void {
    socket.suspected = true;
    this.#suspects.push(socket);
  }

  /** Asks those who said nothing for a whole round. @returns microseconds until the next round is due */
  look(now: number): number {
    if (now < this.#due) return Math.ceil((this.#due - now) * 1000);
    this.#due = now + SILENCE_MS;
    const still: UringSocket[] = [];
    for (const socket of this.#suspects) {
      if (socket.phase !== Phase.OPEN || socket.ended) socket.suspected = false;
      else if (socket.heard) {
        socket.heard = false;
        still.push(socket);
      } else {
        socket.suspected = false;
        this.#ask(socket);
      }
    }
    this.#suspects = still;
    return SILENCE_MS * 1000;
  }
}
