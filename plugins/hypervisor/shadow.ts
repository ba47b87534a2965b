/**
 * Shadow hierarchies: what hardware walks for L2 in the place of L1's EPT, one
 * root for each (L1 EPT pointer, L1's MBEC setting, view). Filled lazily, 4-KiB
 * leaves only; dropped by L1's INVEPT or when L0's memory runs out.
 */
import type { PhysicalMemory } from "../../cpu/physical.ts";
import type { PagePool } from "./memory.ts";
import { freeTables, mapPage, unmapPage } from "./tables.ts";

/** One set of hierarchies. */
export interface ShadowSet {
  /** L1's EPT pointer; bit 3 of the reserved low bits marks MBEC. */
  readonly key: bigint;
  /** Physical address of each view's root table. */
  readonly roots: readonly number[];
}

/** Cell that lists the sets, oldest first. */
export interface ShadowList {
  readonly length: number;
  push(set: ShadowSet): void;
  clear(): void;
  [Symbol.iterator](): Iterator<ShadowSet>;
}

/** Marks the key of a hierarchy whose L1 uses mode-based execute control. */
const MBEC_KEY = 1n << 11n;
/** Write-back, four levels, no accessed and dirty flags. */
const EPTP_BITS = 0x1en;

/** EPT pointer value for a root table. */
export function eptpOf(root: number): bigint {
  return BigInt(root) | EPTP_BITS;
}

/** Shadow hierarchies of one vCPU. */
export class ShadowTables {
  constructor(
    private readonly physical: PhysicalMemory,
    private readonly pool: PagePool,
    private readonly list: ShadowList,
    private readonly views: () => number,
  ) {}

  /** Roots for an EPT pointer of L1, made empty when there are none. */
  roots(eptp12: bigint, mbec: boolean): readonly number[] | undefined {
    const key = eptp12 & ~0xfffn | (mbec ? MBEC_KEY : 0n);
    for (const set of this.list) if (set.key === key) return set.roots;
    const roots: number[] = [];
    for (let view = 0; view < this.views(); view++) {
      const root = this.pool.take();
      if (root === undefined) return undefined;
      roots.push(root);
    }
    this.list.push({ key, roots });
    return roots;
  }

  /** Makes a leaf. @returns false when memory ran out */
  map(root: number, guestPage: number, page: number, bits: number): boolean {
    // Tables allow everything, bit 10 included, so that leaves alone decide.
    return mapPage(
      this.physical,
      this.pool,
      root,
      guestPage,
      page,
      bits,
      1,
      0x407,
    );
  }

  unmap(roots: readonly number[], guestPage: number): void {
    for (const root of roots) unmapPage(this.physical, root, guestPage);
  }

  /** Drops the hierarchies of one EPT pointer, or all for 0n. @returns the roots dropped */
  drop(eptp12: bigint): number[] {
    const kept: ShadowSet[] = [];
    const dropped: number[] = [];
    for (const set of this.list) {
      if (eptp12 === 0n || set.key >> 12n === eptp12 >> 12n) {
        for (const root of set.roots) {
          freeTables(this.physical, this.pool, root);
          dropped.push(root);
        }
      } else kept.push(set);
    }
    this.list.clear();
    for (const set of kept) this.list.push(set);
    return dropped;
  }
}
