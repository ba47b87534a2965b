/**
 * L1's VMX instructions, carried out by L0 on vmcs12 (SDM 3C ch. 31): the same
 * checks, errors and flags as hardware, from the exit's instruction
 * information.
 */
import { Vector } from "../../cpu/arch/exceptions.ts";
import { ARITHMETIC_FLAGS, Cr4, Efer, Rflags } from "../../cpu/arch/flags.ts";
import { PAGE_SIZE, Seg } from "../../cpu/layout.ts";
import {
  CheckGroup,
  effectiveControls,
  type EntryContext,
  errorOfGroup,
  ExitReason,
  FeatureControl,
  findField,
  firstFailure,
  LaunchState,
  Vmcs,
  VMCS_REGION,
  VmcsField as F,
  VmError,
} from "../vmx/api.ts";
import { NestedEntered } from "./api.ts";
import { complete, injectException, readGpr, writeGprs } from "./completion.ts";
import { dropShadows, eptp12Of, pagingState, useView } from "./context.ts";
import { contextOf } from "./context.ts";
import { translateLinear } from "./guest_memory.ts";
import { hostPage, type L0, NO_POINTER, vmcs12Of } from "./nested_state.ts";
import { failEntry } from "./reflect.ts";
import { buildVmcs02, inheritedFrom } from "./vmcs02.ts";
import { GUEST_SEGMENT_FIELDS, VPID_L2_DEFAULT } from "./vmcs01.ts";

/** Bit 10 of the instruction information: register operand. */
const REGISTER_OPERAND = 1 << 10;
const READ_ONLY_TYPE = 1;

/** Dispatches one VMX instruction exit of L1. */
export function vmxInstruction(l0: L0, reason: number): void {
  const { operations: ops, cells } = l0;
  const cr4 = Number(ops.vmread(F.Cr4Shadow));
  const ss = Number(ops.vmread(F.GuestSsAttributes));
  const cpl = (ss >>> 5) & 3;
  if (!(cr4 & Cr4.VMXE)) return injectException(l0, Vector.UD);
  if (reason !== ExitReason.Vmxon && cells.vmxon12 === NO_POINTER) {
    return injectException(l0, Vector.UD);
  }
  if (cpl > 0) return injectException(l0, Vector.GP, 0);
  switch (reason) {
    case ExitReason.Vmxon:
      return vmxon(l0);
    case ExitReason.Vmxoff:
      cells.vmxon12 = NO_POINTER;
      cells.vmptr12 = NO_POINTER;
      return succeed(l0);
    case ExitReason.Vmclear:
      return vmclear(l0);
    case ExitReason.Vmptrld:
      return vmptrld(l0);
    case ExitReason.Vmptrst:
      return vmptrst(l0);
    case ExitReason.Vmread:
      return vmread(l0);
    case ExitReason.Vmwrite:
      return vmwrite(l0);
    case ExitReason.Vmlaunch:
      return enter(l0, true);
    case ExitReason.Vmresume:
      return enter(l0, false);
    case ExitReason.Invept:
      return invept(l0);
    case ExitReason.Invvpid:
      return invvpid(l0);
    case ExitReason.Vmcall:
      return fail(l0, VmError.VmcallInRoot);
  }
}

function setFlags(l0: L0, flags: number): void {
  const { operations: ops } = l0;
  const old = Number(ops.vmread(F.GuestRflags));
  ops.vmwrite(
    F.GuestRflags,
    BigInt((old & ~ARITHMETIC_FLAGS | flags) >>> 0),
  );
}

/** VMsucceed. */
function succeed(l0: L0): void {
  setFlags(l0, 0);
  complete(l0);
}

/** VMfailInvalid. */
function failInvalid(l0: L0): void {
  setFlags(l0, Rflags.CF);
  complete(l0);
}

/** VMfail(error). */
function fail(l0: L0, error: number): void {
  if (l0.cells.vmptr12 === NO_POINTER) return failInvalid(l0);
  vmcs12Of(l0).write32(F.InstructionError, error);
  setFlags(l0, Rflags.ZF);
  complete(l0);
}

/** Linear address of the exit's memory operand. */
function operandAddress(l0: L0): bigint {
  const { operations: ops } = l0;
  const info = Number(ops.vmread(F.ExitInstructionInformation));
  const bits = [16, 32, 64][(info >>> 7) & 7];
  const segment = (info >>> 15) & 7;
  let offset = ops.vmread(F.ExitQualification);
  if (!(info & 1 << 22)) {
    offset += readGpr(l0, (info >>> 18) & 15) << BigInt(info & 3);
  }
  if (!(info & 1 << 27)) offset += readGpr(l0, (info >>> 23) & 15);
  offset = BigInt.asUintN(bits, offset);
  const long = (Number(ops.vmread(F.GuestCsAttributes)) & 1 << 13) !== 0;
  if (long && segment < Seg.FS) return offset;
  const base = ops.vmread(GUEST_SEGMENT_FIELDS[segment][1]);
  return BigInt.asUintN(long ? 64 : 32, base + offset);
}

/** Host-physical address of L1's linear address; injects #PF when it does not translate. */
function locate(l0: L0, linear: bigint, write: boolean): number | undefined {
  const translation = translateLinear(
    l0.cpu.physical,
    pagingState(l0),
    Number(linear >> 12n),
    (page) => hostPage(l0, page),
    { accessed: true, dirty: write },
  );
  if (translation === undefined) {
    l0.cpu.v.cr2 = linear;
    injectException(l0, Vector.PF, write ? 2 : 0);
    return undefined;
  }
  return hostPage(l0, translation.guestPage) * PAGE_SIZE +
    Number(linear & 0xfffn);
}

/** Reads eight bytes of L1's memory. */
function readOperand(l0: L0, linear: bigint): bigint | undefined {
  let value = 0n;
  const first = locate(l0, linear, false);
  if (first === undefined) return undefined;
  if ((linear & 0xfffn) <= 0xff8n) return l0.cpu.physical.readU64(first);
  for (let i = 0n; i < 8n; i++) {
    const at = locate(l0, BigInt.asUintN(64, linear + i), false);
    if (at === undefined) return undefined;
    value |= l0.cpu.physical.read(at, 1) << (i * 8n);
  }
  return value;
}

/** Writes `size` bytes of L1's memory, as the guest's own store would. */
function writeOperand(
  l0: L0,
  linear: bigint,
  size: number,
  value: bigint,
): boolean {
  const { cpu } = l0;
  const places: number[] = [];
  for (let i = 0; i < size; i++) {
    const at = locate(l0, BigInt.asUintN(64, linear + BigInt(i)), true);
    if (at === undefined) return false;
    places.push(at);
  }
  if (cpu.facts.observed) {
    let old = 0n;
    places.forEach((at, i) => {
      old |= cpu.physical.read(at, 1) << BigInt(i * 8);
    });
    cpu.facts.memoryWrote(cpu.index, linear, places[0], size, value, old);
  }
  places.forEach((at, i) =>
    cpu.physical.write(at, 1, (value >> BigInt(i * 8)) & 0xffn)
  );
  return true;
}

/** A page-aligned physical address that L1 can have. */
function validPointer(l0: L0, pointer: bigint): boolean {
  const limit = 1n << BigInt(l0.cpu.model.physicalAddressBits);
  return (pointer & 0xfffn) === 0n && pointer < limit;
}

function revisionAt(l0: L0, pointer: bigint): number {
  const page = hostPage(l0, Number(pointer >> 12n));
  return l0.cpu.physical.readU32(page * PAGE_SIZE + VMCS_REGION.revision);
}

function vmxon(l0: L0): void {
  const { cells } = l0;
  const needed = FeatureControl.Lock | FeatureControl.VmxonOutsideSmx;
  if ((Number(cells.featureControl) & needed) !== needed) {
    return injectException(l0, Vector.GP, 0);
  }
  const pointer = readOperand(l0, operandAddress(l0));
  if (pointer === undefined) return;
  if (cells.vmxon12 !== NO_POINTER) return fail(l0, VmError.VmxonInRoot);
  if (
    !validPointer(l0, pointer) ||
    revisionAt(l0, pointer) !== l0.cpu.model.vmcsRevision
  ) return failInvalid(l0);
  cells.vmxon12 = pointer;
  cells.vmptr12 = NO_POINTER;
  succeed(l0);
}

function vmclear(l0: L0): void {
  const { cells, cpu } = l0;
  const pointer = readOperand(l0, operandAddress(l0));
  if (pointer === undefined) return;
  if (!validPointer(l0, pointer)) {
    return fail(l0, VmError.VmclearInvalidAddress);
  }
  if (pointer === cells.vmxon12) return fail(l0, VmError.VmclearVmxonPointer);
  if (Number(pointer) < l0.guestBytes) {
    new Vmcs(cpu.physical, Number(pointer)).launchState = LaunchState.Clear;
  }
  if (pointer === cells.vmptr12) cells.vmptr12 = NO_POINTER;
  succeed(l0);
}

function vmptrld(l0: L0): void {
  const { cells } = l0;
  const pointer = readOperand(l0, operandAddress(l0));
  if (pointer === undefined) return;
  if (!validPointer(l0, pointer)) {
    return fail(l0, VmError.VmptrldInvalidAddress);
  }
  if (pointer === cells.vmxon12) return fail(l0, VmError.VmptrldVmxonPointer);
  if (
    Number(pointer) >= l0.guestBytes ||
    revisionAt(l0, pointer) !== l0.cpu.model.vmcsRevision
  ) return fail(l0, VmError.VmptrldIncorrectRevision);
  cells.vmptr12 = pointer;
  succeed(l0);
}

function vmptrst(l0: L0): void {
  if (writeOperand(l0, operandAddress(l0), 8, l0.cells.vmptr12)) succeed(l0);
}

/** The vmcs12 field that a register names, where L1's processor has it. */
function fieldOf(
  l0: L0,
  encoding: bigint,
): ReturnType<typeof findField> {
  if (encoding > 0xffff_ffffn) return undefined;
  const found = findField(Number(encoding));
  return found && l0.capabilities.fields.has(found.row.feature)
    ? found
    : undefined;
}

function vmread(l0: L0): void {
  const { operations: ops, cells } = l0;
  if (cells.vmptr12 === NO_POINTER) return failInvalid(l0);
  const info = Number(ops.vmread(F.ExitInstructionInformation));
  const found = fieldOf(l0, readGpr(l0, info >>> 28));
  if (found === undefined) return fail(l0, VmError.UnsupportedComponent);
  let value = vmcs12Of(l0).read(found.row.encoding);
  if (found.high) value >>= 32n;
  const long = (Number(ops.vmread(F.GuestEfer)) & Efer.LMA) !== 0 &&
    (Number(ops.vmread(F.GuestCsAttributes)) & 1 << 13) !== 0;
  if (!long) value &= 0xffff_ffffn;
  if (info & REGISTER_OPERAND) {
    writeGprs(l0, [[(info >>> 3) & 15, value]]);
  } else if (!writeOperand(l0, operandAddress(l0), long ? 8 : 4, value)) return;
  succeed(l0);
}

function vmwrite(l0: L0): void {
  const { operations: ops, cells } = l0;
  if (cells.vmptr12 === NO_POINTER) return failInvalid(l0);
  const info = Number(ops.vmread(F.ExitInstructionInformation));
  let value: bigint | undefined;
  if (info & REGISTER_OPERAND) value = readGpr(l0, (info >>> 3) & 15);
  else value = readOperand(l0, operandAddress(l0));
  if (value === undefined) return;
  const found = fieldOf(l0, readGpr(l0, info >>> 28));
  if (found === undefined) return fail(l0, VmError.UnsupportedComponent);
  if (found.row.type === READ_ONLY_TYPE) {
    return fail(l0, VmError.VmwriteReadOnly);
  }
  const vmcs12 = vmcs12Of(l0);
  if (found.high) {
    const low = vmcs12.read(found.row.encoding) & 0xffff_ffffn;
    value = low | (value & 0xffff_ffffn) << 32n;
  }
  vmcs12.write(found.row.encoding, value);
  succeed(l0);
}

function invept(l0: L0): void {
  const { operations: ops } = l0;
  const info = Number(ops.vmread(F.ExitInstructionInformation));
  const type = Number(readGpr(l0, info >>> 28) & 0xffff_ffffn);
  const eptp = readOperand(l0, operandAddress(l0));
  if (eptp === undefined) return;
  const high = readOperand(l0, BigInt.asUintN(64, operandAddress(l0) + 8n));
  if (high === undefined) return;
  const bad = type !== 1 && type !== 2 ||
    (type === 1 && (high !== 0n || !eptpOffered(l0, eptp)));
  if (bad) return fail(l0, VmError.InvalidInveptInvvpidOperand);
  dropShadows(l0, type === 1 ? eptp : 0n);
  succeed(l0);
}

/** Memory type, walk length and reserved bits of an EPT pointer for L1. */
function eptpOffered(l0: L0, eptp: bigint): boolean {
  const type = eptp & 7n;
  const limit = 1n << BigInt(l0.cpu.model.physicalAddressBits);
  return (type === 0n || type === 6n) && (eptp >> 3n & 7n) === 3n &&
    (eptp & 0xfc0n) === 0n && eptp < limit;
}

function invvpid(l0: L0): void {
  const { operations: ops } = l0;
  const info = Number(ops.vmread(F.ExitInstructionInformation));
  const type = Number(readGpr(l0, info >>> 28) & 0xffff_ffffn);
  const descriptor = readOperand(l0, operandAddress(l0));
  if (descriptor === undefined) return;
  const linear = readOperand(l0, BigInt.asUintN(64, operandAddress(l0) + 8n));
  if (linear === undefined) return;
  const bad = descriptor >> 16n !== 0n || type > 3 ||
    (type !== 2 && descriptor === 0n);
  if (bad) return fail(l0, VmError.InvalidInveptInvvpidOperand);
  // "All contexts" must not touch L1's own tag: flush what L1 can have used.
  const vpid = Number(descriptor);
  const result = ops.invvpid(type, vpid, linear);
  if (result !== 0) return fail(l0, VmError.InvalidInveptInvvpidOperand);
  succeed(l0);
}

/** VMLAUNCH and VMRESUME (SDM 3C ch. 27, on vmcs12). */
function enter(l0: L0, launch: boolean): void {
  const { operations: ops, cells, cpu } = l0;
  if (cells.vmptr12 === NO_POINTER) return failInvalid(l0);
  const vmcs12 = vmcs12Of(l0);
  const blocking = Number(ops.vmread(F.GuestInterruptibility));
  if (blocking & 2) return fail(l0, VmError.EntryMovSsBlocking);
  const clear = vmcs12.launchState === LaunchState.Clear;
  if (launch && !clear) return fail(l0, VmError.VmlaunchNonClear);
  if (!launch && clear) return fail(l0, VmError.VmresumeNonLaunched);
  const context: EntryContext = {
    vmcs: vmcs12,
    capabilities: l0.capabilities,
    model: l0.capabilities.model,
    controls: effectiveControls(vmcs12),
    longMode: (Number(ops.vmread(F.GuestEfer)) & Efer.LMA) !== 0,
    vmcsAddress: vmcs12.address,
    readU32: (address) => cpu.physical.readU32(address),
    readU64: (address) => cpu.physical.readU64(address),
  };
  for (const group of [CheckGroup.Controls, CheckGroup.Host]) {
    if (firstFailure(context, group)) return fail(l0, errorOfGroup(group));
  }
  const failure = firstFailure(context, CheckGroup.Guest);
  if (failure !== undefined) {
    return failEntry(
      l0,
      ExitReason.EntryFailureGuestState,
      failure.qualification ?? 0n,
    );
  }
  const rip = ops.vmread(F.GuestRip);
  const inherited = inheritedFrom(l0);
  vmcs12.launchState = LaunchState.Launched;
  ops.vmptrld(cells.vmcs02);
  buildVmcs02(l0, inherited);
  cells.inL2 = true;
  if (eptp12Of(l0) !== 0n) {
    if (l0.extension) l0.extension.entering(contextOf(l0));
    else useView(l0, 0);
  }
  // Without a VPID of its own, L2 starts with an empty TLB (SDM 3C §29.4.3.3).
  if (Number(ops.vmread(F.Vpid)) === VPID_L2_DEFAULT) {
    ops.invvpid(1, VPID_L2_DEFAULT, 0n);
  }
  ops.retired(rip);
  if (cpu.facts.wants(NestedEntered)) {
    cpu.facts.emit(NestedEntered, {
      cpu: cpu.index,
      vmcs12: cells.vmptr12,
      launch,
      rip: vmcs12.read(F.GuestRip),
    });
  }
}
