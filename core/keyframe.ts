/**
 * Keyframes: complete state at a step boundary. Pages are immutable and shared
 * between keyframes through a two-level table of groups, so that a keyframe
 * costs what changed since the previous one; a zero page is one shared object.
 * Observers' cells travel apart from the machine's.
 */
import { hash } from "node:crypto";
import { PAGE_SIZE } from "./executor.ts";

/** Pages in one group of the two-level table (and of the RAM digest). */
export const GROUP_PAGES = 512;

/** One immutable page; its hash is computed when first asked for. */
export class Page {
  #hash: Uint8Array | undefined;
  /** Takes over 4 KiB that never change; `hash` when known. */
  constructor(readonly bytes: Uint8Array, hash?: Uint8Array) {
    this.#hash = hash;
  }
  /** SHA-256 of the bytes, if it has been computed. */
  get knownHash(): Uint8Array | undefined {
    return this.#hash;
  }
  /** SHA-256 of the bytes. */
  get hash(): Uint8Array {
    return this.#hash ??= sha256(this.bytes);
  }
}

/** SHA-256 of `bytes`, 32 bytes. (Digits and back cost less than a Buffer.) */
export function sha256(bytes: Uint8Array): Uint8Array {
  return Uint8Array.fromHex(hash("sha256", bytes));
}

/** The page of zeros: tables hold this very object for zero pages. */
export const ZERO_PAGE: Page = new Page(new Uint8Array(PAGE_SIZE));

/** True when all 4 KiB are zero. */
export function isZeroPage(bytes: Uint8Array): boolean {
  if ((bytes.byteOffset & 7) !== 0) return bytes.every((byte) => byte === 0);
  const words = new Int32Array(
    bytes.buffer,
    bytes.byteOffset,
    bytes.length >>> 2,
  );
  for (let i = 0; i < words.length; i++) if (words[i] !== 0) return false;
  return true;
}

/** Groups of zero pages are this one object, so comparing tables skips them. */
const ZERO_GROUP: readonly Page[] = new Array(GROUP_PAGES).fill(ZERO_PAGE);

/** An immutable map from page index to page, sharing unchanged groups. */
export class PageTable {
  private constructor(
    readonly pageCount: number,
    readonly groups: readonly (readonly Page[])[],
  ) {}

  /** A table of zero pages. */
  static zero(pageCount: number): PageTable {
    const groups: (readonly Page[])[] = [];
    for (let at = 0; at < pageCount; at += GROUP_PAGES) {
      const rest = pageCount - at;
      groups.push(rest < GROUP_PAGES ? ZERO_GROUP.slice(0, rest) : ZERO_GROUP);
    }
    return new PageTable(pageCount, groups);
  }

  /** The page at `index`. */
  page(index: number): Page {
    return this.groups[Math.floor(index / GROUP_PAGES)][index % GROUP_PAGES];
  }

  /** A table with these pages replaced; groups without changes are shared. */
  with(changes: Iterable<readonly [index: number, page: Page]>): PageTable {
    const groups = [...this.groups];
    const own = new Map<number, Page[]>();
    for (const [index, page] of changes) {
      if (!(index >= 0 && index < this.pageCount)) {
        throw new RangeError(
          `replace page ${index}: the state has ${this.pageCount} pages`,
        );
      }
      const g = Math.floor(index / GROUP_PAGES);
      let group = own.get(g);
      if (group === undefined) {
        group = [...groups[g]];
        own.set(g, group);
        groups[g] = group;
      }
      group[index % GROUP_PAGES] = page;
    }
    return own.size === 0 ? this : new PageTable(this.pageCount, groups);
  }

  /** Visits, in ascending order, indexes whose page object differs. */
  differences(
    other: PageTable,
    visit: (index: number, mine: Page, theirs: Page) => void,
  ): void {
    for (let g = 0; g < this.groups.length; g++) {
      const mine = this.groups[g];
      const theirs = other.groups[g];
      if (mine === theirs) continue;
      for (let i = 0; i < mine.length; i++) {
        if (mine[i] !== theirs[i]) {
          visit(g * GROUP_PAGES + i, mine[i], theirs[i]);
        }
      }
    }
  }
}

/** The encoded cells of one plugin. */
export interface CellBlob {
  /** The plugin's name. */
  readonly plugin: string;
  /** Its version when encoded. */
  readonly version: string;
  /** Layout of the cells: another layout is refused. */
  readonly signature: string;
  /** Its cells, encoded. */
  readonly bytes: Uint8Array;
}

/** Complete state at a step boundary. */
export interface Keyframe {
  /** Steps completed. */
  readonly step: number;
  /** Virtual time, ns. */
  readonly time: number;
  /** State pages and RAM. */
  readonly pages: PageTable;
  /** Timers, stop flag, random streams. */
  readonly kernel: Uint8Array;
  /** Participants' cells in load order. */
  readonly cells: readonly CellBlob[];
  /** Observers' cells and streams; not part of the machine's state. */
  readonly observers: readonly CellBlob[];
}
