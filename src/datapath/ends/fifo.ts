/**
 * A queue in a circular array.
 * Pure data structure.
 */

/** Grows by doubling, and allocates nothing otherwise. */
export class Fifo<T> {
  #items: (T | undefined)[] = new Array(8).fill(undefined);
  #head = 0;
  length = 0;

  push(item: T): void {
    if (this.length === this.#items.length) this.#grow();
    this.#items[(this.#head + this.length++) & (this.#items.length - 1)] = item;
  }

  /** Takes the oldest item. There must be one. */
  shift(): T {
    const item = this.#items[this.#head]!;
    this.#items[this.#head] = undefined;
    this.#head = (this.#head + 1) & (this.#items.length - 1);
    this.length--;
    return item;
  }

  /** The `i`-th oldest. */
  at(i: number): T {
    return this.#items[(this.#head + i) & (this.#items.length - 1)]!;
  }

  /** Takes out every item that `wanted` says yes to, in order, and keeps the rest in order. */
  extract(wanted: (item: T) => boolean): T[] {
    const taken: T[] = [];
    for (let n = this.length; n > 0; n--) {
      const item = this.shift();
      if (wanted(item)) taken.push(item);
      else this.push(item);
    }
    return taken;
  }

  #grow(): void {
    const { length } = this.#items;
    const larger: (T | undefined)[] = new Array(2 * length).fill(undefined);
    for (let i = 0; i < length; i++) larger[i] = this.at(i);
    this.#items = larger;
    this.#head = 0;
  }
}
