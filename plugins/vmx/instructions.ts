/**
 * VMX instructions (SDM 3C ch. 31): fault conditions, operands, and the flags
 * that report VMsucceed, VMfailInvalid and VMfailValid (SDM 3C §31.2).
 *
 * Order of each: #UD conditions, the VM exit in VMX non-root operation, #GP at
 * CPL > 0, operand faults, then the operation.
 */
import {
  ARITHMETIC_FLAGS,
  Cr0,
  Cr4,
  Efer,
  Rflags,
  SegmentRights,
} from "../../cpu/arch/flags.ts";
import type { CpuContext } from "../../cpu/context.ts";
import { type Insn, OperandKind } from "../../cpu/isa/insn.ts";
import { Outcome, type OutcomeCode } from "../../cpu/isa/row.ts";
import { Gpr, GuestMode, Seg } from "../../cpu/layout.ts";
import {
  failed,
  gp,
  readMemory,
  ud,
  writeMemory,
} from "../../cpu/semantics/system/common.ts";
import { VMFAIL_INVALID, type VmResult, VmxEptpSwitched } from "./api.ts";
import { EPTP_LIST_ENTRIES, EptVpidCapability } from "./capabilities.ts";
import { physicalAddress } from "./check_values.ts";
import { Secondary, VmFunction } from "./controls.ts";
import { eptpValidFor } from "./entry_checks_controls.ts";
import { setStage2, vmEntry } from "./entry.ts";
import { vmExit } from "./exit.ts";
import { VmError } from "./exit_reasons.ts";
import { VMX_INSTRUCTION_EXITS } from "./intercepts.ts";
import {
  enterOperation,
  invept,
  invvpid,
  leaveOperation,
  vmclear,
  vmFail,
  vmptrld,
  vmxonAllowed,
} from "./operations.ts";
import { currentVmcs, hasFlag, VmxFlag } from "./scratch.ts";
import type { VmxUnit } from "./unit.ts";
import {
  FieldType,
  FieldWidth,
  findField,
  VmcsField as F,
} from "./vmcs_fields.ts";

/** Sets the flags for a result. */
function report(cpu: CpuContext, result: VmResult): OutcomeCode {
  const { v } = cpu;
  const flags = v.rflags & ~ARITHMETIC_FLAGS;
  if (result === 0) v.rflags = flags >>> 0;
  else if (result === VMFAIL_INVALID) v.rflags = (flags | Rflags.CF) >>> 0;
  else v.rflags = (flags | Rflags.ZF) >>> 0;
  return Outcome.Done;
}

/** Real mode, virtual-8086 mode, compatibility mode: #UD for all but VMCALL in guests. */
function modeRefused(cpu: CpuContext): boolean {
  const { v } = cpu;
  if (!(v.cr0 & Cr0.PE) || v.rflags & Rflags.VM) return true;
  return (v.efer & Efer.LMA) !== 0 &&
    !(v.segAttributes(Seg.CS) & SegmentRights.Long);
}

type Operation = (
  unit: VmxUnit,
  cpu: CpuContext,
  insn: Insn,
) => OutcomeCode;

/** Reads the 64-bit memory operand and hands it to `then`. */
const pointer = (
  then: (unit: VmxUnit, cpu: CpuContext, address: bigint) => VmResult,
): Operation =>
(unit, cpu, insn) => {
  const address = readMemory(cpu, insn, 8);
  if (address === undefined) return failed(cpu);
  return report(cpu, then(unit, cpu, address));
};

function vmxon(unit: VmxUnit, cpu: CpuContext, insn: Insn): OutcomeCode {
  const { v } = cpu;
  if (hasFlag(v, VmxFlag.Operation)) {
    if (v.cpl > 0) return gp(cpu);
    return report(cpu, vmFail(unit, cpu, VmError.VmxonInRoot));
  }
  if (v.cpl > 0 || !vmxonAllowed(unit, cpu)) return gp(cpu);
  const region = readMemory(cpu, insn, 8);
  if (region === undefined) return failed(cpu);
  if (!physicalAddress(region, 12, cpu.model)) {
    return report(cpu, VMFAIL_INVALID);
  }
  return report(cpu, enterOperation(unit, cpu, Number(region)));
}

function vmptrst(_unit: VmxUnit, cpu: CpuContext, insn: Insn): OutcomeCode {
  const address = currentVmcs(cpu.v);
  const value = address === undefined
    ? 0xffff_ffff_ffff_ffffn
    : BigInt(address);
  const outcome = writeMemory(cpu, insn, 8, value);
  return outcome === Outcome.Done ? report(cpu, 0) : outcome;
}

/** Bytes of the register or memory operand: 8 in 64-bit mode, else 4. */
const operandBytes = (insn: Insn): number => insn.codeSize === 64 ? 8 : 4;

/** Field number of VMREAD (operand 1) or VMWRITE (operand 0), as a bigint. */
function fieldNumber(cpu: CpuContext, insn: Insn, operand: number): bigint {
  const value = cpu.v.gpr(insn.operands[operand].reg);
  return insn.codeSize === 64 ? value : value & 0xffff_ffffn;
}

function existingField(unit: VmxUnit, number: bigint) {
  if (number > 0x7fffn) return undefined;
  const found = findField(Number(number));
  return found !== undefined &&
      unit.capabilities.fields.has(found.row.feature)
    ? found
    : undefined;
}

function vmread(unit: VmxUnit, cpu: CpuContext, insn: Insn): OutcomeCode {
  const vmcs = unit.current(cpu);
  if (vmcs === undefined) return report(cpu, VMFAIL_INVALID);
  const found = existingField(unit, fieldNumber(cpu, insn, 1));
  if (found === undefined) {
    return report(cpu, vmFail(unit, cpu, VmError.UnsupportedComponent));
  }
  const full = vmcs.read(found.row.encoding);
  const value = found.high ? full >> 32n : full;
  const target = insn.operands[0];
  if (target.kind === OperandKind.Memory) {
    const outcome = writeMemory(cpu, insn, operandBytes(insn), value);
    if (outcome !== Outcome.Done) return outcome;
  } else {
    const long = insn.codeSize === 64;
    cpu.v.setGpr(target.reg, long ? value : value & 0xffff_ffffn);
  }
  return report(cpu, 0);
}

function vmwrite(unit: VmxUnit, cpu: CpuContext, insn: Insn): OutcomeCode {
  const vmcs = unit.current(cpu);
  if (vmcs === undefined) return report(cpu, VMFAIL_INVALID);
  const from = insn.operands[1];
  let value: bigint;
  if (from.kind === OperandKind.Memory) {
    const read = readMemory(cpu, insn, operandBytes(insn));
    if (read === undefined) return failed(cpu);
    value = read;
  } else {
    value = cpu.v.gpr(from.reg);
    if (insn.codeSize !== 64) value &= 0xffff_ffffn;
  }
  const found = existingField(unit, fieldNumber(cpu, insn, 0));
  if (found === undefined) {
    return report(cpu, vmFail(unit, cpu, VmError.UnsupportedComponent));
  }
  const { row, high } = found;
  if (row.type === FieldType.ReadOnly) {
    return report(cpu, vmFail(unit, cpu, VmError.VmwriteReadOnly));
  }
  if (high) {
    const low = vmcs.read(row.encoding) & 0xffff_ffffn;
    vmcs.write(row.encoding, (value & 0xffff_ffffn) << 32n | low);
  } else if (row.width === FieldWidth.Quad && insn.codeSize !== 64) {
    // Outside 64-bit mode a full 64-bit field gets its high half cleared.
    vmcs.write(row.encoding, value & 0xffff_ffffn);
  } else vmcs.write(row.encoding, value);
  return report(cpu, 0);
}

const launch = (isLaunch: boolean): Operation => (unit, cpu, insn) => {
  const result = vmEntry(unit, cpu, isLaunch, insn.rip);
  // On success it has retired already, before whatever the entry injected.
  return result === 0 ? Outcome.Exit : report(cpu, result);
};

function inveptInstruction(
  unit: VmxUnit,
  cpu: CpuContext,
  insn: Insn,
): OutcomeCode {
  const type = invalidationType(cpu, insn);
  const low = readMemory(cpu, insn, 8);
  if (low === undefined) return failed(cpu);
  const high = readMemory(cpu, insn, 8, 8n);
  if (high === undefined) return failed(cpu);
  return report(cpu, invept(unit, cpu, type, low, high));
}

function invvpidInstruction(
  unit: VmxUnit,
  cpu: CpuContext,
  insn: Insn,
): OutcomeCode {
  const type = invalidationType(cpu, insn);
  const low = readMemory(cpu, insn, 8);
  if (low === undefined) return failed(cpu);
  const linear = readMemory(cpu, insn, 8, 8n);
  if (linear === undefined) return failed(cpu);
  const vpid = Number(low & 0xffffn);
  const reserved = low >> 16n !== 0n;
  return report(cpu, invvpid(unit, cpu, type, vpid, linear, reserved));
}

/** Register operand of INVEPT and INVVPID; anything above 2^31 is no type. */
function invalidationType(cpu: CpuContext, insn: Insn): number {
  const value = cpu.v.gpr(insn.operands[0].reg);
  const type = insn.codeSize === 64 ? value : value & 0xffff_ffffn;
  return type > 0x7fff_ffffn ? 0x7fff_ffff : Number(type);
}

const OPERATIONS: Readonly<Record<string, Operation>> = {
  VMXON: vmxon,
  VMXOFF: (_unit, cpu) => {
    leaveOperation(cpu);
    return report(cpu, 0);
  },
  VMCLEAR: pointer(vmclear),
  VMPTRLD: pointer(vmptrld),
  VMPTRST: vmptrst,
  VMREAD: vmread,
  VMWRITE: vmwrite,
  VMLAUNCH: launch(true),
  VMRESUME: launch(false),
  VMCALL: (unit, cpu) => report(cpu, vmFail(unit, cpu, VmError.VmcallInRoot)),
  INVEPT: inveptInstruction,
  INVVPID: invvpidInstruction,
};

/** Names of the rows that `executeVmx` serves. */
export const VMX_INSTRUCTIONS: readonly string[] = [
  ...Object.keys(OPERATIONS),
  "VMFUNC",
];

/** #UD: wrong mode, outside VMX operation, or not on this processor. */
function undefinedHere(unit: VmxUnit, cpu: CpuContext, name: string): boolean {
  const { v } = cpu;
  const guest = v.guestMode === GuestMode.Vmx;
  if (name === "VMFUNC") {
    return !guest ||
      !(unit.controls(cpu).secondary & Secondary.VmFunctions);
  }
  // VMCALL exits from any mode; the others are #UD outside protected and 64-bit mode.
  if (!(name === "VMCALL" && guest) && modeRefused(cpu)) return true;
  if (name === "VMXON" ? !(v.cr4 & Cr4.VMXE) : !hasFlag(v, VmxFlag.Operation)) {
    return true;
  }
  const { eptVpid } = unit.capabilities;
  if (name === "INVEPT") return !(eptVpid & EptVpidCapability.Invept);
  return name === "INVVPID" && !(eptVpid & EptVpidCapability.Invvpid);
}

/**
 * A VMX instruction in VMX non-root operation: exits unless it is #UD or a
 * VMFUNC that can be done. @returns whether it exited
 */
export function interceptVmx(
  unit: VmxUnit,
  cpu: CpuContext,
  insn: Insn,
): boolean {
  const { name } = insn.row;
  if (undefinedHere(unit, cpu, name)) return false;
  if (name === "VMFUNC" && switchTarget(unit, cpu) !== undefined) return false;
  const { reason, report } = VMX_INSTRUCTION_EXITS[name];
  vmExit(unit, cpu, {
    reason,
    instructionLength: insn.length,
    resumeFlag: false,
    ...report?.(insn),
  });
  return true;
}

/** Executes a VMX instruction that did not exit. */
export function executeVmx(
  unit: VmxUnit,
  cpu: CpuContext,
  insn: Insn,
): OutcomeCode {
  const { v } = cpu;
  const { name } = insn.row;
  if (undefinedHere(unit, cpu, name)) return ud(cpu);
  if (name === "VMFUNC") return switchEptp(unit, cpu);
  if (v.cpl > 0 && name !== "VMXON") return gp(cpu);
  return OPERATIONS[name](unit, cpu, insn);
}

/**
 * EPTP that VMFUNC in VMX non-root operation would put in force; undefined
 * where it exits instead (SDM 3C §26.5.6).
 */
function switchTarget(unit: VmxUnit, cpu: CpuContext): bigint | undefined {
  const { v } = cpu;
  const vmcs = unit.guest(cpu);
  const enabled = vmcs.read(F.VmFunctionControls) &
    BigInt(VmFunction.EptpSwitching);
  // EPTP switching is leaf 0, the only one there is.
  if (v.gpr32(Gpr.RAX) !== 0 || enabled === 0n) return undefined;
  const index = v.gpr32(Gpr.RCX);
  if (index >= EPTP_LIST_ENTRIES) return undefined;
  const list = Number(vmcs.read(F.EptpListAddress));
  const eptp = cpu.physical.readU64(list + index * 8);
  const { eptVpid } = unit.capabilities;
  return eptpValidFor(eptp, eptVpid, cpu.model) ? eptp : undefined;
}

/** VMFUNC leaf 0. */
function switchEptp(unit: VmxUnit, cpu: CpuContext): OutcomeCode {
  const eptp = switchTarget(unit, cpu);
  if (eptp === undefined) {
    throw new RangeError("VMFUNC that exits was executed");
  }
  unit.guest(cpu).write(F.Eptp, eptp);
  setStage2(unit, cpu, eptp, unit.controls(cpu).secondary);
  unit.port.dropGrants(cpu.index);
  if (cpu.facts.wants(VmxEptpSwitched)) {
    const index = cpu.v.gpr32(Gpr.RCX);
    cpu.facts.emit(VmxEptpSwitched, { cpu: cpu.index, index, eptp });
  }
  return Outcome.Done;
}
