/**
 * Nested paging's rights by generated cases: U, W and NX at every level and in
 * every split over levels, every page size of every host format, times GMET,
 * host NXE and SMEP, access and CPL, each against npt_oracle.ts; then the rows
 * of the reference's §3.7 as it states them, and the accesses of guest walks.
 */
import { assert, assertEquals } from "@std/assert";
import { Cr0 } from "../../cpu/arch/flags.ts";
import { VCPU } from "../../cpu/layout.ts";
import { exitInfo1, type GuestAccess, type Host } from "./npt_oracle.ts";
import {
  Access,
  ACCESSES,
  FULL,
  GUEST,
  hostOf,
  infoText,
  LINEAR,
  N,
  NptRig,
  NX,
  textOf,
  wideModel,
} from "./npt_setup.ts";
import { type Mode, MODES } from "./paging_oracle.ts";

/** U, W, NX by the bits of `n`: what an entry denies, executes for all at 0. */
function rights(n: number): bigint {
  return N.P | (n & 1 ? 0n : N.W) | (n & 2 ? 0n : N.U) | (n & 4 ? NX : 0n);
}

/** Compares every access with the oracle. @returns how many were compared */
function judge(npt: NptRig, host: Host): number {
  let compared = 0;
  for (const { access, attempt } of ACCESSES) {
    const before = npt.now();
    const address = npt.target + 0x123;
    const reading = npt.read(before, address);
    const due = exitInfo1(npt.mode, reading, attempt, host);
    const outcome = npt.access(access, attempt.cpl);
    const tell = (): string =>
      `${npt.mode.name} [${before.map((e) => e.toString(16))}] ${
        JSON.stringify({ ...attempt, ...host })
      }`;
    if (textOf(outcome) !== infoText(due)) {
      assertEquals(textOf(outcome), infoText(due), tell());
    }
    if (due !== undefined) {
      assertEquals(outcome.stage2?.guestPhysicalAddress, address);
      assertEquals(outcome.stage2?.guestLinearAddress, LINEAR);
      assertEquals(outcome.stage2?.misconfiguration, false);
    } else if (reading.kind === "page") {
      assertEquals(outcome.frame, Number(reading.physical >> 12n), tell());
    }
    compared++;
    npt.restore();
  }
  return compared;
}

function everyRight(mode: Mode, bits: number): number {
  const npt = new NptRig(mode);
  let compared = 0;
  for (const leaf of [1, 2, 3].filter((l) => l <= npt.top)) {
    // PML4Es map no page; PAE's PDPTE level is above `top`.
    npt.path(leaf);
    for (let h = 0; h < 8; h++) {
      const host = hostOf(h);
      npt.hosted(host);
      // One level spoiled, all others full: every level and combination.
      for (let level = leaf; level <= npt.top; level++) {
        for (let n = 0; n < bits; n++) {
          npt.path(leaf);
          npt.set(level, rights(n));
          compared += judge(npt, host);
        }
      }
      // Two levels spoiled apart: each right is combined by itself.
      for (let a = 1; a < bits; a++) {
        for (let b = 1; leaf < npt.top && b < bits; b++) {
          npt.path(leaf);
          npt.set(leaf, rights(a));
          npt.set(npt.top, rights(b));
          compared += judge(npt, host);
        }
      }
    }
  }
  return compared;
}

for (const mode of Object.values(MODES)) {
  Deno.test(`NPT rights × GMET × access × CPL: host with ${mode.name} paging`, () => {
    // 32-bit paging has no NX.
    const compared = everyRight(mode, mode === MODES.legacy ? 4 : 8);
    assert(compared > (mode === MODES.legacy ? 2500 : 9000), `${compared}`);
  });
}

/** Reference §3.7, EXITINFO1: entry, host, access, CPL, text. */
const ROWS: readonly [string, bigint, number, number, number, string][] = [
  ["not present", 0n, 0, Access.Read, 0, "1_00000004"],
  ["U=0 data, GMET off", FULL ^ N.U, 0, Access.Read, 0, "1_00000005"],
  ["W=0 write", FULL ^ N.W, 0, Access.Write, 3, "1_00000007"],
  ["W=0 write, GMET", FULL ^ N.W, 4, Access.Write, 0, "1_00000007"],
  ["NX fetch, GMET off", FULL | NX, 1, Access.Fetch, 0, "1_00000015"],
  ["NX fetch, GMET", N.P | N.W | NX, 5, Access.Fetch, 0, "1_00000011"],
  ["U=1 fetch at CPL 0, GMET", FULL, 5, Access.Fetch, 0, "1_00000011"],
  ["U=1 fetch at CPL 1, GMET", FULL, 5, Access.Fetch, 1, "1_00000011"],
  ["U=1 fetch at CPL 2, GMET", FULL, 5, Access.Fetch, 2, "1_00000011"],
  ["U=1 fetch at CPL 3, GMET", FULL, 5, Access.Fetch, 3, "ok"],
  ["U=0 fetch at CPL 0, GMET", N.P | N.W, 5, Access.Fetch, 0, "ok"],
  ["U=0 fetch at CPL 3, GMET", N.P | N.W, 5, Access.Fetch, 3, "ok"],
  ["U=0 write at CPL 3, GMET", N.P | N.W, 5, Access.Write, 3, "ok"],
  ["GMET without NXE and SMEP", FULL, 4, Access.Fetch, 0, "1_00000001"],
  ["GMET with SMEP alone", FULL, 6, Access.Fetch, 0, "1_00000011"],
  ["reserved bit", FULL | 1n << 45n, 0, Access.Read, 0, "1_0000000D"],
  ["reserved bit, fetch", FULL | 1n << 45n, 0, Access.Fetch, 0, "1_0000000D"],
  ["… with NXE", FULL | 1n << 45n, 1, Access.Fetch, 0, "1_0000001D"],
  ["… with SMEP", FULL | 1n << 45n, 2, Access.Fetch, 0, "1_0000001D"],
  ["NX is reserved without NXE", FULL | NX, 0, Access.Read, 0, "1_0000000D"],
];

Deno.test("the reference's rows of EXITINFO1", () => {
  const npt = new NptRig(MODES.four, "qemu64");
  for (const [name, entry, host, access, cpl, due] of ROWS) {
    npt.hosted(hostOf(host));
    npt.set(1, entry);
    assertEquals(textOf(npt.access(access, cpl)), due, name);
  }
});

/** Spoils the nested leaf of each page that holds a guest table. */
Deno.test("guest walks: every table page, as writes of the user", () => {
  let faults = 0;
  for (const mode of Object.values(MODES)) {
    const npt = new NptRig(mode);
    const { rig } = npt;
    for (let h = 0; h < 8; h++) {
      const host = hostOf(h);
      npt.hosted(host);
      for (let level = 4; level >= 1; level--) {
        const at = npt.tablePage(GUEST[level]);
        const page = BigInt(GUEST[level]);
        for (const bits of [0n, N.P, N.P | N.W, N.P | N.U, FULL]) {
          const entry = page | bits;
          rig.put(at, entry, mode.entryBytes);
          const reading = npt.read(
            [...npt.now().slice(0, -1).map(() => FULL), entry],
            npt.guestAt(level),
          );
          const attempt: GuestAccess = { kind: "table", cpl: 0 };
          const due = exitInfo1(mode, reading, attempt, host);
          for (const { access, attempt: { cpl } } of ACCESSES) {
            const outcome = npt.access(access, cpl);
            if (due === undefined) {
              // The table lets through; GMET may stop the fetch itself.
              assert(textOf(outcome)[0] !== "2", mode.name);
              continue;
            }
            faults++;
            assertEquals(textOf(outcome), infoText(due));
            assertEquals(
              outcome.stage2?.guestPhysicalAddress,
              npt.guestAt(level),
            );
            assertEquals(outcome.stage2?.guestLinearAddress, LINEAR);
          }
        }
        rig.put(at, page | FULL, mode.entryBytes);
      }
    }
  }
  assert(faults > 2000);
});

Deno.test("the guest's own fault comes before the final nested one", () => {
  const npt = new NptRig(MODES.four);
  npt.set(1, 0n);
  npt.rig.put(npt.guestAt(1), BigInt(npt.target) | 0x65n);
  assertEquals(textOf(npt.access(Access.Write)), "#PF(3)");
  assertEquals(textOf(npt.access(Access.Read)), "1_00000004");
  npt.rig.put(npt.guestAt(1), 0n);
  assertEquals(textOf(npt.access(Access.Read)), "#PF(0)");
});

Deno.test("EFER.NXE and CR4.SMEP of the guest have no say in EXITINFO1", () => {
  const npt = new NptRig(MODES.four);
  const { v } = npt.rig;
  for (let guest = 0; guest < 4; guest++) {
    for (let h = 0; h < 4; h++) {
      npt.hosted(hostOf(h));
      npt.set(1, 0n);
      v.efer = v.efer & ~0x800 | (guest & 1 ? 0x800 : 0);
      v.cr4 = v.cr4 & ~(1 << 20) | (guest & 2 ? 1 << 20 : 0);
      // The page is the user's: at CPL 3 guest SMEP stops nothing.
      const due = h ? "1_00000014" : "1_00000004";
      assertEquals(textOf(npt.access(Access.Fetch, 3)), due);
    }
  }
});

Deno.test("guest paging off: the CPL still decides under GMET", () => {
  for (const mode of Object.values(MODES)) {
    const npt = new NptRig(mode);
    const { rig } = npt;
    rig.v.cr0 = Cr0.PE;
    rig.v.cr4 = 0;
    rig.v.efer = 0;
    const low = 0x40_5123n;
    const at = npt.tablePage(0x5000);
    for (
      const [bits, h, cpl, due] of [
        [FULL, 0, 0, "ok"],
        [FULL, 4, 0, "1_00000001"],
        [FULL, 4, 2, "1_00000001"],
        [FULL, 4, 3, "ok"],
        [N.P, 4, 0, "ok"],
        [N.P, 4, 3, "ok"],
        [N.P, 0, 3, "1_00000005"],
      ] as const
    ) {
      npt.hosted(hostOf(h));
      rig.put(at, 0x5000n | bits, mode.entryBytes);
      const outcome = npt.access(Access.Fetch, cpl, low - 0x40_0000n);
      assertEquals(textOf(outcome), due, `${mode.name} ${bits} ${h} ${cpl}`);
      if (due === "ok") assertEquals(outcome.frame, 5);
    }
  }
});

Deno.test("host CR0.WP and SMAP are not consulted; guest AC and WP neither", () => {
  const npt = new NptRig(MODES.four);
  const { v } = npt.rig;
  npt.set(1, FULL ^ N.W);
  for (const wp of [0, Cr0.WP]) {
    v.cr0 = ((v.cr0 & ~Cr0.WP) | wp) >>> 0;
    for (const gmet of [0, 4]) {
      npt.hosted(hostOf(gmet));
      assertEquals(textOf(npt.access(Access.Write, 0)), "1_00000007");
    }
  }
});

Deno.test("addresses beyond the host format's reach are not present", () => {
  for (
    const [mode, bits] of [
      [MODES.legacy, 32],
      [MODES.pae, 32],
      [MODES.four, 48],
    ] as const
  ) {
    const npt = new NptRig(mode);
    const { rig } = npt;
    const far = 2 ** bits + npt.target;
    rig.put(npt.guestAt(1), BigInt(far) | 0x67n);
    const outcome = npt.access(Access.Read);
    assertEquals(textOf(outcome), "1_00000004", mode.name);
    assertEquals(outcome.stage2?.guestPhysicalAddress, far + 0x123);
    rig.put(npt.guestAt(1), BigInt(npt.target) | 0x67n);
    assertEquals(textOf(npt.access(Access.Read)), "ok");
  }
});

Deno.test("reserved bits of the guest's entries are the guest's #PF", () => {
  const npt = new NptRig(MODES.four, wideModel());
  const { rig } = npt;
  rig.put(npt.guestAt(4), BigInt(GUEST[3]) | 0x167n);
  assertEquals(textOf(npt.access(Access.Read, 3)), "#PF(13)");
  rig.put(npt.guestAt(4), BigInt(GUEST[3]) | 0x67n);
  rig.put(npt.guestAt(3), BigInt(GUEST[2]) | 0x167n);
  assertEquals(textOf(npt.access(Access.Read, 3)), "ok");
  // nCR3 with bits that its format ignores.
  rig.v.setQuad(VCPU.stage2Root, rig.v.quad(VCPU.stage2Root) | 0xfffn);
  assertEquals(textOf(npt.access(Access.Read, 3)), "ok");
});
