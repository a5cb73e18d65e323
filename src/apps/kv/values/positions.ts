/**
 * A growing list of integers that is used again and again: what a scan or a random pick has chosen.
 * Pure; it never gives back memory below its limit, so that a command makes no garbage.
 */

const KEEP = 4096;

export class Positions {
  items: Int32Array = new Int32Array(64);
  length = 0;

  clear(): void {
    this.length = 0;
    if (this.items.length > KEEP) this.items = new Int32Array(64);
  }

  push(item: number): void {
    if (this.length === this.items.length) {
      const larger = new Int32Array(this.length * 2);
      larger.set(this.items);
      this.items = larger;
    }
    this.items[this.length++] = item;
  }

  /**
   * A step of a scan over entries numbered 0..size-1 in which the last takes the number of a removed one: goes down from
   * `cursor` (0: from the top). What has not been met lies below the cursor and never moves up. Returns the next cursor.
   */
  descend(cursor: number, count: number, size: number): number {
    let entry = cursor === 0 || cursor > size ? size : cursor;
    const stop = entry > count ? entry - count : 0;
    while (entry > stop) this.push(--entry);
    return stop;
  }
}
