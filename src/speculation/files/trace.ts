/**
 * A trace of a speculative run in the JSON format that Perfetto and chrome://tracing open ("Trace Event Format").
 * Keeps a bounded number of events in memory and writes them as one text; the caller owns the file.
 */

interface TraceEvent {
  readonly name: string;
  readonly cat: string;
  readonly ph: 'X' | 'i' | 'M' | 'b' | 'e';
  readonly ts: number;
  readonly pid: number;
  readonly tid: number;
  readonly dur?: number;
  readonly id?: number;
  readonly s?: 'p';
  readonly args?: Readonly<Record<string, unknown>>;
}

const EVENTS_MAX = 500_000;

export class SpeculationTrace {
  readonly #events: TraceEvent[] = [];
  readonly #clock: () => number;
  #lost = 0;

  /** @param clock milliseconds */
  constructor(clock: () => number) {
    this.#clock = clock;
  }

  /** Names a process's track. */
  process(pid: number, name: string): void {
    this.#add({ name: 'process_name', cat: '__metadata', ph: 'M', ts: 0, pid, tid: pid, args: { name } });
  }

  /** Something that took no time. */
  instant(name: string, category: string, pid: number, args: Readonly<Record<string, unknown>> = {}): void {
    this.#add({ name, cat: category, ph: 'i', ts: this.#us(), pid, tid: pid, s: 'p', args });
  }

  /** A hypothesis from the answer given ahead to its truth; they overlap, so they are asynchronous spans. */
  begin(name: string, category: string, pid: number, id: number): void {
    this.#add({ name, cat: category, ph: 'b', ts: this.#us(), pid, tid: pid, id });
  }

  end(name: string, category: string, pid: number, id: number, args: Readonly<Record<string, unknown>>): void {
    this.#add({ name, cat: category, ph: 'e', ts: this.#us(), pid, tid: pid, id, args });
  }

  text(): string {
    const otherData = { lostEvents: this.#lost };
    return `${JSON.stringify({ displayTimeUnit: 'ms', otherData, traceEvents: this.#events })}\n`;
  }

  #us(): number {
    return Math.round(this.#clock() * 1000);
  }

  #add(event: TraceEvent): void {
    if (this.#events.length < EVENTS_MAX) this.#events.push(event);
    else this.#lost++;
  }
}
