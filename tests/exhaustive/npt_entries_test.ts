/**
 * Nested entries bit by bit (APM 2 §15.25.3, §5.3–5.5): every bit of every entry
 * of every host format, set and, for a large page, with PS, times NXE, PSE,
 * PSE-36, 1-GByte pages and MAXPHYADDR, against the oracle; accessed and dirty
 * flags in every state before, on the path of the target and of guest tables;
 * PDPTEs of hosts and guests with PAE paging (§15.25.10).
 */
import { assert, assertEquals } from "@std/assert";
import { Cr4, Efer } from "../../cpu/arch/flags.ts";
import { type CpuModel, parseModel } from "../../cpu/arch/models.ts";
import { reservedPdpteBits } from "../../plugins/mmu/walk.ts";
import { exitInfo1 } from "./npt_oracle.ts";
import {
  Access,
  FULL,
  GUEST,
  hostOf,
  infoText,
  N,
  NptRig,
  textOf,
  wideModel,
} from "./npt_setup.ts";
import { type Mode, MODES } from "./paging_oracle.ts";

const ONES = 0xffff_ffff_ffff_ffffn;

/** Flips each bit of each entry. @returns how many accesses were compared */
function everyBit(mode: Mode, model: string | CpuModel): number {
  const npt = new NptRig(mode, model);
  let compared = 0;
  for (const leaf of [1, 2, 3].filter((l) => l <= npt.top)) {
    for (let h = 0; h < 8; h++) {
      const host = hostOf(h & 3);
      npt.hosted(host, h < 4);
      // Only 32-bit paging looks at the host's CR4.PSE.
      if (h >= 4 && mode !== MODES.legacy) break;
      for (let level = leaf; level <= npt.top; level++) {
        for (let bit = 0; bit < mode.entryBytes * 8; bit++) {
          for (const base of [FULL, 0n, N.P, N.P | N.PS]) {
            npt.path(leaf);
            npt.set(level, base ^ 1n << BigInt(bit));
            compared += compare(npt, h & 3);
          }
        }
      }
    }
  }
  return compared;
}

/** Compares three accesses with what the entries in memory say. */
function compare(npt: NptRig, h: number): number {
  const entries = npt.chain();
  const reading = npt.read(entries, npt.target + 0x123);
  const tell = (kind: string): string =>
    `${npt.mode.name} [${entries.map((e) => e.toString(16))}] ${kind} ${h}`;
  for (
    const [access, kind] of [
      [Access.Read, "read"],
      [Access.Write, "write"],
      [Access.Fetch, "fetch"],
    ] as const
  ) {
    const attempt = { kind, cpl: 3 };
    const due = infoText(exitInfo1(npt.mode, reading, attempt, hostOf(h)));
    const outcome = npt.access(access, 3);
    if (textOf(outcome) !== due) assertEquals(textOf(outcome), due, tell(kind));
    if (due === "ok" && reading.kind === "page") {
      assertEquals(outcome.frame, Number(reading.physical >> 12n), tell(kind));
    }
    npt.restore();
  }
  return 3;
}

const NARROW = "qemu64,+smep,phys-bits=36";
for (
  const [mode, models, least] of [
    [MODES.legacy, ["qemu64", "qemu64,-pse36", NARROW], 8000],
    [MODES.pae, ["qemu64", NARROW], 10_000],
    [MODES.four, ["qemu64", "qemu64,+pdpe1gb", NARROW], 40_000],
  ] as const
) {
  Deno.test(`nested entries, every bit: ${mode.name}`, () => {
    let compared = 0;
    for (const model of models) {
      if (mode === MODES.four && model === NARROW) {
        // The target lies above 36 bits for the guest: its own reserved bits.
        const npt = new NptRig(mode, model);
        assertEquals(textOf(npt.access(Access.Read)), "#PF(9)");
        continue;
      }
      compared += everyBit(mode, model);
    }
    assert(compared > least, `${compared}`);
  });
}
Deno.test("nested entries, every bit: 5-level", () => {
  const compared = everyBit(MODES.five, wideModel());
  assert(compared > 30_000, `${compared}`);
});

Deno.test("kvm-unit-tests' reserved bits: by level, table walk or final", () => {
  const model = parseModel("qemu64,+pdpe1gb,+smep");
  for (let h = 0; h < 4; h++) {
    const fetch = h === 0 ? "1_0000000D" : "1_0000001D";
    const npt = new NptRig(MODES.four, model);
    npt.hosted(hostOf(h));
    npt.set(1, FULL | 1n << 40n);
    assertEquals(textOf(npt.access(Access.Fetch)), fetch);
    npt.reset(1);
    npt.set(2, FULL | N.PS | 1n << 13n);
    assertEquals(textOf(npt.access(Access.Fetch)), fetch);
    npt.reset(1);
    // The PDPTE and PML4E that the guest's tables are mapped through.
    const root = 0x100000;
    const pml4e = npt.rig.get(root);
    npt.rig.put(root, pml4e | 0x100n);
    assertEquals(textOf(npt.access(Access.Fetch)), "2_0000000F");
    npt.rig.put(root, pml4e);
    const at = Number(pml4e & 0xffff_f000n);
    npt.rig.put(at, npt.rig.get(at) | N.PS | 1n << 20n);
    assertEquals(textOf(npt.access(Access.Fetch)), "2_0000000F");
  }
});

Deno.test("accessed and dirty: every state before, every level, every access", () => {
  let compared = 0;
  for (const mode of Object.values(MODES)) {
    const npt = new NptRig(mode);
    for (const leaf of [1, 2, 3].filter((l) => l <= npt.top)) {
      const levels = npt.top - leaf + 1;
      for (let state = 0; state < 4 ** levels; state++) {
        for (const access of [0, 1, 2, 16, 32, 33]) {
          npt.path(leaf);
          const due: bigint[] = [];
          for (let level = npt.top; level >= leaf; level--) {
            const own = (state >> 2 * (level - leaf)) & 3;
            const flags = BigInt(own) << 5n;
            npt.set(level, FULL | flags);
            const write = (access & 17) !== 0;
            const more = level === leaf && write ? N.A | N.D : N.A;
            const silent = (access & Access.Silent) !== 0;
            due.push(npt.now()[npt.top - level] | (silent ? 0n : more));
          }
          assertEquals(textOf(npt.access(access)), "ok");
          assertEquals(npt.now(), due, `${mode.name} ${leaf} ${access}`);
          compared++;
        }
      }
    }
  }
  assert(compared > 8000, `${compared}`);
});

Deno.test("accessed and dirty: a fault sets none on its own path", () => {
  for (const mode of Object.values(MODES)) {
    const npt = new NptRig(mode);
    npt.set(1, FULL ^ N.W);
    const before = npt.now();
    npt.access(Access.Write);
    assertEquals(npt.now(), before);
    npt.access(Access.Read);
    assertEquals(npt.now(), before.map((e) => e | N.A));
  }
});

Deno.test("guest walks dirty the pages of guest tables, whatever the access", () => {
  for (const mode of Object.values(MODES)) {
    const npt = new NptRig(mode);
    const { rig } = npt;
    for (let level = 1; level <= 4; level++) {
      rig.put(
        npt.tablePage(GUEST[level]),
        BigInt(GUEST[level]) | FULL,
        mode.entryBytes,
      );
    }
    npt.access(Access.Read);
    for (let level = 1; level <= 4; level++) {
      assertEquals(
        rig.get(npt.tablePage(GUEST[level]), mode.entryBytes),
        BigInt(GUEST[level]) | FULL | N.A | N.D,
      );
    }
  }
});

Deno.test("PDPTEs of a host with PAE paging: present, reserved, no rights", () => {
  const npt = new NptRig(MODES.pae, "qemu64");
  const { rig } = npt;
  const at = 0x100008;
  const good = rig.get(at);
  for (let h = 0; h < 4; h++) {
    npt.hosted(hostOf(h));
    for (let bit = 0; bit < 64; bit++) {
      if (bit >= 12 && bit < 40) continue; // address
      const entry = good ^ 1n << BigInt(bit);
      rig.put(at, entry);
      const bad = entry & (reservedPdpteBits(40) | 1n << 63n);
      const due = bit === 0 ? "1_00000004" : bad ? "1_0000000D" : "ok";
      assertEquals(textOf(npt.access(Access.Read)), due, `bit ${bit}`);
      if (due === "ok") assertEquals(rig.get(at), entry, "no A flag");
    }
    rig.put(at, good);
  }
  // nCR3[4:0] is ignored, nCR3[11:5] is part of the address.
  rig.nestedPaging(0x10001f, Number(rig.v.word(0x278)));
  assertEquals(textOf(npt.access(Access.Read)), "ok");
});

/** A guest with PAE paging whose PDPTEs lie at 0x24020. */
function paeGuest(): NptRig {
  const npt = new NptRig(MODES.four, "qemu64");
  const { rig } = npt;
  rig.v.cr4 = Cr4.PAE;
  rig.v.efer = Efer.NXE;
  rig.v.cr3 = 0x24020;
  rig.put(0x24020 + 8, BigInt(GUEST[2]) | 1n);
  rig.put(GUEST[2] + 3 * 8, BigInt(GUEST[1]) | 0x67n);
  rig.put(GUEST[1] + 5 * 8, BigInt(npt.target) | 0x67n);
  return npt;
}
const PAE_LINEAR = 0x4060_5123n;

Deno.test("a guest with PAE paging: PDPTEs are read by each walk", () => {
  const npt = paeGuest();
  const { rig } = npt;
  const { v } = rig;
  // The registers say otherwise: nobody looks.
  for (let i = 0; i < 4; i++) v.setPdpte(i, 0n);
  assertEquals(textOf(npt.access(Access.Read, 3, PAE_LINEAR)), "ok");
  assertEquals(rig.get(0x24028), BigInt(GUEST[2]) | 1n, "no A flag");
  assertEquals(textOf(npt.access(Access.Read, 3, 0x123n)), "#PF(4)");
  for (let bit = 0; bit < 64; bit++) {
    if (bit >= 12 && bit < 40) continue;
    const entry = (BigInt(GUEST[2]) | 1n) ^ 1n << BigInt(bit);
    rig.put(0x24028, entry);
    const bad = entry & (reservedPdpteBits(40) | 1n << 63n);
    const due = bit === 0 ? "#PF(4)" : bad ? "#PF(13)" : "ok";
    assertEquals(textOf(npt.access(Access.Read, 3, PAE_LINEAR)), due);
  }
});

Deno.test("a guest with PAE paging: MOV CR3 checks and loads nothing", () => {
  const npt = paeGuest();
  const { rig } = npt;
  rig.put(0x24020, ONES);
  rig.put(npt.tablePage(0x24000), 0n);
  rig.v.setPdpte(0, 0x77n);
  assert(rig.mmu.loadPdptes(rig.cpu, 0x24020));
  assertEquals(rig.raised(), undefined);
  assertEquals(rig.v.pdpte(0), 0x77n);
  const outcome = npt.access(Access.Read, 3, PAE_LINEAR);
  assertEquals(textOf(outcome), "2_00000006");
  assertEquals(outcome.stage2?.guestPhysicalAddress, 0x24028);
});

Deno.test("translatePhysical: a final read of the user, without a linear address", () => {
  const npt = new NptRig(MODES.four, "qemu64");
  const { rig } = npt;
  const page = npt.target / 4096;
  const frame = Number(npt.now().at(-1)! >> 12n) % 2 ** 28;
  assertEquals(rig.mmu.translatePhysical(rig.cpu, page, Access.Read), frame);
  npt.set(1, FULL ^ N.W);
  assertEquals(rig.mmu.translatePhysical(rig.cpu, page, Access.Write), -2);
  assertEquals(infoText(rig.v.stage2?.qualification), "1_00000007");
  assertEquals(rig.v.stage2?.guestPhysicalAddress, npt.target);
});
