/**
 * VMX instructions: faults, VMfail conditions and effects (SDM 3C ch. 31), and
 * their exits in VMX non-root operation.
 */
import { assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { Vector } from "../../cpu/arch/exceptions.ts";
import { Cr4, Rflags } from "../../cpu/arch/flags.ts";
import { MsrSlot } from "../../cpu/arch/msr.ts";
import { Outcome } from "../../cpu/isa/row.ts";
import { Gpr, GuestMode, Seg, VCPU } from "../../cpu/layout.ts";
import { VmxEptpSwitched } from "./api.ts";
import { Secondary } from "./controls.ts";
import { validVmcs, type VmcsDraft } from "./entry_cases_testing.ts";
import { vmEntry } from "./entry.ts";
import { ExitReason, VmError } from "./exit_reasons.ts";
import { currentVmcs, hasFlag, VmxFlag } from "./scratch.ts";
import { RIG, VmxRig } from "./vmx_testing.ts";
import { VmcsField as F } from "./vmcs_fields.ts";

const VMXON = [0xf3, 0x0f, 0xc7, 0x30];
const VMCLEAR = [0x66, 0x0f, 0xc7, 0x30];
const VMPTRLD = [0x0f, 0xc7, 0x30];
const VMPTRST = [0x0f, 0xc7, 0x38];
/** VMREAD RBX, RAX and VMWRITE RAX, RBX: the field is in RAX. */
const VMREAD = [0x0f, 0x78, 0xc3];
const VMWRITE = [0x0f, 0x79, 0xc3];
const VMLAUNCH = [0x0f, 0x01, 0xc2];
const VMRESUME = [0x0f, 0x01, 0xc3];
const VMXOFF = [0x0f, 0x01, 0xc4];
const VMCALL = [0x0f, 0x01, 0xc1];
const VMFUNC = [0x0f, 0x01, 0xd4];
/** Type in RAX, descriptor at RBX. */
const INVEPT = [0x66, 0x0f, 0x38, 0x80, 0x03];
const INVVPID = [0x66, 0x0f, 0x38, 0x81, 0x03];

const INVALID = "invalid";
const OK = 0;

/** Result as software sees it: 0, "invalid", or the error number. */
function result(rig: VmxRig): number | string {
  const { rflags } = rig.cpu.v;
  if (rflags & Rflags.CF) return INVALID;
  return rflags & Rflags.ZF ? rig.vmcs.read32(F.InstructionError) : OK;
}

/** Executes with RAX pointing at a quadword that holds `pointer`. */
function withPointer(
  rig: VmxRig,
  bytes: readonly number[],
  pointer: number | bigint,
): number | string {
  const { cpu } = rig;
  cpu.physical.writeU64(RIG.data, BigInt(pointer));
  cpu.v.setGpr(Gpr.RAX, BigInt(RIG.data));
  assertEquals(rig.execute(bytes), Outcome.Done);
  return result(rig);
}

function fault(rig: VmxRig, bytes: readonly number[]): number | undefined {
  const outcome = rig.execute(bytes);
  const vector = rig.cpu.v.pending?.vector;
  rig.cpu.v.pending = undefined;
  return outcome === Outcome.Fault ? vector : undefined;
}

describe("VMXON and VMXOFF", () => {
  it("enter and leave VMX operation", () => {
    const rig = new VmxRig();
    const { v } = rig.cpu;
    assertEquals(withPointer(rig, VMXON, RIG.vmxon), OK);
    assertEquals(hasFlag(v, VmxFlag.Operation), true);
    assertEquals(currentVmcs(v), undefined);
    assertEquals(rig.port.initBlocked(rig.cpu), true);
    // A second one without a current VMCS, then with one.
    assertEquals(withPointer(rig, VMXON, RIG.vmxon), INVALID);
    assertEquals(withPointer(rig, VMPTRLD, RIG.vmcs), OK);
    assertEquals(withPointer(rig, VMXON, RIG.vmxon), VmError.VmxonInRoot);
    assertEquals(rig.execute(VMXOFF), Outcome.Done);
    assertEquals(hasFlag(v, VmxFlag.Operation), false);
    assertEquals(fault(rig, VMXOFF), Vector.UD);
  });

  it("refuse bad regions", () => {
    for (const region of [RIG.vmxon + 8, 2 ** 45, RIG.data + 0x1000]) {
      assertEquals(withPointer(new VmxRig(), VMXON, region), INVALID);
    }
  });

  it("fault by CR4.VMXE, CPL, fixed bits and IA32_FEATURE_CONTROL", () => {
    const faults = (prepare: (rig: VmxRig) => void): number | undefined => {
      const rig = new VmxRig();
      rig.cpu.v.setGpr(Gpr.RAX, BigInt(RIG.data));
      prepare(rig);
      return fault(rig, VMXON);
    };
    const { UD, GP } = Vector;
    assertEquals(faults(({ cpu: { v } }) => v.cr4 &= ~Cr4.VMXE), UD);
    assertEquals(faults(({ cpu: { v } }) => v.cpl = 3), GP);
    assertEquals(faults(({ cpu: { v } }) => v.cr0 &= ~0x20), GP);
    assertEquals(
      faults(({ cpu: { v } }) => v.setMsr(MsrSlot.FeatureControl, 4n)),
      GP,
    );
    assertEquals(
      faults(({ cpu: { v } }) => v.setMsr(MsrSlot.FeatureControl, 1n)),
      GP,
    );
    // Compatibility mode.
    assertEquals(
      faults(({ cpu: { v } }) =>
        v.setSegment(Seg.CS, { ...v.segment(Seg.CS), attributes: 0xc09b })
      ),
      UD,
    );
  });

  it("hold CR0 and CR4 to their fixed bits", () => {
    const rig = new VmxRig();
    const { cpu, port } = rig;
    assertEquals(port.crRefused(cpu, 4, cpu.v.cr4 & ~Cr4.VMXE), false);
    rig.operation();
    assertEquals(port.crRefused(cpu, 4, cpu.v.cr4 & ~Cr4.VMXE), true);
    assertEquals(port.crRefused(cpu, 0, cpu.v.cr0 & ~0x20), true);
    assertEquals(port.crRefused(cpu, 0, cpu.v.cr0 & ~1), true);
    assertEquals(port.crRefused(cpu, 0, cpu.v.cr0), false);
  });
});

describe("every VMX instruction", () => {
  it("is #UD outside VMX operation and #GP above CPL 0", () => {
    const all = [
      VMCLEAR,
      VMPTRLD,
      VMPTRST,
      VMREAD,
      VMWRITE,
      VMLAUNCH,
      VMRESUME,
      VMXOFF,
      VMCALL,
      INVEPT,
      INVVPID,
    ];
    for (const bytes of all) {
      const rig = new VmxRig();
      assertEquals(fault(rig, bytes), Vector.UD);
      rig.operation();
      rig.cpu.v.cpl = 3;
      assertEquals(fault(rig, bytes), Vector.GP);
      rig.cpu.v.cpl = 0;
      rig.cpu.v.cr0 &= ~1;
      assertEquals(fault(rig, bytes), Vector.UD);
    }
    assertEquals(fault(new VmxRig().operation(), VMFUNC), Vector.UD);
  });

  it("exits in VMX non-root operation, whatever the CPL", () => {
    const rows: [number[], number, bigint, number][] = [
      [VMCALL, ExitReason.Vmcall, 0n, 0],
      [VMLAUNCH, ExitReason.Vmlaunch, 0n, 0],
      [VMRESUME, ExitReason.Vmresume, 0n, 0],
      [VMXOFF, ExitReason.Vmxoff, 0n, 0],
      // VMCLEAR [RCX + RDX*8 + 0x10]; VMPTRLD GS:[RBX]; VMPTRST [R12].
      [
        [0x66, 0x0f, 0xc7, 0x74, 0xd1, 0x10],
        ExitReason.Vmclear,
        0x10n,
        3 | 2 << 7 | 3 << 15 | 2 << 18 | 1 << 23,
      ],
      [
        [0x65, 0x0f, 0xc7, 0x33],
        ExitReason.Vmptrld,
        0n,
        2 << 7 | 5 << 15 | 1 << 22 | 3 << 23,
      ],
      [
        [0x41, 0x0f, 0xc7, 0x3c, 0x24],
        ExitReason.Vmptrst,
        0n,
        2 << 7 | 3 << 15 | 1 << 22 | 12 << 23,
      ],
      // VMXON [RSP − 8]
      [
        [0xf3, 0x0f, 0xc7, 0x74, 0x24, 0xf8],
        ExitReason.Vmxon,
        0xffff_ffff_ffff_fff8n,
        2 << 7 | 2 << 15 | 1 << 22 | 4 << 23,
      ],
      // VMREAD RBX, RAX; VMWRITE RAX, RBX; VMREAD [RSI], R9
      [VMREAD, ExitReason.Vmread, 0n, 3 << 3 | 1 << 10],
      [VMWRITE, ExitReason.Vmwrite, 0n, 3 << 3 | 1 << 10],
      [
        [0x4c, 0x0f, 0x78, 0x0e],
        ExitReason.Vmread,
        0n,
        (2 << 7 | 3 << 15 | 1 << 22 | 6 << 23 | 9 << 28) >>> 0,
      ],
      // INVEPT RAX, [RBX]; INVVPID R10, [RIP + 0x100]
      [
        INVEPT,
        ExitReason.Invept,
        0n,
        2 << 7 | 3 << 15 | 1 << 22 | 3 << 23,
      ],
      [
        [0x66, 0x44, 0x0f, 0x38, 0x81, 0x15, 0, 1, 0, 0],
        ExitReason.Invvpid,
        0x1000n + 10n + 0x100n,
        (2 << 7 | 3 << 15 | 1 << 22 | 1 << 27 | 10 << 28) >>> 0,
      ],
    ];
    for (const [bytes, reason, qualification, information] of rows) {
      const rig = entered();
      rig.cpu.v.cpl = 3;
      assertEquals(rig.execute(bytes), Outcome.Exit);
      const { vmcs } = rig;
      assertEquals(vmcs.read32(F.ExitReason), reason);
      assertEquals(vmcs.read32(F.ExitInstructionLength), bytes.length);
      assertEquals(vmcs.read(F.ExitQualification), qualification);
      assertEquals(vmcs.read32(F.ExitInstructionInformation), information);
      assertEquals(rig.cpu.v.guestMode, GuestMode.None);
    }
  });
});

function entered(prepare: (d: VmcsDraft) => unknown = () => {}): VmxRig {
  const draft = validVmcs();
  draft.set(F.Eptp, RIG.eptPml4 | 0x1e);
  draft.set(F.GuestCr3, RIG.pml4);
  prepare(draft);
  const rig = new VmxRig().operation().load(draft);
  assertEquals(vmEntry(rig.unit, rig.cpu, true, 0n), 0);
  return rig;
}

describe("VMCLEAR, VMPTRLD, VMPTRST", () => {
  it("check their operand", () => {
    const rig = new VmxRig().operation();
    const cases: [number[], number, number][] = [
      [VMCLEAR, RIG.vmcs + 4, VmError.VmclearInvalidAddress],
      [VMCLEAR, 2 ** 44, VmError.VmclearInvalidAddress],
      [VMCLEAR, RIG.vmxon, VmError.VmclearVmxonPointer],
      [VMPTRLD, RIG.vmcs + 4, VmError.VmptrldInvalidAddress],
      [VMPTRLD, RIG.vmxon, VmError.VmptrldVmxonPointer],
      [VMPTRLD, RIG.data + 0x1000, VmError.VmptrldIncorrectRevision],
    ];
    for (const [bytes, pointer, error] of cases) {
      assertEquals(withPointer(rig, bytes, pointer), error);
    }
    rig.cpu.physical.writeU32(
      RIG.other,
      (rig.cpu.model.vmcsRevision | 0x8000_0000) >>> 0,
    );
    assertEquals(
      withPointer(rig, VMPTRLD, RIG.other),
      VmError.VmptrldIncorrectRevision,
    );
  });

  it("move the current VMCS", () => {
    const rig = new VmxRig().operation();
    const { cpu } = rig;
    assertEquals(withPointer(rig, VMPTRLD, RIG.other), OK);
    cpu.v.setGpr(Gpr.RAX, BigInt(RIG.data));
    assertEquals(rig.execute(VMPTRST), Outcome.Done);
    assertEquals(cpu.physical.readU64(RIG.data), BigInt(RIG.other));
    assertEquals(withPointer(rig, VMCLEAR, RIG.other), OK);
    cpu.v.setGpr(Gpr.RAX, BigInt(RIG.data));
    rig.execute(VMPTRST);
    assertEquals(cpu.physical.readU64(RIG.data), 0xffff_ffff_ffff_ffffn);
  });

  it("fault on their operand before anything else happens", () => {
    const rig = new VmxRig().operation();
    rig.cpu.v.setGpr(Gpr.RAX, 0x8000_0000_0000_0000n);
    assertEquals(fault(rig, VMPTRLD), Vector.GP);
    rig.cpu.v.setGpr(Gpr.RAX, 0x4000_0000n);
    assertEquals(fault(rig, VMCLEAR), Vector.PF);
    assertEquals(currentVmcs(rig.cpu.v), RIG.vmcs);
  });
});

describe("VMREAD and VMWRITE", () => {
  const access = (
    rig: VmxRig,
    bytes: number[],
    field: number | bigint,
    value = 0n,
    codeSize: 32 | 64 = 64,
  ): number | string => {
    rig.cpu.v.setGpr(Gpr.RAX, BigInt(field));
    rig.cpu.v.setGpr(Gpr.RBX, value);
    assertEquals(rig.execute(bytes, codeSize), Outcome.Done);
    return result(rig);
  };

  it("move fields, halves of 64-bit fields too", () => {
    const rig = new VmxRig().operation();
    const { v } = rig.cpu;
    const value = 0x1122_3344_5566_7788n;
    assertEquals(access(rig, VMWRITE, F.TscOffset, value), OK);
    assertEquals(access(rig, VMREAD, F.TscOffset | 1), OK);
    assertEquals(v.gpr(Gpr.RBX), 0x1122_3344n);
    assertEquals(access(rig, VMWRITE, F.TscOffset | 1, 0xaabb_ccddn), OK);
    access(rig, VMREAD, F.TscOffset);
    assertEquals(v.gpr(Gpr.RBX), 0xaabb_ccdd_5566_7788n);
    access(rig, VMWRITE, F.GuestEsSelector, 0x12345n);
    access(rig, VMREAD, F.GuestEsSelector);
    assertEquals(v.gpr(Gpr.RBX), 0x2345n);
  });

  it("refuse what does not exist or is read-only", () => {
    const rig = new VmxRig("haswell-server").operation();
    const { UnsupportedComponent, VmwriteReadOnly } = VmError;
    assertEquals(access(rig, VMREAD, 0x7ffe), UnsupportedComponent);
    assertEquals(access(rig, VMREAD, 0x1_0000_6800n), UnsupportedComponent);
    assertEquals(access(rig, VMREAD, F.TscMultiplier), UnsupportedComponent);
    assertEquals(access(rig, VMWRITE, F.TscMultiplier), UnsupportedComponent);
    assertEquals(access(rig, VMREAD, F.GuestRip | 1), UnsupportedComponent);
    assertEquals(access(rig, VMWRITE, F.ExitReason), VmwriteReadOnly);
    rig.cpu.v.setWord(VCPU.virtualization, VmxFlag.Operation);
    assertEquals(access(rig, VMREAD, F.GuestRip), INVALID);
    assertEquals(access(rig, VMWRITE, F.GuestRip), INVALID);
  });
});

describe("VMLAUNCH, VMRESUME, VMCALL", () => {
  it("fail without a current VMCS, in the wrong launch state", () => {
    const rig = new VmxRig().operation().load(validVmcs());
    rig.execute(VMRESUME);
    assertEquals(result(rig), VmError.VmresumeNonLaunched);
    rig.vmcs.launchState = 1;
    rig.execute(VMLAUNCH);
    assertEquals(result(rig), VmError.VmlaunchNonClear);
    rig.execute(VMCALL);
    assertEquals(result(rig), VmError.VmcallInRoot);
    rig.cpu.v.setWord(VCPU.virtualization, VmxFlag.Operation);
    rig.execute(VMLAUNCH);
    assertEquals(result(rig), INVALID);
  });

  it("complete by themselves on success", () => {
    const draft = validVmcs().set(F.Eptp, RIG.eptPml4 | 0x1e);
    const rig = new VmxRig().operation().load(draft);
    assertEquals(rig.execute(VMLAUNCH), Outcome.Exit);
    assertEquals(rig.cpu.v.rip, 0x1000n);
    assertEquals(rig.cpu.v.step, 1);
  });
});

describe("INVEPT and INVVPID", () => {
  const invalidate = (
    bytes: number[],
    type: number | bigint,
    low: bigint,
    high = 0n,
    model = "max-intel",
  ): number | string => {
    const rig = new VmxRig(model).operation();
    const { v, physical } = rig.cpu;
    physical.writeU64(RIG.data, low);
    physical.writeU64(RIG.data + 8, high);
    v.setGpr(Gpr.RAX, BigInt(type));
    v.setGpr(Gpr.RBX, BigInt(RIG.data));
    assertEquals(rig.execute(bytes), Outcome.Done);
    return result(rig);
  };
  const BAD = VmError.InvalidInveptInvvpidOperand;

  it("accept the types that the capability MSR shows", () => {
    const eptp = BigInt(RIG.eptPml4 | 0x1e);
    assertEquals(invalidate(INVEPT, 1, eptp), OK);
    assertEquals(invalidate(INVEPT, 2, 0xffffn), OK);
    assertEquals(invalidate(INVEPT, 1, eptp | 1n), BAD);
    assertEquals(invalidate(INVEPT, 1, eptp, 1n), BAD);
    assertEquals(invalidate(INVEPT, 0, eptp), BAD);
    assertEquals(invalidate(INVEPT, 3, eptp), BAD);
    assertEquals(invalidate(INVEPT, 0x1_0000_0001n, eptp), BAD);
    assertEquals(invalidate(INVVPID, 0, 5n, 0x1000n), OK);
    assertEquals(invalidate(INVVPID, 0, 5n, 1n << 60n), BAD);
    assertEquals(invalidate(INVVPID, 1, 5n), OK);
    assertEquals(invalidate(INVVPID, 1, 0n), BAD);
    assertEquals(invalidate(INVVPID, 1, 0x1_0005n), BAD);
    assertEquals(invalidate(INVVPID, 2, 0n), OK);
    assertEquals(invalidate(INVVPID, 3, 5n), OK);
    assertEquals(invalidate(INVVPID, 4, 5n), BAD);
  });

  it("are #UD where the processor lacks them", () => {
    assertEquals(
      fault(new VmxRig("max-intel,-vmx-ept").operation(), INVEPT),
      Vector.UD,
    );
    assertEquals(
      fault(new VmxRig("max-intel,-vmx-vpid").operation(), INVVPID),
      Vector.UD,
    );
  });
});

describe("VMFUNC", () => {
  const guest = (): VmxRig =>
    entered((d) =>
      d.on(F.SecondaryControls, Secondary.VmFunctions)
        .set(F.VmFunctionControls, 1).set(F.EptpListAddress, RIG.data)
    );

  it("leaf 0 switches the EPTP", () => {
    const rig = guest();
    const { v, physical } = rig.cpu;
    physical.writeU64(RIG.data + 3 * 8, 0x5000n | 0x1en);
    v.setGpr(Gpr.RAX, 0n);
    v.setGpr(Gpr.RCX, 3n);
    assertEquals(rig.execute(VMFUNC), Outcome.Done);
    assertEquals(v.quad(VCPU.stage2Root), 0x5000n);
    assertEquals(rig.vmcs.read(F.Eptp), 0x501en);
    assertEquals(rig.of(VmxEptpSwitched), [{
      cpu: 0,
      index: 3,
      eptp: 0x501en,
    }]);
  });

  it("exits for other leaves, indices and bad EPTPs", () => {
    for (const [leaf, index] of [[0, 512], [1, 0], [64, 0], [0, 4]]) {
      const rig = guest();
      rig.cpu.physical.writeU64(RIG.data + 4 * 8, 0x5000n | 0x1dn);
      rig.cpu.v.setGpr(Gpr.RAX, BigInt(leaf));
      rig.cpu.v.setGpr(Gpr.RCX, BigInt(index));
      assertEquals(rig.execute(VMFUNC), Outcome.Exit);
      assertEquals(rig.vmcs.read32(F.ExitReason), ExitReason.Vmfunc);
      assertEquals(rig.vmcs.read32(F.ExitInstructionLength), 3);
    }
    assertEquals(fault(entered(), VMFUNC), Vector.UD);
  });
});
