/** Shadow hierarchies: one root for each L1 pointer, MBEC setting and view. */
import { assert, assertEquals, assertNotEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { type L0Rig, makeL0Rig } from "./l0_rig.ts";
import { eptpOf, type ShadowSet, ShadowTables } from "./shadow.ts";
import { Ept } from "./tables.ts";

const EPTP = 0x5000_001en;
const OTHER = 0x6000_001en;

function tables(rig: L0Rig, views = 2): {
  shadows: ShadowTables;
  list: ShadowSet[];
} {
  const list: ShadowSet[] = [];
  const cell = Object.assign(list, {
    clear: () => void list.splice(0),
  });
  const shadows = new ShadowTables(rig.physical, rig.pool, cell, () => views);
  return { shadows, list };
}

/** The leaf entry for a page in a hierarchy of 4-KiB leaves. */
function leafAt({ physical }: L0Rig, root: number, page: number): number {
  let table = root;
  for (let level = 4; level > 1; level--) {
    const index = Math.floor(page / 2 ** (9 * (level - 1))) & 511;
    const low = physical.readU32(table + index * 8);
    if (!(low & Ept.R)) return 0;
    table = low & ~0xfff;
  }
  return physical.readU32(table + (page & 511) * 8);
}

describe("shadow hierarchies", () => {
  it("have a root of their own for each view, kept while in use", () => {
    const { shadows } = tables(makeL0Rig(32));
    const roots = shadows.roots(EPTP, true)!;
    assertEquals(roots.length, 2);
    assertNotEquals(roots[0], roots[1]);
    assertEquals(shadows.roots(EPTP, true), roots);
  });
  it("are others for another pointer, and with MBEC off", () => {
    const { shadows } = tables(makeL0Rig(32));
    const all = [
      shadows.roots(EPTP, true)!,
      shadows.roots(EPTP, false)!,
      shadows.roots(OTHER, true)!,
    ].flat();
    assertEquals(new Set(all).size, 6);
  });
  it("don't care about a pointer's low bits", () => {
    const { shadows } = tables(makeL0Rig(32));
    const roots = shadows.roots(EPTP, true);
    assertEquals(shadows.roots(EPTP ^ 6n, true), roots);
  });
  it("let the leaf alone decide: tables allow everything", () => {
    const rig = makeL0Rig(32);
    const { shadows } = tables(rig);
    const [user, supervisor] = shadows.roots(EPTP, true)!;
    assert(shadows.map(user, 9, 21, Ept.R | Ept.WriteBack));
    assertEquals(leafAt(rig, user, 9), 21 * 4096 | Ept.R | Ept.WriteBack);
    assertEquals(leafAt(rig, supervisor, 9), 0);
    assertEquals(rig.physical.readU32(user) & 0x407, 0x407);
  });
  it("forget a page in every view", () => {
    const rig = makeL0Rig(32);
    const { shadows } = tables(rig);
    const roots = shadows.roots(EPTP, true)!;
    for (const root of roots) shadows.map(root, 9, 21, Ept.R);
    shadows.unmap(roots, 9);
    assertEquals(roots.map((root) => leafAt(rig, root, 9)), [0, 0]);
  });
  it("drop one pointer's sets, whatever their MBEC setting, or all", () => {
    const rig = makeL0Rig(64);
    const { shadows, list } = tables(rig);
    const before = rig.pool.left;
    const gone = [
      ...shadows.roots(EPTP, true)!,
      ...shadows.roots(EPTP, false)!,
    ];
    const kept = shadows.roots(OTHER, true)!;
    shadows.map(gone[0], 9, 21, Ept.R);
    assertEquals(shadows.drop(EPTP), gone);
    assertEquals(list.map((set) => set.roots), [kept]);
    assertEquals(shadows.drop(0n), [...kept]);
    assertEquals(rig.pool.left, before);
  });
  it("say when memory ran out, and work again after a drop", () => {
    const rig = makeL0Rig(3);
    const { shadows } = tables(rig);
    const [root] = shadows.roots(EPTP, true)!;
    assertEquals(shadows.map(root, 1, 1, Ept.R), false);
    assertEquals(shadows.roots(OTHER, true), undefined);
    shadows.drop(0n);
    assert(shadows.roots(OTHER, true) !== undefined);
  });
  it("get zeroed pages, also used ones", () => {
    const rig = makeL0Rig(8);
    const { shadows } = tables(rig);
    const [root] = shadows.roots(EPTP, true)!;
    shadows.map(root, 9, 21, Ept.R);
    shadows.drop(0n);
    for (const root of shadows.roots(EPTP, true)!) {
      assertEquals(leafAt(rig, root, 9), 0);
    }
  });
});

describe("an EPT pointer", () => {
  it("is write-back, four levels, without accessed and dirty flags", () => {
    assertEquals(eptpOf(0x1234000), 0x123401en);
  });
});
