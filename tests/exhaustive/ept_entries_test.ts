/**
 * EPT misconfigurations, every condition of SDM 3C §29.3.3.1 (reference §3.3)
 * with every value of its bits; guest page-table pages under EPT with and
 * without A/D flags (reference §3.4, second table); the A and D flags of EPT
 * entries (§29.3.5); PDPTE loads.
 */
import { assertEquals } from "@std/assert";
import { VCPU } from "../../cpu/layout.ts";
import {
  Access,
  E,
  EptRig,
  FULL,
  GUEST,
  LEAVES,
  LINEAR,
  TARGET,
  textOf,
} from "./ept_setup.ts";

Deno.test("R, W, XS, XU: every combination of an entry, both capabilities", () => {
  for (const mbec of [true, false]) {
    for (const executeOnly of [true, false]) {
      const m = new EptRig({ mbec, executeOnly });
      for (const leaf of LEAVES) {
        for (let level = leaf; level <= 4; level++) {
          for (let n = 0; n < 16; n++) {
            m.reset(leaf);
            const bits = (n & 1 ? E.R : 0n) | (n & 2 ? E.W : 0n) |
              (n & 4 ? E.XS : 0n) | (n & 8 ? E.XU : 0n);
            m.rights(level, bits);
            const x = (n & 4) !== 0 || (mbec && (n & 8) !== 0);
            const present = (n & 3) !== 0 || x;
            const mis = present && !(n & 1) &&
              ((n & 2) !== 0 || (x && !executeOnly));
            for (
              const access of [Access.Read, Access.Write, Access.Fetch]
            ) {
              const text = textOf(m.access(access));
              assertEquals(text === "misconfig", mis, `${n} ${text}`);
            }
            if (!present) assertEquals(textOf(m.access(Access.Read)), "181");
          }
        }
      }
    }
  }
});

/** Bits of a present entry that spoil it, by level of the entry and the leaf. */
function spoils(
  bit: number,
  level: number,
  leaf: number,
  phys: number,
): boolean {
  if (bit >= phys && bit <= 51) return true;
  if (level > leaf) {
    return (bit >= 3 && bit <= 6) || (level === 4 && bit === 7);
  }
  // Address bits below a large page.
  return bit >= 12 && bit < 12 + 9 * (level - 1);
}

Deno.test("reserved bits: every bit of every entry, absent and present", () => {
  for (const model of ["", ",phys-bits=36", ",phys-bits=44"]) {
    const phys = model === "" ? 40 : Number(model.slice(-2));
    const m = new EptRig({ model });
    for (const leaf of LEAVES) {
      for (let level = leaf; level <= 4; level++) {
        for (let bit = 3; bit < 64; bit++) {
          m.reset(leaf);
          // Bit 7 makes another kind of entry below level 4.
          if (bit === 10 || (bit === 7 && level < 4)) continue;
          // Memory types are their own test.
          if (level === leaf && bit >= 3 && bit <= 5) continue;
          const linear = phys < 40 ? 0x5123n : LINEAR;
          // A 36-bit guest can't reach the target: its identity path then.
          const at = phys < 40
            ? [0, m.tablePage(0x5000), 0x102000, 0x101000, 0x100000][level]
            : m.at(level);
          if (phys < 40) {
            if (leaf > 1) continue;
            m.rig.v.cr0 = 1;
            m.rig.v.efer = 0;
          }
          const entry = m.rig.get(at);
          m.rig.put(at, entry | 1n << BigInt(bit));
          const bad = spoils(bit, level, leaf, phys);
          const o = m.access(Access.Read, 0, linear);
          const about = `bit ${bit} level ${level} leaf ${leaf} ${model}`;
          if (bad) {
            assertEquals(textOf(o), "misconfig", about);
            assertEquals(o.stage2?.qualification, 0n);
            assertEquals(
              o.stage2?.guestPhysicalAddress,
              phys < 40 ? 0x5123 : TARGET + 0x123,
            );
          } else if (bit >= 12 && bit < phys) {
            // An address elsewhere: tables there read as ones, a leaf is fine.
            if (level === leaf) assertEquals(textOf(o), "ok", about);
          } else assertEquals(textOf(o), "ok", about);
          // Not present: all other bits are ignored.
          m.rig.put(at, (entry | 1n << BigInt(bit)) & ~FULL);
          assertEquals(
            textOf(m.access(Access.Read, 0, linear)),
            "181",
            about,
          );
        }
      }
    }
  }
});

Deno.test("memory types of a leaf: 2, 3 and 7 are misconfigured", () => {
  const m = new EptRig();
  for (const leaf of LEAVES) {
    m.reset(leaf);
    const entry = m.rig.get(m.at(leaf)) & ~0x38n;
    for (let type = 0; type < 8; type++) {
      for (const ignorePat of [0n, 0x40n]) {
        m.rig.put(m.at(leaf), entry | BigInt(type) << 3n | ignorePat);
        assertEquals(
          textOf(m.access(Access.Read)),
          type === 2 || type === 3 || type === 7 ? "misconfig" : "ok",
        );
      }
    }
  }
});

Deno.test("page sizes that the model lacks: bit 7 is reserved", () => {
  for (const [leaf, flag] of [[2, "2mb"], [3, "1gb"]] as const) {
    const m = new EptRig({ model: `,-vmx-ept-${flag}` });
    m.reset(leaf);
    assertEquals(textOf(m.access(Access.Read)), "misconfig");
    m.reset(leaf === 2 ? 3 : 2);
    assertEquals(textOf(m.access(Access.Read)), "ok");
  }
});

Deno.test("a misconfigured entry counts before rights, after presence above it", () => {
  const m = new EptRig();
  m.rights(1, E.W);
  m.rights(2, E.XS);
  assertEquals(textOf(m.access(Access.Read)), "misconfig");
  m.rights(2, 0n);
  assertEquals(textOf(m.access(Access.Read)), "181");
});

/** EPT rights on the page of a guest table: qualification of AD = 0 and 1. */
const TABLE_PAGES: readonly [bigint, string, string][] = [
  [0n, "81", "83"],
  [E.R, "8B", "8B"],
  [E.R | E.XS, "AB", "AB"],
  [E.R | E.XU, "CB", "CB"],
  [E.R | E.XS | E.XU, "EB", "EB"],
  [E.R | E.W, "ok", "ok"],
  [FULL, "ok", "ok"],
];

Deno.test("guest page-table pages: every level, rights, A/D of EPTP, flag state", () => {
  for (const ad of [false, true]) {
    for (let level = 4; level >= 1; level--) {
      for (const [bits, plain, tracked] of TABLE_PAGES) {
        for (const accessed of [false, true]) {
          for (const dirty of [false, true]) {
            for (const write of [false, true]) {
              const m = new EptRig({ ad });
              m.rig.put(
                m.tablePage(GUEST[level]),
                BigInt(GUEST[level]) | E.WB | bits,
              );
              const entry = m.rig.get(m.guestAt(level));
              const flags = (accessed ? 0x20n : 0n) | (dirty ? 0x40n : 0n);
              m.guest(level, entry & ~0x60n | flags);
              const update = !accessed || (level === 1 && write && !dirty);
              const due = bits === 0n
                ? ad ? tracked : plain
                : ad
                ? tracked
                : update
                ? plain
                : "ok";
              const o = m.access(write ? Access.Write : Access.Read);
              const about = `AD ${ad} level ${level} rights ${bits} ` +
                `A ${accessed} D ${dirty} write ${write}`;
              assertEquals(textOf(o), due, about);
              if (due !== "ok") {
                // The entry's own guest-physical address, and the linear one.
                assertEquals(
                  o.stage2?.guestPhysicalAddress,
                  m.guestAt(level),
                );
                assertEquals(o.stage2?.guestLinearAddress, LINEAR);
                assertEquals(m.rig.get(m.guestAt(level)) & 0x60n, flags);
              } else {
                const d = dirty || (level === 1 && write);
                assertEquals(
                  m.rig.get(m.guestAt(level)) & 0x60n,
                  0x20n | (d ? 0x40n : 0n),
                );
              }
            }
          }
        }
      }
    }
  }
});

Deno.test("EPT A on every level used, D on the leaf of a write; none without EPTP bit 6", () => {
  for (const ad of [false, true]) {
    for (const leaf of LEAVES) {
      for (const access of [Access.Read, Access.Write, Access.Fetch]) {
        const m = new EptRig({ ad });
        m.reset(leaf);
        const before = [1, 2, 3, 4].map((l) => m.rig.get(m.at(l)));
        assertEquals(textOf(m.access(access)), "ok");
        for (let level = 4; level >= leaf; level--) {
          const d = level === leaf && access === Access.Write;
          assertEquals(
            m.rig.get(m.at(level)),
            before[level - 1] | (ad ? E.A | (d ? E.D : 0n) : 0n),
            `level ${level} leaf ${leaf}`,
          );
        }
        // Pages of guest tables: walks count as writes (§29.3.5).
        for (let level = 4; level >= 1; level--) {
          assertEquals(
            m.rig.get(m.tablePage(GUEST[level])) & (E.A | E.D),
            ad ? E.A | E.D : 0n,
          );
        }
        for (const at of [0x100000, 0x101000, 0x102000]) {
          assertEquals(m.rig.get(at) & (E.A | E.D), ad ? E.A : 0n);
        }
      }
    }
  }
});

Deno.test("EPT D follows on the first store after a load, not later", () => {
  const m = new EptRig({ ad: true });
  m.access(Access.Read);
  const clean = m.rig.get(m.at(1));
  assertEquals(clean & E.D, 0n);
  assertEquals(m.rig.translate(LINEAR, Access.Write).frame, m.host);
  assertEquals(m.rig.get(m.at(1)), clean | E.D);
  // Cached as dirty now: software's clearing is seen only after INVEPT.
  m.rig.put(m.at(1), clean);
  m.rig.translate(LINEAR, Access.Write);
  assertEquals(m.rig.get(m.at(1)), clean);
  m.access(Access.Write);
  assertEquals(m.rig.get(m.at(1)), clean | E.D);
});

Deno.test("a violation sets no EPT flag", () => {
  const m = new EptRig({ ad: true });
  m.rights(1, E.R);
  const before = [1, 2, 3, 4].map((l) => m.rig.get(m.at(l)));
  assertEquals(textOf(m.access(Access.Write)), "18A");
  assertEquals([1, 2, 3, 4].map((l) => m.rig.get(m.at(l))), before);
});

Deno.test("PDPTE loads: plain reads, no linear address, A but not D", () => {
  for (const ad of [false, true]) {
    const m = new EptRig({ ad });
    const { rig } = m;
    const page = m.tablePage(0x5000);
    rig.put(0x5020, 0x22001n);
    rig.put(page, 0x5000n | E.WB | E.R);
    assertEquals(rig.mmu.loadPdptes(rig.cpu, 0x5020), true);
    assertEquals(rig.v.pdpte(0), 0x22001n);
    assertEquals(rig.get(page) & (E.A | E.D), ad ? E.A : 0n);
    rig.put(page, 0n);
    assertEquals(rig.mmu.loadPdptes(rig.cpu, 0x5020), false);
    assertEquals(rig.v.stage2?.qualification, 1n);
    assertEquals(rig.v.stage2?.guestPhysicalAddress, 0x5020);
    rig.put(page, 0x5000n | E.WB | E.W);
    assertEquals(rig.mmu.loadPdptes(rig.cpu, 0x5020), false);
    assertEquals(rig.v.stage2?.misconfiguration, true);
  }
});

Deno.test("an EPT root at physical page 0 is a root", () => {
  const m = new EptRig();
  const { rig } = m;
  rig.put(0, 0x101000n | FULL);
  rig.v.setQuad(VCPU.stage2Root, 0n);
  rig.v.cr0 = 1;
  rig.v.efer = 0;
  rig.put(m.tablePage(0x5000), 0x9000n | E.WB | FULL);
  assertEquals(m.access(Access.Read, 0, 0x5000n).frame, 9);
});
