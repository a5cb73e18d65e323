/**
 * A closed stream that still has something to send: it counts among the draining ones of its datapath, and its peer has so
 * long to read. It owns a timer.
 */

/** How long it goes on sending to a peer that does not read, where LINGER says nothing else. */
const LINGER_MS = 30_000;

export class Lingering {
  readonly #counted: { draining: number };
  #active = false;
  #timer: ReturnType<typeof setTimeout> | null = null;

  /** @param counted where the closed streams with something to send are counted */
  constructor(counted: { draining: number }) {
    this.#counted = counted;
  }

  begin(): void {
    if (this.#active) return;
    this.#active = true;
    this.#counted.draining++;
  }

  /** Gives up after so long, unless all was sent. @param seconds as the option LINGER has it: 0 or less is the default */
  limit(seconds: number, giveUp: () => void): void {
    if (this.#active) this.#timer ??= setTimeout(giveUp, seconds > 0 ? seconds * 1000 : LINGER_MS);
  }

  /** All is sent, or nobody will read it. */
  end(): void {
    if (!this.#active) return;
    this.#active = false;
    this.#counted.draining--;
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
  }
}
