/** L0's reading of L1's EPT (SDM 3C §29.3.2–29.3.3) and the tables it makes. */
import { assertEquals } from "@std/assert";
import { beforeEach, describe, it } from "@std/testing/bdd";
import { type L0Rig, makeL0Rig } from "./l0_rig.ts";
import { Ept, freeTables, mapPage, unmapPage, walkPolicy } from "./tables.ts";

const { R, W, X, XU } = Ept;
const ROOT = 0x1000;
const PDPT = 0x2000;
const PD = 0x3000;
const PT = 0x4000;
const PAGE = 5;
const ALL = R | W | X | XU;
const WB = Ept.WriteBack;

let rig: L0Rig;
beforeEach(() => {
  rig = makeL0Rig(16);
  const { physical } = rig;
  physical.writeU32(ROOT, PDPT | ALL);
  physical.writeU32(PDPT, PD | ALL);
  physical.writeU32(PD, PT | ALL);
});

function leaf(bits: number): void {
  rig.physical.writeU32(PT + PAGE * 8, 0x7000 | bits);
}

function walk(mbec = true, executeOnly = true): string {
  const found = walkPolicy(rig.physical, BigInt(ROOT) | 0x1en, PAGE, {
    mbec,
    executeOnly,
    pages: 2 ** 20,
  });
  if (found.kind !== "mapped") return found.kind;
  const names = [["R", R], ["W", W], ["XS", X], ["XU", XU]] as const;
  return names.filter(([, bit]) => found.entry.rights & bit)
    .map(([name]) => name).join(" ");
}

describe("presence and misconfiguration of L1's entries (reference §3.3)", () => {
  const table: [string, number, string, string, string][] = [
    // rights, entry, MBEC, MBEC without execute-only, no MBEC
    ["none", 0, "absent", "absent", "absent"],
    ["W", W, "misconfigured", "misconfigured", "misconfigured"],
    ["W XS", W | X, "misconfigured", "misconfigured", "misconfigured"],
    ["XS", X, "XS", "misconfigured", "XS XU"],
    ["XU", XU, "XU", "misconfigured", "absent"],
    ["XS XU", X | XU, "XS XU", "misconfigured", "XS XU"],
    ["R", R, "R", "R", "R"],
    ["R XU", R | XU, "R XU", "R XU", "R"],
    ["R W XS", R | W | X, "R W XS", "R W XS", "R W XS XU"],
    ["all", ALL, "R W XS XU", "R W XS XU", "R W XS XU"],
  ];
  for (const [name, bits, mbec, noExecuteOnly, plain] of table) {
    it(name, () => {
      leaf(bits === 0 ? WB : bits | WB);
      assertEquals([walk(), walk(true, false), walk(false)], [
        mbec,
        noExecuteOnly,
        plain,
      ]);
    });
  }
  for (const type of [2, 3, 7]) {
    it(`memory type ${type}`, () => {
      leaf(R | type << 3);
      assertEquals(walk(), "misconfigured");
    });
  }
  it("an address beyond the physical-address width", () => {
    leaf(R | WB);
    rig.physical.writeU32(PT + PAGE * 8 + 4, 1);
    assertEquals(walk(), "misconfigured");
  });
  it("reserved bits 6:3 above the leaf, and a leaf bit in a PML4E", () => {
    leaf(R | WB);
    rig.physical.writeU32(PD, PT | ALL | 8);
    assertEquals(walk(), "misconfigured");
    rig.physical.writeU32(PD, PT | ALL);
    rig.physical.writeU32(ROOT, PDPT | ALL | Ept.Leaf);
    assertEquals(walk(), "misconfigured");
  });
  it("a misaligned large page", () => {
    rig.physical.writeU32(PD, 0x1000 | ALL | WB | Ept.Leaf);
    assertEquals(walk(), "misconfigured");
  });
});

describe("rights of L1's policy", () => {
  it("are those of all levels together, XS and XU apart", () => {
    leaf(ALL | WB);
    rig.physical.writeU32(PD, PT | R | W | XU);
    assertEquals(walk(), "R W XU");
    rig.physical.writeU32(PDPT, PD | R | X);
    assertEquals(walk(), "R");
  });
  it("of a large page hold for each page in it", () => {
    rig.physical.writeU32(PD, 0x200000 | R | XU | WB | Ept.Leaf);
    const found = walkPolicy(rig.physical, BigInt(ROOT), PAGE, {
      mbec: true,
      executeOnly: true,
      pages: 2 ** 20,
    });
    assertEquals(found, {
      kind: "mapped",
      entry: {
        rights: R | XU,
        page: 0x200 + PAGE,
        memoryType: WB,
        sizeShift: 9,
      },
    });
  });
});

describe("tables of L0's own", () => {
  const format = { mbec: true, executeOnly: true, pages: 2 ** 20 };
  it("map, unmap, and go back to the pool", () => {
    const { physical, pool } = rig;
    const root = pool.take()!;
    const before = pool.left;
    for (const page of [7, 8, 512]) {
      const ok = mapPage(
        physical,
        pool,
        root,
        page,
        page + 1,
        R | X | WB,
        1,
        ALL,
      );
      assertEquals(ok, true);
    }
    const pageOf = (page: number): number | undefined => {
      const found = walkPolicy(physical, BigInt(root), page, format);
      return found.kind === "mapped" ? found.entry.page : undefined;
    };
    assertEquals([pageOf(7), pageOf(8), pageOf(512)], [8, 9, 513]);
    unmapPage(physical, root, 7);
    unmapPage(physical, root, 2 ** 30);
    assertEquals([pageOf(7), pageOf(8)], [undefined, 9]);
    freeTables(physical, pool, root);
    assertEquals(pool.left, before + 1);
  });
  it("say when the pool is empty", () => {
    const { physical, pool } = makeL0Rig(3);
    const root = pool.take()!;
    assertEquals(mapPage(physical, pool, root, 1, 1, R), false);
  });
});
