/** L0's software walk of guest paging, in each format (SDM 3A §4.3–4.5). */
import { assertEquals } from "@std/assert";
import { beforeEach, describe, it } from "@std/testing/bdd";
import { Cr0, Cr4, Efer } from "../../cpu/arch/flags.ts";
import { translateLinear, type Translation } from "./guest_memory.ts";
import { type L0Rig, makeL0Rig } from "./l0_rig.ts";

const ON = (Cr0.PE | Cr0.PG) >>> 0;
const P = 1;
const W = 2;
const U = 4;
const PS = 0x80;

let rig: L0Rig;
beforeEach(() => {
  rig = makeL0Rig(1);
});

function put(address: number, value: bigint): void {
  rig.physical.writeU64(address, value);
}

function walk(
  state: { cr4: number; efer: number; cr0?: number; cr3?: number },
  linear: number,
  mark = { accessed: false, dirty: false },
): Translation | undefined {
  return translateLinear(
    rig.physical,
    { cr0: ON, cr3: 0x1000, ...state },
    linear >>> 12,
    (page) => page === 0x3f ? undefined : page,
    mark,
  );
}

const LONG = { cr4: Cr4.PAE, efer: Efer.LMA };
const PAE = { cr4: Cr4.PAE, efer: 0 };
const PLAIN = { cr4: Cr4.PSE, efer: 0 };

describe("a linear page translates", () => {
  it("to itself without paging, as a user-mode address", () => {
    assertEquals(walk({ ...LONG, cr0: 1 }, 0x5000), {
      guestPage: 5,
      user: true,
      executeDisable: false,
    });
  });
  it("through four levels; user-mode only if all entries say so", () => {
    put(0x1000, BigInt(0x2000 | P | U));
    put(0x2000, BigInt(0x3000 | P | U));
    put(0x3000, BigInt(0x4000 | P | U));
    put(0x4000 + 5 * 8, BigInt(0x9000 | P | U));
    assertEquals(walk(LONG, 0x5000)?.user, true);
    assertEquals(walk(LONG, 0x5000)?.guestPage, 9);
    for (const at of [0x1000, 0x2000, 0x3000, 0x4028]) {
      const old = rig.physical.readU64(at);
      put(at, old & ~BigInt(U));
      assertEquals(walk(LONG, 0x5000)?.user, false);
      put(at, old);
    }
    put(0x3000, BigInt(0x4000 | P | U) | 1n << 63n);
    assertEquals(walk(LONG, 0x5000)?.executeDisable, true);
  });
  it("through a 2-MiB page", () => {
    put(0x1000, BigInt(0x2000 | P));
    put(0x2000, BigInt(0x3000 | P));
    put(0x3000 + 8, BigInt(0x40_0000 | P | PS));
    assertEquals(walk(LONG, 0x20_5000)?.guestPage, 0x405);
  });
  it("through PAE; a PDPTE has no U/S", () => {
    put(0x1020, BigInt(0x2000 | P));
    put(0x2000, BigInt(0x3000 | P | U));
    put(0x3000 + 5 * 8, BigInt(0x9000 | P | U));
    assertEquals(walk({ ...PAE, cr3: 0x1020 }, 0x5000), {
      guestPage: 9,
      user: true,
      executeDisable: false,
    });
  });
  it("through 32-bit paging and 4-MiB pages above 4 GiB", () => {
    rig.physical.writeU32(0x1000, 0x2000 | P | U);
    rig.physical.writeU32(0x2000 + 5 * 4, 0x9000 | P | U);
    assertEquals(walk(PLAIN, 0x5000)?.guestPage, 9);
    rig.physical.writeU32(0x1000 + 4, 0x40_0000 | 3 << 13 | P | PS);
    assertEquals(walk(PLAIN, 0x40_5000)?.guestPage, 3 * 2 ** 20 + 0x405);
  });
  it("nowhere through an absent entry or a table that isn't there", () => {
    assertEquals(walk(LONG, 0x5000), undefined);
    put(0x1000, BigInt(0x3f000 | P));
    assertEquals(walk(LONG, 0x5000), undefined);
  });
});

describe("accessed and dirty flags", () => {
  it("are set only where asked, dirty only in the leaf", () => {
    put(0x1000, BigInt(0x2000 | P | W));
    put(0x2000, BigInt(0x3000 | P | W));
    put(0x3000, BigInt(0x4000 | P | W));
    put(0x4000, BigInt(0x9000 | P | W));
    const entries = [0x1000, 0x2000, 0x3000, 0x4000];
    const flags = (): number[] =>
      entries.map((at) => rig.physical.readU32(at) & 0x60);
    walk(LONG, 0);
    assertEquals(flags(), [0, 0, 0, 0]);
    walk(LONG, 0, { accessed: true, dirty: true });
    assertEquals(flags(), [0x20, 0x20, 0x20, 0x60]);
  });
});
