/**
 * Nested paging through the architectural TLB (APM 2 §15.16, §15.25): what is
 * cached is judged by the CPL of each fetch under GMET, entries made under
 * another mode of the host serve nobody, and ASIDs with INVLPGA and TLB_CONTROL
 * drop what the manual says.
 */
import { assert, assertEquals } from "@std/assert";
import { VCPU } from "../../cpu/layout.ts";
import { Access } from "../../cpu/port.ts";
import {
  FULL,
  hostOf,
  infoText,
  LINEAR,
  N,
  NptRig,
  NX,
  textOf,
} from "../../tests/exhaustive/npt_setup.ts";
import { MODES } from "../../tests/exhaustive/paging_oracle.ts";
import { Flush } from "./api.ts";

const PAGE = Number(LINEAR >> 12n);

function rigOf(host: number, entry: bigint): NptRig {
  const npt = new NptRig(MODES.four, "qemu64");
  npt.hosted(hostOf(host));
  npt.set(1, entry);
  npt.rig.v.setWord(VCPU.tlbTag, 1);
  npt.rig.observed = true;
  return npt;
}
/** Translates at a CPL without flushing first. */
function at(npt: NptRig, access: number, cpl: number): string {
  npt.rig.v.cpl = cpl;
  npt.rig.facts.length = 0;
  const text = textOf(npt.rig.translate(LINEAR, access));
  const walked = npt.rig.facts.some(({ name }) => name === "mmu.walked");
  return walked ? `${text} walked` : text;
}

Deno.test("GMET: a cached fetch right of CPL 3 is none of CPL 0 to 2", () => {
  const npt = rigOf(5, FULL);
  assertEquals(at(npt, Access.Fetch, 3), "ok walked");
  assertEquals(at(npt, Access.Fetch, 3), "ok");
  for (const cpl of [0, 1, 2]) {
    assertEquals(at(npt, Access.Fetch, 3), cpl === 0 ? "ok" : "ok walked");
    assertEquals(at(npt, Access.Fetch, cpl), "1_00000011 walked");
  }
  // Data is nobody's concern.
  assertEquals(at(npt, Access.Write, 0), "ok walked");
  assertEquals(at(npt, Access.Write, 3), "ok");
});

Deno.test("GMET: U = 0 serves every CPL from one entry", () => {
  const npt = rigOf(5, FULL ^ N.U);
  assertEquals(at(npt, Access.Fetch, 0), "ok walked");
  for (const cpl of [0, 1, 2, 3]) {
    assertEquals(at(npt, Access.Fetch, cpl), "ok");
  }
});

Deno.test("GMET: the engine's grants are asked for by CPL", () => {
  const npt = rigOf(5, FULL);
  const { mmu, cpu, v } = npt.rig;
  assertEquals(at(npt, Access.Fetch, 3), "ok walked");
  assert(mmu.grantable(cpu, PAGE, Access.Fetch));
  for (const cpl of [0, 1, 2]) {
    v.cpl = cpl;
    assert(!mmu.grantable(cpu, PAGE, Access.Fetch), `CPL ${cpl}`);
  }
});

Deno.test("NX, W and D are cached; a first store walks and sets D", () => {
  const npt = rigOf(1, FULL);
  assertEquals(at(npt, Access.Read, 0), "ok walked");
  assertEquals(at(npt, Access.Write, 0), "ok walked");
  assertEquals(npt.now().at(-1)! & N.D, N.D);
  assertEquals(at(npt, Access.Write, 0), "ok");
  // The entry changes, the TLB does not, until it is told.
  npt.set(1, FULL ^ N.W | NX);
  assertEquals(at(npt, Access.Write, 0), "ok");
  npt.rig.mmu.flush(npt.rig.cpu, Flush.VpidAddress, 1, 0, LINEAR);
  assertEquals(at(npt, Access.Write, 0), "1_00000007 walked");
  assertEquals(at(npt, Access.Fetch, 0), "1_00000015 walked");
});

Deno.test("entries made under another host mode or GMET serve nobody", () => {
  const npt = rigOf(4, FULL ^ N.U);
  assertEquals(at(npt, Access.Read, 0), "ok walked");
  assertEquals(at(npt, Access.Read, 0), "ok");
  npt.hosted(hostOf(0));
  assertEquals(at(npt, Access.Read, 0), "1_00000005 walked");
  npt.hosted(hostOf(5));
  assertEquals(at(npt, Access.Read, 0), "ok walked");
  npt.hosted(hostOf(4));
  assertEquals(at(npt, Access.Read, 0), "ok walked");
  // CR4.SMEP decides nothing but a bit of EXITINFO1.
  npt.hosted(hostOf(6));
  assertEquals(at(npt, Access.Read, 0), "ok");
});

Deno.test("ASIDs keep guests apart; INVLPGA and TLB_CONTROL name one", () => {
  const npt = rigOf(0, FULL);
  const { rig } = npt;
  // The next page too: two ASIDs would take turns in one slot of the TLB.
  const next = LINEAR + 0x1000n;
  const map = (global: bigint): void => {
    rig.put(npt.guestAt(1), BigInt(npt.target) | 0x67n | global);
    rig.put(npt.guestAt(1) + 8, BigInt(npt.target) | 0x67n | global);
  };
  const each = (body: (linear: bigint, asid: number) => void): void => {
    for (const [asid, linear] of [[1, LINEAR], [2, next]] as const) {
      rig.v.setWord(VCPU.tlbTag, asid);
      body(linear, asid);
    }
    rig.v.setWord(VCPU.tlbTag, 0);
  };
  const held = (): string => {
    let text = "";
    each((linear, asid) => {
      text += rig.mmu.cached(rig.cpu, linear, false) ? asid : "-";
    });
    return text;
  };
  const drops = (kind: number, asid: number, linear: bigint): string => {
    each((own) => assertEquals(textOf(rig.translate(own, Access.Read)), "ok"));
    assertEquals(held(), "12");
    rig.mmu.flush(rig.cpu, kind, asid, 0, linear);
    return held();
  };
  map(0n);
  assertEquals(drops(Flush.VpidAddress, 2, next + 5n), "1-");
  assertEquals(drops(Flush.VpidAddress, 2, LINEAR), "12");
  assertEquals(drops(Flush.VpidAddress, 1, LINEAR), "-2");
  assertEquals(drops(Flush.VpidAll, 1, 0n), "-2");
  assertEquals(drops(Flush.VpidNonGlobal, 2, 0n), "1-");
  assertEquals(drops(Flush.Everything, 0, 0n), "--");
  // TLB_CONTROL 7 spares what the guest calls global, INVLPGA does not.
  rig.v.cr4 |= 0x80;
  map(0x100n);
  assertEquals(drops(Flush.VpidNonGlobal, 2, 0n), "12");
  assertEquals(drops(Flush.VpidAddress, 2, next), "1-");
  assertEquals(drops(Flush.VpidAll, 1, 0n), "-2");
});

Deno.test("guest paging off: INVLPGA drops the whole nested page", () => {
  const npt = new NptRig(MODES.legacy, "qemu64");
  const { rig } = npt;
  rig.v.cr0 = 1;
  rig.v.cr4 = 0;
  rig.v.efer = 0;
  rig.v.setWord(VCPU.tlbTag, 1);
  npt.hosted(hostOf(0));
  const large = BigInt(npt.target);
  const small = 0x5000n;
  for (const [leaf, stays] of [[1, true], [2, false]] as const) {
    npt.path(leaf);
    for (const linear of [large, small]) {
      assertEquals(textOf(rig.translate(linear, Access.Read)), "ok");
    }
    rig.mmu.flush(rig.cpu, Flush.VpidAddress, 1, 0, large + 0x1000n);
    const held = rig.mmu.cached(rig.cpu, large, false) !== undefined;
    assertEquals(held, stays, `leaf ${leaf}`);
    assert(rig.mmu.cached(rig.cpu, small, false) !== undefined);
    rig.mmu.flush(rig.cpu, Flush.Everything, 0, 0, 0n);
  }
});

Deno.test("explain: both stages in order, EXITINFO1, and no effect", () => {
  const npt = rigOf(5, FULL);
  const { rig } = npt;
  const before = npt.now();
  rig.v.cpl = 0;
  const walk = rig.mmu.explain(rig.cpu, LINEAR, Access.Fetch);
  assertEquals(walk.outcome, 2);
  assertEquals(infoText(walk.qualification), "1_00000011");
  // Four nested entries for each guest table and the target, each guest entry after its own.
  assertEquals(
    walk.steps.map(({ stage, level }) => `${stage}${level}`).join(" "),
    "24 23 22 21 14 24 23 22 21 13 24 23 22 21 12 24 23 22 21 11 24 23 22 21",
  );
  const user = rig.mmu.explain(
    rig.cpu,
    LINEAR,
    Access.Fetch | Access.User,
  );
  assertEquals(user.outcome, 0);
  assertEquals(user.guestPhysical, npt.target + 0x123);
  assertEquals(npt.now(), before);
  assertEquals(rig.v.stage2, undefined);
  assertEquals(rig.mmu.cached(rig.cpu, LINEAR, true), undefined);
});
