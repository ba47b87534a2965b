/**
 * The machine's pages as the kernel sees them: collects dirty marks for
 * everyone who counts them, makes and restores page tables, and keeps the
 * two-level SHA-256 of RAM up to date page by page.
 */
import type { PagedState } from "./executor.ts";
import { StateError } from "./errors.ts";
import {
  GROUP_PAGES,
  isZeroPage,
  Page,
  PageTable,
  sha256,
  ZERO_PAGE,
} from "./keyframe.ts";
import { sameBytes } from "./bytes.ts";

/** RAM pages written since `clear`; close it when done. */
export class DirtyPages {
  readonly #bits: Uint32Array;
  #count = 0;
  readonly #harvest: () => void;
  readonly #close: (set: DirtyPages) => void;

  /** Made by `Kernel.trackDirty`. */
  constructor(
    pageCount: number,
    harvest: () => void,
    close: (set: DirtyPages) => void,
  ) {
    this.#bits = new Uint32Array((pageCount + 31) >>> 5);
    this.#harvest = harvest;
    this.#close = close;
  }

  /** How many are known to be written; `count` may be more, and asks the executor. */
  get least(): number {
    return this.#count;
  }
  /** For the kernel: page `index` was written. */
  mark(index: number): void {
    const word = index >>> 5;
    const bit = 1 << (index & 31);
    if ((this.#bits[word] & bit) === 0) {
      this.#bits[word] |= bit;
      this.#count++;
    }
  }
  /** For the kernel: page `index` is as known after all. */
  unmark(index: number): void {
    if (!this.isMarked(index)) return;
    this.#bits[index >>> 5] &= ~(1 << (index & 31));
    this.#count--;
  }
  /** For the kernel: whether it is marked so far. */
  isMarked(index: number): boolean {
    return (this.#bits[index >>> 5] & (1 << (index & 31))) !== 0;
  }
  /** For the kernel: visits the marks, ascending, without harvesting. */
  marked(visit: (index: number) => void): void {
    if (this.#count === 0) return;
    for (let w = 0; w < this.#bits.length; w++) {
      for (let word = this.#bits[w]; word !== 0; word &= word - 1) {
        visit((w << 5) + 31 - Math.clz32(word & -word));
      }
    }
  }

  /** How many pages were written. */
  get count(): number {
    this.#harvest();
    return this.#count;
  }
  /** Visits their indexes in ascending order. */
  forEach(visit: (pageIndex: number) => void): void {
    this.#harvest();
    this.marked(visit);
  }
  /** Starts over from now. */
  clear(): void {
    this.#harvest();
    this.#bits.fill(0);
    this.#count = 0;
  }
  /** Stops collecting. */
  close(): void {
    this.#close(this);
  }
}

/** Copies, restores and hashes the pages of one executor. */
export class PageStore {
  readonly #state: PagedState;
  readonly #sets = new Set<DirtyPages>();
  /** Written since `#table` was taken. */
  readonly #unsaved: DirtyPages;
  /** Written since `#hashes` were computed. */
  readonly #unhashed: DirtyPages;
  #table: PageTable;
  readonly #hashes: Uint8Array;
  /** State pages as they were when their hashes were computed. */
  readonly #hashedState: (Uint8Array | undefined)[] = [];
  readonly #groupHashes: Uint8Array;
  /** 1 for a group of which a page hash changed since it was hashed. */
  readonly #staleGroups: Uint8Array;

  constructor(state: PagedState) {
    this.#state = state;
    this.#table = PageTable.zero(state.pageCount);
    // Nobody has harvested yet: what the executor has written since its RAM
    // was zero is marked (PagedState), so untouched RAM is never read.
    this.#unsaved = this.#makeSet();
    this.#unhashed = this.#makeSet();
    this.harvest();
    this.#hashes = new Uint8Array(32 * state.pageCount);
    this.#hashes.set(ZERO_PAGE.hash);
    for (let n = 32; n < this.#hashes.length; n *= 2) {
      this.#hashes.copyWithin(n, 0, n);
    }
    const ramPages = state.pageCount - state.statePages;
    const groups = Math.ceil(ramPages / GROUP_PAGES);
    this.#groupHashes = new Uint8Array(32 * groups);
    this.#staleGroups = new Uint8Array(groups).fill(1);
  }

  /** A new set that collects RAM pages written from now on. */
  track(): DirtyPages {
    this.harvest();
    return this.#makeSet();
  }

  #makeSet(): DirtyPages {
    const set = new DirtyPages(
      this.#state.pageCount,
      () => this.harvest(),
      (closed) => this.#sets.delete(closed),
    );
    this.#sets.add(set);
    return set;
  }

  /** Takes the executor's dirty marks into every set. */
  harvest(): void {
    this.#state.harvestDirty((index) => {
      for (const set of this.#sets) set.mark(index);
    });
  }

  /** The pages as they are, sharing what did not change. */
  capture(): PageTable {
    this.harvest();
    const state = this.#state;
    const changes: [number, Page][] = [];
    const take = (index: number) => {
      const bytes = state.page(index);
      const old = this.#table.page(index);
      if (isZeroPage(bytes)) {
        if (old !== ZERO_PAGE) changes.push([index, ZERO_PAGE]);
      } else if (old === ZERO_PAGE || !sameBytes(old.bytes, bytes)) {
        const hashed = index >= state.statePages &&
          !this.#unhashed.isMarked(index);
        const hash = hashed ? this.#hashOf(index).slice() : undefined;
        changes.push([index, new Page(bytes.slice(), hash)]);
      }
    };
    for (let i = 0; i < state.statePages; i++) take(i);
    this.#unsaved.marked(take);
    this.#unsaved.clear();
    this.#table = this.#table.with(changes);
    return this.#table;
  }

  /**
   * Overwrites every page that differs from `table`.
   * @throws StateError when the machine has another size
   */
  restore(table: PageTable): void {
    const state = this.#state;
    if (table.pageCount !== state.pageCount) {
      throw new StateError(
        `restore a keyframe: it has ${table.pageCount} pages, this machine ` +
          `${state.pageCount}, use the memory size of the recording`,
      );
    }
    this.harvest();
    const put = (index: number) => {
      const page = table.page(index);
      state.page(index).set(page.bytes);
      if (index < state.statePages) return;
      const known = page.knownHash;
      if (known !== undefined) this.#setHash(index, known);
      for (const set of this.#sets) {
        if (set === this.#unsaved) continue;
        if (set !== this.#unhashed || known === undefined) set.mark(index);
        else set.unmark(index);
      }
    };
    this.#table.differences(table, put);
    this.#unsaved.marked(put);
    for (let i = 0; i < state.statePages; i++) put(i);
    state.restored();
    this.#unsaved.clear();
    this.#table = table;
  }

  #hashOf(index: number): Uint8Array {
    return this.#hashes.subarray(32 * index, 32 * index + 32);
  }

  #setHash(index: number, hash: Uint8Array): void {
    this.#hashOf(index).set(hash);
    const group = Math.floor((index - this.#state.statePages) / GROUP_PAGES);
    if (group >= 0) this.#staleGroups[group] = 1;
  }

  #rehash(index: number): void {
    const bytes = this.#state.page(index);
    this.#setHash(index, isZeroPage(bytes) ? ZERO_PAGE.hash : sha256(bytes));
  }

  /** A RAM page's hash, once for digests and keyframes where both have it. */
  #rehashRam(index: number): void {
    if (this.#unsaved.isMarked(index)) this.#rehash(index);
    else this.#setHash(index, this.#table.page(index).hash);
  }

  /** SHA-256 over the hashes of the state pages. */
  stateDigest(): Uint8Array {
    this.harvest();
    const n = this.#state.statePages;
    for (let i = 0; i < n; i++) {
      const bytes = this.#state.page(i);
      const known = this.#hashedState[i];
      if (known !== undefined && sameBytes(known, bytes)) continue;
      if (known === undefined) this.#hashedState[i] = bytes.slice();
      else known.set(bytes);
      this.#rehash(i);
    }
    return sha256(this.#hashes.subarray(0, 32 * n));
  }

  /** SHA-256 over the hashes of groups of 512 RAM pages. */
  ramDigest(): Uint8Array {
    this.harvest();
    this.#unhashed.marked((index) => this.#rehashRam(index));
    this.#unhashed.clear();
    const { statePages, pageCount } = this.#state;
    for (let group = 0; group < this.#staleGroups.length; group++) {
      if (this.#staleGroups[group] === 0) continue;
      this.#staleGroups[group] = 0;
      const from = statePages + group * GROUP_PAGES;
      const to = Math.min(from + GROUP_PAGES, pageCount);
      this.#groupHashes.set(
        sha256(this.#hashes.subarray(32 * from, 32 * to)),
        32 * group,
      );
    }
    return sha256(this.#groupHashes);
  }
}
