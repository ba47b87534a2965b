/**
 * What an entry means, by counter: every kind of entry (absent, present, PS, G,
 * each class of reserved or ignored bit) at every level of every paging mode,
 * in all combinations, times NXE, CR4.PSE, PSE-36, 1-GByte pages, MAXPHYADDR
 * (SDM 3A §4.3–4.5). Then CR4.PGE and the attributes of a mapping, and the
 * PDPTE loads of PAE paging (§4.4.1).
 */
import { assert, assertEquals } from "@std/assert";
import { Access } from "../../cpu/port.ts";
import { Attribute } from "../../plugins/mmu/formats.ts";
import { type Mode, MODES } from "./paging_oracle.ts";
import { MmuRig } from "./mmu_rig.ts";
import { CASES, Chain, controlsOf } from "./paging_setup.ts";

/** Bits or-ed into a supervisor read/write entry that would be in order. */
const KINDS_64: readonly bigint[] = [
  0n,
  0x80n, // PS / PAT
  0x80n | 1n << 12n, // PAT of a large page
  0x80n | 1n << 13n, // reserved in every large page
  0x80n | 1n << 20n,
  0x80n | 1n << 21n | 0x1000n, // reserved in 1-GByte pages only
  0x80n | 1n << 29n,
  0x180n, // G with PS
  0x100n, // G without
  1n << 32n,
  1n << 36n, // MAXPHYADDR of a small model
  1n << 39n,
  1n << 40n, // MAXPHYADDR of our models
  1n << 51n,
  1n << 52n, // ignored, except by PAE paging
  1n << 58n,
  1n << 62n,
  1n << 63n,
  0xe00n, // ignored
  0x18n, // PWT, PCD
];
const KINDS_32: readonly bigint[] = [
  0n,
  0x80n,
  0x100n,
  0x180n,
  0x80n | 1n << 12n,
  ...Array.from({ length: 9 }, (_, i) => 0x80n | 1n << BigInt(13 + i)),
  0x80n | 1n << 22n,
  0xe00n,
  0x18n,
];
/** Presence: a non-present entry faults without P whatever else it says. */
const ABSENT = 1;

/** @param model of the CPU; @param stride over the combinations */
function judge(mode: Mode, model: string, stride = 1): number {
  const chain = new Chain(mode, model);
  const kinds = mode.entryBytes === 8 ? KINDS_64 : KINDS_32;
  const radix = kinds.length + ABSENT * 2;
  const levels = mode.levels.length;
  const entry = (digit: number, i: number): bigint => {
    if (digit === kinds.length) return 0n;
    // Absent, with everything else set.
    if (digit > kinds.length) {
      return mode.entryBytes === 8 ? ~1n & (1n << 64n) - 1n : 0xffff_fffen;
    }
    const table = i === levels - 1
      ? 0x123000n
      : kinds[digit] & 0x80n && !mode.levels[i].startsWith("PML")
      ? 0x8000_0000n
      : BigInt(chain.table(i + 1));
    return table | 3n | kinds[digit];
  };
  const probes = CASES.filter(({ attempt, access }) =>
    attempt.cpl !== 1 && (attempt.kind !== "write" || attempt.cpl === 0) &&
    !(access & Access.System)
  );
  for (let n = 0; n < radix ** levels; n += stride) {
    let left = n;
    let dead = false;
    const entries: bigint[] = [];
    for (let i = 0; i < levels; i++) {
      const digit = left % radix;
      left = Math.floor(left / radix);
      entries.push(entry(digit, i));
      // Below an absent entry nothing is read: one combination is enough.
      if (dead && digit !== 0) break;
      if (digit >= kinds.length) dead = true;
    }
    if (entries.length < levels) continue;
    chain.set(entries);
    for (let c = 0; c < 4; c++) {
      chain.control(controlsOf(c & 1 ? 16 : 0, { pse: (c & 2) !== 0 }));
      // Only 32-bit paging looks at CR4.PSE.
      if (mode !== MODES.legacy && c >= 2 && n % 7 !== 0) break;
      chain.read();
      for (const probe of probes) {
        const wrong = chain.compare(probe);
        if (wrong) assertEquals(wrong, undefined);
      }
    }
  }
  return chain.compared;
}

Deno.test("entries: 32-bit paging with and without PSE, PSE-36, 36 bits", () => {
  assert(judge(MODES.legacy, "max-intel") > 5000);
  assert(judge(MODES.legacy, "max-intel,phys-bits=36") > 5000);
  assert(judge(MODES.legacy, "max-intel,phys-bits=32") > 5000);
  assert(judge(MODES.legacy, "max-intel,-pse36") > 5000);
});

Deno.test("entries: PAE paging", () => {
  assert(judge(MODES.pae, "max-intel") > 4000);
  assert(judge(MODES.pae, "max-intel,phys-bits=36") > 4000);
});

Deno.test("entries: 4-level paging", () => {
  assert(judge(MODES.four, "max-intel", 3) > 50_000);
  assert(judge(MODES.four, "max-intel,phys-bits=36,-pdpe1gb", 11) > 20_000);
});

Deno.test("entries: 5-level paging", () => {
  assert(judge(MODES.five, "max-intel", 101) > 50_000);
  assert(judge(MODES.five, "max-intel,-pdpe1gb", 1009) > 5000);
});

Deno.test("entries: AMD reserves bit 8 of PML4Es and PML5Es", () => {
  assert(judge(MODES.four, "qemu64", 31) > 5000);
  assert(judge(MODES.five, "qemu64,+la57,+pdpe1gb", 1511) > 2000);
});

Deno.test("attributes: global only with CR4.PGE, size and dirty from the leaf", () => {
  const leaves: [Mode, bigint[], number][] = [
    [MODES.four, [3n, 3n, 3n, 0x103n], 0],
    [MODES.four, [3n, 3n, 0x183n], 1],
    [MODES.four, [3n, 0x183n], 3],
    // G of an entry that references a table is ignored.
    [MODES.four, [0x103n, 0x103n, 0x103n, 3n], -1],
    [MODES.legacy, [0x183n], 2],
    [MODES.legacy, [3n, 0x103n], 0],
    [MODES.pae, [3n, 0x103n], 0],
    [MODES.pae, [0x183n], 1],
  ];
  for (const [mode, low, size] of leaves) {
    const chain = new Chain(mode);
    const used = low.length;
    chain.set(
      mode.levels.map((_, i) =>
        i >= used
          ? 0n
          : low[i] | (i < used - 1 ? BigInt(chain.table(i + 1)) : 0n)
      ),
    );
    for (const pge of [false, true]) {
      chain.control(controlsOf(0, { pge }));
      chain.read();
      for (const write of [false, true]) {
        const one = CASES[write ? 1 : 0];
        assertEquals(chain.compare(one), undefined);
        const { attributes } = chain.walker;
        assertEquals((attributes & Attribute.G) !== 0, pge && size >= 0);
        assertEquals(
          (attributes & Attribute.SizeMask) >>> Attribute.SizeShift,
          Math.max(size, 0),
        );
        assertEquals((attributes & Attribute.D) !== 0, write);
      }
    }
  }
});

Deno.test("PDPTE loads: every bit of every entry, present and not", () => {
  const rig = new MmuRig();
  const { v, cpu } = rig;
  const at = 0x7fe0;
  // Table 4-8: bits 2:1, 8:5 and 63:MAXPHYADDR of a present entry.
  const reserved = (bit: number): boolean =>
    bit === 1 || bit === 2 || (bit >= 5 && bit <= 8) || bit >= 40;
  for (let entry = 0; entry < 4; entry++) {
    for (let bit = 0; bit < 64; bit++) {
      for (const present of [0n, 1n]) {
        for (let i = 0; i < 4; i++) {
          rig.put(at + i * 8, BigInt(i + 1) << 12n | 1n);
          v.setPdpte(i, 0xdead000n);
        }
        const value = 1n << BigInt(bit) & ~1n | present;
        rig.put(at + entry * 8, value);
        v.pending = undefined;
        // Bits 4:0 and 63:32 of CR3 take no part.
        const loaded = rig.mmu.loadPdptes(cpu, 2 ** 35 + at + 0x1f);
        const fine = present === 0n || !reserved(bit);
        assertEquals(loaded, fine, `PDPTE${entry} ${value.toString(16)}`);
        assertEquals(rig.raised()?.vector, fine ? undefined : 13);
        if (!fine) assertEquals(rig.raised()?.errorCode, 0);
        for (let i = 0; i < 4; i++) {
          const due = !fine
            ? 0xdead000n
            : i === entry
            ? value
            : BigInt(i + 1) << 12n | 1n;
          assertEquals(v.pdpte(i), due);
        }
      }
    }
  }
});

Deno.test("PAE paging uses the PDPTE registers, not memory", () => {
  const chain = new Chain(MODES.pae);
  const { rig } = chain;
  chain.set([BigInt(chain.table(1)) | 3n, 0x123003n]);
  chain.control(controlsOf(0));
  assertEquals(rig.translate(chain.linear, Access.Read).frame, 0x123);
  rig.v.setPdpte(3, 0n);
  rig.mmu.invlpg(rig.cpu, chain.linear);
  const { fault } = rig.translate(chain.linear, Access.Read);
  assertEquals(fault?.errorCode, 0);
});

Deno.test("accessed and dirty flags: every state before, every level, every access", () => {
  for (const mode of Object.values(MODES)) {
    const chain = new Chain(mode);
    chain.control(controlsOf(0));
    const levels = mode.levels.length;
    for (let n = 0; n < 1 << (2 * levels); n++) {
      chain.set(
        mode.levels.map((_, i) =>
          (i === levels - 1 ? 0x123000n : BigInt(chain.table(i + 1))) | 7n |
          BigInt(n >> (2 * i) & 3) << 5n
        ),
      );
      chain.read();
      for (const one of CASES) assertEquals(chain.compare(one), undefined);
    }
  }
});
