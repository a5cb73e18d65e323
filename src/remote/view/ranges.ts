/**
 * A set of bytes of a file as sorted, disjoint, non-touching half-open ranges.
 * Pure.
 */

export interface Range {
  readonly start: number;
  readonly end: number;
}

export class RangeSet {
  /** start, end, start, end, …: ascending. */
  #edges: number[] = [];
  #bytes = 0;

  get isEmpty(): boolean {
    return this.#edges.length === 0;
  }

  /** Number of ranges. */
  get count(): number {
    return this.#edges.length / 2;
  }

  /** Bytes in all. */
  get bytes(): number {
    return this.#bytes;
  }

  /** One past the last byte; 0 if empty. */
  get end(): number {
    return this.#edges[this.#edges.length - 1] ?? 0;
  }

  add(start: number, end: number): void {
    if (start >= end) return;
    const edges = this.#edges;
    // Ranges from `first` to before `last` overlap or touch the new one.
    let first = this.#firstEndingAtOrAfter(start);
    let last = first;
    while (last < edges.length && edges[last]! <= end) last += 2;
    this.#bytes += end - start - this.#bytesOf(first, last, start, end);
    if (first === last) edges.splice(first, 0, start, end);
    else {
      const from = Math.min(start, edges[first]!);
      const to = Math.max(end, edges[last - 1]!);
      if (last - first === 2) {
        edges[first++] = from;
        edges[first] = to;
      } else edges.splice(first, last - first, from, to);
    }
  }

  remove(start: number, end: number): void {
    if (start >= end) return;
    const edges = this.#edges;
    const first = this.#firstEndingAfter(start);
    let last = first;
    while (last < edges.length && edges[last]! < end) last += 2;
    if (first === last) return;
    this.#bytes -= this.#bytesOf(first, last, start, end);
    const left = edges[first]!;
    const right = edges[last - 1]!;
    const rest: number[] = [];
    if (left < start) rest.push(left, start);
    if (right > end) rest.push(end, right);
    edges.splice(first, last - first, ...rest);
  }

  clear(): void {
    this.#edges.length = 0;
    this.#bytes = 0;
  }

  covers(start: number, end: number): boolean {
    if (start >= end) return true;
    const i = this.#firstEndingAfter(start);
    return i < this.#edges.length && this.#edges[i]! <= start && this.#edges[i + 1]! >= end;
  }

  overlaps(start: number, end: number): boolean {
    if (start >= end) return false;
    const i = this.#firstEndingAfter(start);
    return i < this.#edges.length && this.#edges[i]! < end;
  }

  /** The parts of the set within [start, end). */
  within(start: number, end: number): Range[] {
    const found: Range[] = [];
    const edges = this.#edges;
    for (let i = this.#firstEndingAfter(start); i < edges.length && edges[i]! < end; i += 2) {
      found.push({ start: Math.max(start, edges[i]!), end: Math.min(end, edges[i + 1]!) });
    }
    return found;
  }

  /** The parts of [start, end) that are not in the set. */
  gaps(start: number, end: number): Range[] {
    const found: Range[] = [];
    let at = start;
    for (const range of this.within(start, end)) {
      if (range.start > at) found.push({ start: at, end: range.start });
      at = range.end;
    }
    if (at < end) found.push({ start: at, end });
    return found;
  }

  all(): Range[] {
    return this.within(0, Infinity);
  }

  /** Bytes within [start, end) of the ranges from index `first` to before `last`. */
  #bytesOf(first: number, last: number, start: number, end: number): number {
    let sum = 0;
    for (let i = first; i < last; i += 2) {
      sum += Math.max(0, Math.min(end, this.#edges[i + 1]!) - Math.max(start, this.#edges[i]!));
    }
    return sum;
  }

  /** Index of the first range whose end is > `at`. */
  #firstEndingAfter(at: number): number {
    return this.#search(at, false);
  }

  #firstEndingAtOrAfter(at: number): number {
    return this.#search(at, true);
  }

  #search(at: number, orAt: boolean): number {
    const edges = this.#edges;
    let low = 0;
    let high = edges.length >> 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      const end = edges[middle * 2 + 1]!;
      if (end > at || (orAt && end === at)) high = middle;
      else low = middle + 1;
    }
    return low * 2;
  }
}
