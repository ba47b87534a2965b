/**
 * VM entries and exits on one vCPU: what is loaded, saved, injected, reported,
 * and what failed entries do (SDM 3C ch. 27, 28).
 */
import { assert, assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { Efer, Rflags } from "../../cpu/arch/flags.ts";
import { MsrSlot } from "../../cpu/arch/msr.ts";
import {
  ActivityState,
  GuestMode,
  Interruptibility,
  Seg,
  Stage2Flags,
  VCPU,
} from "../../cpu/layout.ts";
import { VmxEntered, VmxEntryFailed, VmxExited } from "./api.ts";
import { Entry, Exit, Pin, Secondary } from "./controls.ts";
import { validVmcs, VIOLATIONS } from "./entry_cases_testing.ts";
import { CheckGroup, ENTRY_CHECKS } from "./entry_checks.ts";
import { GUEST_SEGMENTS } from "./entry_checks_segments.ts";
import { vmEntry } from "./entry.ts";
import { vmExit } from "./exit.ts";
import { ENTRY_FAILURE, ExitReason, VmError } from "./exit_reasons.ts";
import { enter, RIG, rigWith, VmxRig } from "./vmx_testing.ts";
import { VMCS_FIELDS, VmcsField as F } from "./vmcs_fields.ts";

/** A little varied number for field `i`. */
const some = (i: number): bigint => BigInt(i * 0x1111 + 0x40);

describe("VM entry", () => {
  it("loads guest state and translation context", () => {
    const rig = rigWith((d) => {
      d.on(F.SecondaryControls, Secondary.Vpid | Secondary.ModeBasedExecute)
        .set(F.Vpid, 7).set(F.Eptp, RIG.eptPml4 | 0x5e)
        .on(F.EntryControls, Entry.LoadEfer | Entry.LoadPat)
        .set(F.GuestEfer, Efer.LMA | Efer.LME | Efer.NXE)
        .set(F.GuestPat, 0x0606_0606_0606_0606n)
        .set(F.GuestSysenterEip, 0x1234).set(F.GuestRsp, 0x7ff0)
        .set(F.GuestFsBase, 0x5500).set(F.GuestGdtrBase, 0x6600);
    });
    const { v } = rig.cpu;
    assertEquals(enter(rig), 0);
    assertEquals(v.guestMode, GuestMode.Vmx);
    assertEquals(v.rip, 0x1000n);
    assertEquals(v.gpr(4), 0x7ff0n);
    assertEquals(v.cr3, 0x3000);
    assertEquals(v.efer, Efer.LMA | Efer.LME | Efer.NXE);
    assertEquals(v.msr(MsrSlot.Pat), 0x0606_0606_0606_0606n);
    assertEquals(v.msr(MsrSlot.SysenterEip), 0x1234n);
    assertEquals(v.segBase(Seg.FS), 0x5500n);
    assertEquals(v.gdtrBase, 0x6600n);
    assertEquals(v.word(VCPU.tlbTag), 7);
    assertEquals(v.quad(VCPU.stage2Root), BigInt(RIG.eptPml4));
    assertEquals(
      v.word(VCPU.stage2Flags),
      Stage2Flags.Ept | Stage2Flags.AccessedDirty | Stage2Flags.Mbec |
        Stage2Flags.AdvancedInformation,
    );
    const [entered] = rig.of(VmxEntered);
    assertEquals([entered.launch, entered.rip, entered.owner], [
      true,
      0x1000n,
      false,
    ]);
    assertEquals(v.step, 1);
  });

  it("wants VMLAUNCH on a clear and VMRESUME on a launched VMCS", () => {
    const rig = rigWith();
    const { unit, cpu } = rig;
    assertEquals(
      vmEntry(unit, cpu, false, 0n),
      VmError.VmresumeNonLaunched,
    );
    assertEquals(vmEntry(unit, cpu, true, 0n), 0);
    vmExit(unit, cpu, { reason: ExitReason.Cpuid });
    assertEquals(vmEntry(unit, cpu, true, 0n), VmError.VmlaunchNonClear);
    assertEquals(
      rig.vmcs.read32(F.InstructionError),
      VmError.VmlaunchNonClear,
    );
    assertEquals(vmEntry(unit, cpu, false, 0n), 0);
    vmExit(unit, cpu, { reason: ExitReason.Cpuid });
    assertEquals(vmEntry(unit, cpu, undefined, undefined), 0);
  });

  it("is refused by MOV-SS blocking", () => {
    const rig = rigWith();
    rig.cpu.shadow = Interruptibility.ByMovSs;
    assertEquals(enter(rig), VmError.EntryMovSsBlocking);
  });

  it("fails by the group of the failed check", () => {
    for (const row of ENTRY_CHECKS) {
      const c = VIOLATIONS.get(row.id);
      assert(c !== undefined);
      const draft = validVmcs(c.base, c.model);
      c.mutate(draft);
      const rig = new VmxRig(c.model).operation().load(draft);
      const { v, physical } = rig.cpu;
      for (const [address, value] of draft.memory) {
        if (address !== RIG.vmcs) physical.writeU64(address, value);
      }
      if (!draft.longMode) v.efer = 0;
      const before = rig.vmcs.read(F.GuestRip);
      const result = enter(rig);
      const [failure] = rig.of(VmxEntryFailed);
      assertEquals(failure.check, ENTRY_CHECKS.indexOf(row) + 1, row.id);
      assertEquals(rig.of(VmxEntered), [], row.id);
      assertEquals(v.guestMode, GuestMode.None);
      assertEquals(rig.vmcs.launchState, 0);
      if (row.group !== CheckGroup.Guest) {
        const error = row.group === CheckGroup.Controls
          ? VmError.EntryInvalidControls
          : VmError.EntryInvalidHostState;
        assertEquals(result, error, row.id);
        assertEquals(rig.vmcs.read32(F.InstructionError), error);
        assertEquals(v.rip, 0x20000n);
        continue;
      }
      assertEquals(result, 0);
      const reason = (ExitReason.EntryFailureGuestState | ENTRY_FAILURE) >>> 0;
      assertEquals(rig.vmcs.read32(F.ExitReason), reason, row.id);
      assertEquals(rig.vmcs.read(F.ExitQualification), row.qualification);
      // Host state is loaded, guest state is not saved.
      assertEquals(v.rip, rig.vmcs.read(F.HostRip));
      assertEquals(rig.vmcs.read(F.GuestRip), before);
    }
  });

  it("fails with reason 34 and the entry's number when an MSR won't load", () => {
    const rig = rigWith((d) =>
      d.set(F.EntryMsrLoadCount, 3).set(F.EntryMsrLoadAddress, RIG.data)
    );
    const { physical, v } = rig.cpu;
    const entry = (i: number, index: number, value: bigint): void => {
      physical.writeU64(RIG.data + i * 16, BigInt(index));
      physical.writeU64(RIG.data + i * 16 + 8, value);
    };
    entry(0, 0xc000_0102, 0x77n);
    entry(1, 0xc000_0100, 0n);
    assertEquals(enter(rig), 0);
    const reason = (ExitReason.EntryFailureMsrLoading | ENTRY_FAILURE) >>> 0;
    assertEquals(rig.vmcs.read32(F.ExitReason), reason);
    assertEquals(rig.vmcs.read(F.ExitQualification), 2n);
    // MSRs loaded before the failure stay.
    assertEquals(v.msr(MsrSlot.KernelGsBase), 0x77n);
    assertEquals(v.guestMode, GuestMode.None);
    assertEquals(rig.vmcs.launchState, 0);
  });

  it("injects events without touching CR2, DR6, DR7", () => {
    const rig = rigWith((d) =>
      d.set(F.EntryInterruptionInformation, 0x8000_0b0e)
        .set(F.EntryExceptionErrorCode, 6)
    );
    rig.cpu.v.cr2 = 0x1234n;
    assertEquals(enter(rig), 0);
    assertEquals(rig.delivered, [{
      event: { vector: 14, type: 3, errorCode: 6, instructionLength: 0 },
      payload: 0x1234n,
    }]);
    const soft = rigWith((d) =>
      d.set(F.EntryInterruptionInformation, 0x8000_0480)
        .set(F.EntryInstructionLength, 2)
    );
    enter(soft);
    assertEquals(soft.delivered[0].event, {
      vector: 0x80,
      type: 4,
      errorCode: -1,
      instructionLength: 2,
    });
  });

  it("discards pending debug exceptions by the injected event", () => {
    const pending = (info: number, blocking: number): number => {
      const rig = rigWith((d) =>
        d.set(F.EntryInterruptionInformation, info)
          .set(F.EntryInstructionLength, 1)
          .set(F.GuestInterruptibility, blocking)
          .set(F.GuestPendingDebug, 1)
      );
      assertEquals(enter(rig), 0);
      return rig.cpu.v.pendingDebug;
    };
    assertEquals(pending(0, 0), 1);
    assertEquals(pending(0x8000_0306, 0), 0);
    assertEquals(pending(0x8000_0603, 0), 0);
    assertEquals(pending(0x8000_0603, Interruptibility.ByMovSs), 1);
    assertEquals(pending(0x8000_0700, 0), 1);
  });

  it("keeps virtual-NMI blocking apart from NMI blocking", () => {
    const rig = rigWith((d) =>
      d.on(F.PinControls, Pin.NmiExiting | Pin.VirtualNmis)
        .set(F.GuestInterruptibility, Interruptibility.ByNmi)
    );
    const { v } = rig.cpu;
    enter(rig);
    assertEquals(v.interruptibility, 0);
    assertEquals(rig.port.keepsNmiBlocking(rig.cpu), true);
    vmExit(rig.unit, rig.cpu, { reason: ExitReason.Cpuid });
    assertEquals(rig.vmcs.read32(F.GuestInterruptibility), 0);
    const blocked = rigWith((d) =>
      d.on(F.PinControls, Pin.NmiExiting | Pin.VirtualNmis)
        .set(F.GuestInterruptibility, Interruptibility.ByNmi)
    );
    enter(blocked);
    vmExit(blocked.unit, blocked.cpu, { reason: ExitReason.Cpuid });
    assertEquals(
      blocked.vmcs.read32(F.GuestInterruptibility),
      Interruptibility.ByNmi,
    );
    assertEquals(blocked.cpu.v.interruptibility, 0);
  });
});

describe("VM exit", () => {
  it("saves what a VM entry loaded (every guest field, round trip)", () => {
    const rig = rigWith((d) => {
      d.on(
        F.ExitControls,
        Exit.SaveDebugControls | Exit.SavePat | Exit.SaveEfer,
      );
      d.on(
        F.EntryControls,
        Entry.LoadDebugControls | Entry.LoadPat | Entry.LoadEfer,
      );
      d.set(F.GuestEfer, Efer.LMA | Efer.LME).set(F.GuestDr7, 0x455);
      d.set(F.GuestPat, 0x0007_0406_0007_0406n);
      GUEST_SEGMENTS.forEach((s, i) => {
        if (i < 4) d.set(s.base, some(i));
        else d.set(s.base, some(i) | 0xffff_8000_0000_0000n);
      });
      d.set(F.GuestGdtrBase, some(9)).set(F.GuestIdtrBase, some(10));
      d.set(F.GuestSysenterCs, 8).set(F.GuestSysenterEsp, some(11));
      d.set(F.GuestSysenterEip, some(12)).set(F.GuestRsp, some(13));
      d.set(F.GuestRflags, 0x246).set(F.GuestPendingDebug, 2);
      d.set(F.GuestInterruptibility, Interruptibility.BySti);
    });
    const before = VMCS_FIELDS.map((r) => rig.vmcs.read(r.encoding));
    enter(rig);
    vmExit(rig.unit, rig.cpu, { reason: ExitReason.Cpuid });
    VMCS_FIELDS.forEach((row, i) => {
      if (row.encoding === F.ExitReason) return;
      assertEquals(rig.vmcs.read(row.encoding), before[i], row.name);
    });
  });

  it("loads host state", () => {
    const rig = rigWith((d) => {
      d.set(F.HostRsp, 0x6000).set(F.HostFsBase, 0x111)
        .set(F.HostGsBase, 0xffff_8000_0000_0222n).set(F.HostTrBase, 0x333)
        .set(F.HostGdtrBase, 0x444).set(F.HostIdtrBase, 0x555)
        .set(F.HostDsSelector, 0).set(F.HostSysenterCs, 9)
        .set(F.HostCr3, 0x7000);
    });
    enter(rig);
    const { v } = rig.cpu;
    v.setDr(7, 0x7ffn);
    vmExit(rig.unit, rig.cpu, { reason: ExitReason.Hlt });
    assertEquals(v.guestMode, GuestMode.None);
    assertEquals(v.rip, 0xffff_ffff_8000_0000n);
    assertEquals(v.gpr(4), 0x6000n);
    assertEquals(v.cr3, 0x7000);
    assertEquals(v.rflags, 2);
    assertEquals(v.dr(7), 0x400n);
    assertEquals(v.segment(Seg.CS), {
      selector: 8,
      base: 0n,
      limit: 0xffff_ffff,
      attributes: 0xa09b,
    });
    assertEquals(v.segAttributes(Seg.SS), 0xc093);
    assertEquals(v.segAttributes(Seg.DS), 0x1_0000);
    assertEquals(v.segBase(Seg.FS), 0x111n);
    assertEquals(v.segBase(Seg.GS), 0xffff_8000_0000_0222n);
    assertEquals(v.segment(Seg.TR), {
      selector: 0x18,
      base: 0x333n,
      limit: 0x67,
      attributes: 0x8b,
    });
    assertEquals(v.segAttributes(Seg.LDTR), 0x1_0000);
    assertEquals([v.gdtrBase, v.gdtrLimit], [0x444n, 0xffff]);
    assertEquals([v.idtrBase, v.idtrLimit], [0x555n, 0xffff]);
    assertEquals(v.msr(MsrSlot.SysenterCs), 9n);
    assertEquals(v.word(VCPU.tlbTag), 0);
    assertEquals(v.quad(VCPU.stage2Root), 0n);
    assertEquals(v.cpl, 0);
  });

  it("reports the event that was being delivered", () => {
    const rig = rigWith();
    enter(rig);
    const { cpu } = rig;
    cpu.delivering = {
      vector: 0x80,
      type: 4,
      errorCode: -1,
      instructionLength: 2,
    };
    cpu.v.stage2 = {
      misconfiguration: false,
      qualification: 0x182n,
      guestPhysicalAddress: 0x12345,
      guestLinearAddress: 0xabcden,
    };
    rig.port.stage2Fault(cpu);
    const { vmcs } = rig;
    assertEquals(vmcs.read32(F.ExitReason), ExitReason.EptViolation);
    assertEquals(vmcs.read(F.ExitQualification), 0x182n);
    assertEquals(vmcs.read(F.GuestPhysicalAddress), 0x12345n);
    assertEquals(vmcs.read(F.GuestLinearAddress), 0xabcden);
    assertEquals(vmcs.read32(F.IdtVectoringInformation), 0x8000_0480);
    assertEquals(vmcs.read32(F.ExitInstructionLength), 2);
    assertEquals(vmcs.read32(F.GuestRflags) & Rflags.RF, 0);
    assertEquals(cpu.delivering, undefined);
    const [fact] = rig.of(VmxExited);
    assertEquals(fact.idtVectoringInfo, 0x8000_0480);
  });

  it("stores and loads MSR areas", () => {
    const rig = rigWith((d) => {
      d.set(F.ExitMsrStoreCount, 1).set(F.ExitMsrStoreAddress, RIG.data);
      d.set(F.ExitMsrLoadCount, 1).set(F.ExitMsrLoadAddress, RIG.data + 16);
    });
    const { physical, v } = rig.cpu;
    physical.writeU64(RIG.data, 0xc000_0102n);
    physical.writeU64(RIG.data + 16, 0xc000_0102n);
    physical.writeU64(RIG.data + 24, 0xbeefn);
    enter(rig);
    v.setMsr(MsrSlot.KernelGsBase, 0xcafen);
    vmExit(rig.unit, rig.cpu, { reason: ExitReason.Hlt });
    assertEquals(physical.readU64(RIG.data + 8), 0xcafen);
    assertEquals(v.msr(MsrSlot.KernelGsBase), 0xbeefn);
    assertEquals(v.activity, ActivityState.Active);
  });

  it("aborts when a host MSR won't load", () => {
    const rig = rigWith((d) =>
      d.set(F.ExitMsrLoadCount, 1).set(F.ExitMsrLoadAddress, RIG.data)
    );
    rig.cpu.physical.writeU64(RIG.data, 0x8888n);
    enter(rig);
    vmExit(rig.unit, rig.cpu, { reason: ExitReason.Hlt });
    assertEquals(rig.cpu.v.activity, ActivityState.Shutdown);
    assertEquals(rig.cpu.physical.readU32(RIG.vmcs + 4), 4);
  });

  it("saves RF by the kind of exit", () => {
    const flags = (exit: (rig: VmxRig) => unknown, set: boolean): number => {
      const rig = rigWith((d) =>
        d.set(F.ExceptionBitmap, 1 << 13 | 1 << 1)
          .set(F.GuestRflags, set ? 0x1_0002 : 2)
      );
      enter(rig);
      exit(rig);
      return rig.vmcs.read32(F.GuestRflags) & Rflags.RF;
    };
    const fault = (vector: number) => (rig: VmxRig) => {
      rig.cpu.v.raise(vector, vector === 13 ? 0 : -1);
      assert(rig.port.interceptException(rig.cpu));
    };
    assertEquals(flags(fault(13), false), Rflags.RF);
    assertEquals(flags(fault(1), false), 0);
    const cpuid = (rig: VmxRig): boolean =>
      rig.port.intercept(rig.cpu, 1, rig.decode([0x0f, 0xa2]), 0);
    assertEquals(flags(cpuid, true), 0);
    const mtf = (rig: VmxRig): void =>
      vmExit(rig.unit, rig.cpu, { reason: ExitReason.MonitorTrapFlag });
    assertEquals(flags(mtf, true), Rflags.RF);
  });
});
