/**
 * The live containers behind cells: thin wrappers over the built-in ones that
 * expose only operations with one defined order, so that a restored container
 * goes on exactly as the original.
 */

/** A growable list; the live object of `arrayOf`. */
export class CellArray<T> implements Iterable<T> {
  #items: T[] = [];
  /** Number of items. */
  get length(): number {
    return this.#items.length;
  }
  /** The item at `index`, or undefined; negative counts from the end. */
  at(index: number): T | undefined {
    return this.#items.at(index);
  }
  /** Replaces the item at `index`. @throws RangeError beyond the end */
  set(index: number, item: T): void {
    if (!(index >= 0 && index < this.#items.length)) {
      throw new RangeError(
        `set item ${index}: the list has ${this.#items.length} items`,
      );
    }
    this.#items[index] = item;
  }
  /** Appends; answers the new length. */
  push(...items: readonly T[]): number {
    return this.#items.push(...items);
  }
  /** Removes and returns the last item. */
  pop(): T | undefined {
    return this.#items.pop();
  }
  /** Removes and returns the first item. */
  shift(): T | undefined {
    return this.#items.shift();
  }
  /** Puts items in front; answers the new length. */
  unshift(...items: readonly T[]): number {
    return this.#items.unshift(...items);
  }
  /** Removes and inserts at `start`; answers what was removed. */
  splice(start: number, remove: number, ...items: readonly T[]): T[] {
    return this.#items.splice(start, remove, ...items);
  }
  /** Index of the first equal item, or -1. */
  indexOf(item: T): number {
    return this.#items.indexOf(item);
  }
  /** Whether an equal item is there. */
  includes(item: T): boolean {
    return this.#items.includes(item);
  }
  /** The first item that passes. */
  find(test: (item: T, index: number) => boolean): T | undefined {
    return this.#items.find(test);
  }
  /** Its index, or -1. */
  findIndex(test: (item: T, index: number) => boolean): number {
    return this.#items.findIndex(test);
  }
  /** A copy as a plain array. */
  toArray(): T[] {
    return [...this.#items];
  }
  /** Replaces everything. */
  assign(items: Iterable<T>): void {
    this.#items = [...items];
  }
  /** Removes everything. */
  clear(): void {
    this.#items.length = 0;
  }
  /** In order. */
  [Symbol.iterator](): IterableIterator<T> {
    return this.#items[Symbol.iterator]();
  }
}

/** A set in insertion order; the live object of `setOf`. */
export class CellSet<T> implements Iterable<T> {
  readonly #items = new Set<T>();
  /** Number of entries. */
  get size(): number {
    return this.#items.size;
  }
  /** Whether it is there. */
  has(item: T): boolean {
    return this.#items.has(item);
  }
  /** Adds at the end, unless it is there. */
  add(item: T): this {
    this.#items.add(item);
    return this;
  }
  /** Removes; answers whether it was there. */
  delete(item: T): boolean {
    return this.#items.delete(item);
  }
  /** Removes everything. */
  clear(): void {
    this.#items.clear();
  }
  /** In order. */
  [Symbol.iterator](): IterableIterator<T> {
    return this.#items[Symbol.iterator]();
  }
}

/** A map in insertion order of its keys; the live object of `mapOf`. */
export class CellMap<K, V> implements Iterable<[K, V]> {
  readonly #items = new Map<K, V>();
  /** Number of entries. */
  get size(): number {
    return this.#items.size;
  }
  /** The value of a key. */
  get(key: K): V | undefined {
    return this.#items.get(key);
  }
  /** Whether it is there. */
  has(key: K): boolean {
    return this.#items.has(key);
  }
  /** Sets a key's value; a new key goes to the end. */
  set(key: K, value: V): this {
    this.#items.set(key, value);
    return this;
  }
  /** Removes; answers whether it was there. */
  delete(key: K): boolean {
    return this.#items.delete(key);
  }
  /** Removes everything. */
  clear(): void {
    this.#items.clear();
  }
  /** Keys in order. */
  keys(): IterableIterator<K> {
    return this.#items.keys();
  }
  /** Values in order of their keys. */
  values(): IterableIterator<V> {
    return this.#items.values();
  }
  /** In order. */
  [Symbol.iterator](): IterableIterator<[K, V]> {
    return this.#items[Symbol.iterator]();
  }
}
