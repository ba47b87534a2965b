/**
 * VMRUN itself on every case of the checks: each row violated alone ends in
 * VMEXIT_INVALID with nothing of the guest loaded (APM 2 §15.5.1, appendix C)
 * and names the row; states that the rows accept enter the guest.
 */
import { assert, assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { Cr0, Cr4, Efer } from "../../cpu/arch/flags.ts";
import { ActivityState, Gpr, GuestMode } from "../../cpu/layout.ts";
import { TestMachine } from "../../tests/support/machine.ts";
import { SvmEntered, SvmEntryFailed, SvmExited } from "./api.ts";
import { EventInfo } from "./controls.ts";
import {
  ACCEPTED,
  ALSO,
  type EntryCase,
  PDPT,
  VIOLATIONS,
} from "./entry_cases_testing.ts";
import { VMRUN_CHECKS } from "./entry_checks.ts";
import { ExitCode } from "./exit_codes.ts";
import { AT } from "./guest_testing.ts";
import { svm } from "./plugin.ts";
import { hasFlag, SCRATCH, SvmFlag } from "./scratch.ts";
import { longGuest } from "./vmcb_testing.ts";
import { Control, Save, Vmcb } from "./vmcb.ts";

const PAGE_DIRECTORY = 0x61000;
/** Guest registers that a failed VMRUN must not have loaded. */
const GUEST = { rip: 0x8800n, rsp: 0x7777n, rax: 0x1234n } as const;

function run(c: EntryCase) {
  const host = c.legacyHost;
  const code = host ? "vmrun eax" : "vmrun rax";
  const m = new TestMachine(`${code}\nafter: hlt`, {
    mode: host ? "protected" : "long",
    model: c.model ?? "max-amd",
    plugins: [{ plugin: svm }],
  });
  const { v, hardware: { physical } } = m;
  v.efer |= Efer.SVME;
  v.setQuad(SCRATCH.hsave, BigInt(AT.hsave));
  v.setGpr(Gpr.RAX, BigInt(AT.vmcb));
  if (host?.paged) {
    physical.writeU32(PAGE_DIRECTORY, 0x83);
    v.cr3 = PAGE_DIRECTORY;
    v.cr4 |= Cr4.PSE;
    v.cr0 = (v.cr0 | Cr0.PG) >>> 0;
  }
  const draft = longGuest(c.pdpte === undefined ? v.cr3 : PDPT);
  physical.writeU64(PDPT, c.pdpte ?? 0n);
  draft.set(Save.rip, GUEST.rip).set(Save.rsp, GUEST.rsp)
    .set(Save.rax, GUEST.rax)
    .set(Control.exitInfo1, -1).set(Control.exitInfo2, -1)
    .set(Control.exitIntInfo, -1);
  c.change(draft);
  draft.store(physical, AT.vmcb);
  const seen = {
    entered: m.collect(SvmEntered),
    exited: m.collect(SvmExited),
    failed: m.collect(SvmEntryFailed),
  };
  m.run(20);
  return { m, vmcb: new Vmcb(physical, AT.vmcb), ...seen };
}

describe("VMRUN", () => {
  it("exits with VMEXIT_INVALID for each row violated alone", () => {
    for (const [id, c] of [...VIOLATIONS, ...ALSO]) {
      const { m, vmcb, entered, exited, failed } = run(c);
      const { v } = m;
      const code = Number(BigInt.asIntN(64, vmcb.read(Control.exitCode)));
      assertEquals(code, ExitCode.Invalid, id);
      assertEquals([entered.length, exited.length], [0, 0], id);
      const rows = failed.map(({ check }) => VMRUN_CHECKS[check - 1].id);
      assertEquals(rows, [id]);
      assertEquals(vmcb.read(Control.exitInfo1), 0n, id);
      assertEquals(vmcb.read(Control.exitInfo2), 0n, id);
      assertEquals(vmcb.read32(Control.exitIntInfo), 0, id);
      assertEquals(
        vmcb.read32(Control.eventInjection) & EventInfo.Valid,
        0,
        id,
      );
      // The host goes on after VMRUN, with GIF = 0 and its own registers.
      assertEquals(v.guestMode, GuestMode.None, id);
      assertEquals(v.activity, ActivityState.Hlt, id);
      assertEquals(v.rip, BigInt(m.at("after") + 1), id);
      assertEquals(v.gpr(Gpr.RAX), BigInt(AT.vmcb), id);
      assert(v.gpr(Gpr.RSP) !== GUEST.rsp, id);
      assert(hasFlag(v, SvmFlag.GifClear), id);
      // Guest state in the VMCB is as software left it.
      assertEquals(vmcb.read(Save.rip), GUEST.rip, id);
      assertEquals(vmcb.read(Save.rax), GUEST.rax, id);
    }
  });

  it("enters the states that every row accepts", () => {
    for (const [name, c] of ACCEPTED) {
      const { entered, failed } = run(c);
      assertEquals([entered.length, failed.length], [1, 0], name);
      assertEquals(entered[0].rip, GUEST.rip, name);
    }
  });
});
