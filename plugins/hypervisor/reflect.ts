/**
 * Giving an exit of L2 to L1 (SDM 3C ch. 28 carried out on vmcs12): L2's state
 * from vmcs02 into vmcs12, exit information, then L1's host state from vmcs12
 * into vmcs01, from where hardware enters L1.
 */
import { Cr0, Cr4, Efer } from "../../cpu/arch/flags.ts";
import {
  effectiveControls,
  Entry,
  ENTRY_FAILURE,
  Exit,
  ExitReason,
  Interruption,
  InterruptionType,
  type Vmcs,
  VMCS_FIELDS,
  VmcsField as F,
} from "../vmx/api.ts";
import { contextOf } from "./context.ts";
import { NestedReflected, type ReflectedExit } from "./api.ts";
import { type L0, vmcs12Of } from "./nested_state.ts";
import { CR0_OWNED, CR4_OWNED, GUEST_SEGMENT_FIELDS } from "./vmcs01.ts";

const UNUSABLE = 0x1_0000n;
const DATA_RIGHTS = 0xc093n;
const CODE64_RIGHTS = 0xa09bn;
const CODE32_RIGHTS = 0xc09bn;
const TR_RIGHTS = 0x8bn;
const GUEST_TYPE = 2;
/** Guest-state fields that a VM exit saves whatever the controls say. */
const ALWAYS_SAVED = VMCS_FIELDS.filter((row) =>
  row.type === GUEST_TYPE &&
  !([
    F.GuestDr7,
    F.GuestDebugctl,
    F.GuestPat,
    F.GuestEfer,
    F.PreemptionTimer,
    F.VmcsLinkPointer,
    F.GuestSmbase,
  ] as number[]).includes(row.encoding)
);
/** Exit information that is copied as hardware gave it. */
const INFORMATION = [
  F.ExitInterruptionInformation,
  F.ExitInterruptionErrorCode,
  F.IdtVectoringInformation,
  F.IdtVectoringErrorCode,
  F.ExitInstructionLength,
  F.ExitInstructionInformation,
  F.GuestLinearAddress,
  F.GuestPhysicalAddress,
] as const;

/** CR0 bits that VM entries and exits leave alone (SDM 3C §28.5.1). */
const CR0_KEPT = 0x7ffa_ffd0;

/**
 * Reflects the exit that vmcs02 (current) holds; ends with vmcs01 current and
 * ready to resume.
 */
export function reflect(l0: L0, change: ReflectedExit = {}): void {
  const { operations: ops, cells, cpu } = l0;
  const vmcs12 = vmcs12Of(l0);
  const c12 = effectiveControls(vmcs12);
  const reason = change.reason ?? Number(ops.vmread(F.ExitReason));
  const failed = (reason & ENTRY_FAILURE) !== 0;
  l0.extension?.leaving(contextOf(l0));
  if (!failed) {
    saveL2(l0, vmcs12, c12.exit, c12.entry);
    for (const field of INFORMATION) vmcs12.write(field, ops.vmread(field));
    const entryInfo = vmcs12.read32(F.EntryInterruptionInformation);
    vmcs12.write32(
      F.EntryInterruptionInformation,
      entryInfo & ~Interruption.Valid,
    );
  }
  const qualification = change.qualification ??
    ops.vmread(F.ExitQualification);
  vmcs12.write32(F.ExitReason, reason);
  vmcs12.write(F.ExitQualification, qualification);
  if (change.guestLinear !== undefined) {
    vmcs12.write(F.GuestLinearAddress, change.guestLinear);
  }
  if (!failed) storeMsrs(l0, vmcs12);
  if (cpu.facts.wants(NestedReflected)) {
    cpu.facts.emit(NestedReflected, {
      cpu: cpu.index,
      vmcs12: cells.vmptr12,
      reason,
      qualification,
      guestPhysical: vmcs12.read(F.GuestPhysicalAddress),
      linear: vmcs12.read(F.GuestLinearAddress),
      rip: ops.vmread(F.GuestRip),
    });
  }
  const l2Cr0 = Number(ops.vmread(F.GuestCr0));
  const l2Efer = Number(ops.vmread(F.GuestEfer));
  const l2Pat = ops.vmread(F.GuestPat);
  const nmi = (reason & 0xffff) === ExitReason.ExceptionOrNmi &&
    (vmcs12.read32(F.ExitInterruptionInformation) & Interruption.TypeMask) ===
      InterruptionType.Nmi << Interruption.TypeShift;
  const blocked = Number(ops.vmread(F.GuestInterruptibility)) & 8;
  cells.inL2 = false;
  ops.vmptrld(cells.vmcs01);
  loadL1(l0, vmcs12, c12.exit, { l2Cr0, l2Efer, l2Pat });
  ops.vmwrite(F.GuestInterruptibility, BigInt(nmi ? 8 : blocked));
  loadHostMsrs(l0, vmcs12);
}

/**
 * A VM-entry failure that L0 found in vmcs12 (SDM 3C §27.8): L1 continues at
 * its host state with bit 31 of the exit reason set. vmcs01 is current.
 */
export function failEntry(
  l0: L0,
  reason: number,
  qualification: bigint,
): void {
  const { operations: ops } = l0;
  const vmcs12 = vmcs12Of(l0);
  vmcs12.write32(F.ExitReason, (reason | ENTRY_FAILURE) >>> 0);
  vmcs12.write(F.ExitQualification, qualification);
  loadL1(l0, vmcs12, vmcs12.read32(F.ExitControls), {
    l2Cr0: Number(ops.vmread(F.GuestCr0)),
    l2Efer: Number(ops.vmread(F.GuestEfer)),
    l2Pat: ops.vmread(F.GuestPat),
  });
  loadHostMsrs(l0, vmcs12);
}

/** SDM 3C §28.3. */
function saveL2(l0: L0, vmcs12: Vmcs, exit: number, entry: number): void {
  const { operations: ops, capabilities } = l0;
  for (const row of ALWAYS_SAVED) {
    if (!capabilities.fields.has(row.feature)) continue;
    const isPdpte = row.encoding >= F.GuestPdpte0 &&
      row.encoding <= F.GuestPdpte3;
    if (isPdpte && !usesPae(l0)) continue;
    vmcs12.write(row.encoding, ops.vmread(row.encoding));
  }
  const when = (control: number, fields: readonly number[]): void => {
    if (!(exit & control)) return;
    for (const field of fields) vmcs12.write(field, ops.vmread(field));
  };
  when(Exit.SaveDebugControls, [F.GuestDr7, F.GuestDebugctl]);
  when(Exit.SavePat, [F.GuestPat]);
  when(Exit.SaveEfer, [F.GuestEfer]);
  when(Exit.SavePreemptionTimer, [F.PreemptionTimer]);
  const long = (Number(ops.vmread(F.GuestEfer)) & Efer.LMA) !== 0;
  const now = long
    ? entry | Entry.Ia32eModeGuest
    : entry & ~Entry.Ia32eModeGuest;
  if (now !== entry) vmcs12.write32(F.EntryControls, now);
}

function usesPae(l0: L0): boolean {
  const read = (field: number): number => Number(l0.operations.vmread(field));
  return (read(F.GuestCr0) & Cr0.PG) !== 0 &&
    (read(F.GuestCr4) & Cr4.PAE) !== 0 &&
    (read(F.GuestEfer) & Efer.LMA) === 0;
}

/** MSRs of an area: 16 bytes each, index in the first four, value in the last eight. */
function storeMsrs(l0: L0, vmcs12: Vmcs): void {
  const { operations: ops, cpu: { physical } } = l0;
  const at = Number(vmcs12.read(F.ExitMsrStoreAddress));
  const count = vmcs12.read32(F.ExitMsrStoreCount);
  for (let i = 0; i < count; i++) {
    const index = physical.readU32(at + i * 16);
    physical.writeU64(at + i * 16 + 8, ops.rdmsr(index) ?? 0n);
  }
}

function loadHostMsrs(l0: L0, vmcs12: Vmcs): void {
  const { operations: ops, cpu: { physical } } = l0;
  const at = Number(vmcs12.read(F.ExitMsrLoadAddress));
  const count = vmcs12.read32(F.ExitMsrLoadCount);
  for (let i = 0; i < count; i++) {
    ops.wrmsr(physical.readU32(at + i * 16), physical.readU64(at + i * 16 + 8));
  }
}

/** SDM 3C §28.5, into vmcs01's guest state. */
function loadL1(
  l0: L0,
  vmcs12: Vmcs,
  exit: number,
  l2: { l2Cr0: number; l2Efer: number; l2Pat: bigint },
): void {
  const { operations: ops } = l0;
  const put = (field: number, value: bigint): void => ops.vmwrite(field, value);
  const from = (field: number): bigint => vmcs12.read(field);
  const long = (exit & Exit.HostAddressSpaceSize) !== 0;
  const cr0 = (vmcs12.read32(F.HostCr0) & ~CR0_KEPT | l2.l2Cr0 & CR0_KEPT) >>>
    0;
  const hostCr4 = vmcs12.read32(F.HostCr4);
  const cr4 = (long ? hostCr4 | Cr4.PAE : hostCr4 & ~Cr4.PCIDE) >>> 0;
  put(F.GuestCr0, BigInt((cr0 | CR0_OWNED) >>> 0));
  put(F.Cr0Shadow, BigInt(cr0));
  put(F.GuestCr3, from(F.HostCr3));
  put(F.GuestCr4, BigInt((cr4 | CR4_OWNED) >>> 0));
  put(F.Cr4Shadow, BigInt(cr4));
  put(F.GuestDr7, 0x400n);
  put(F.GuestDebugctl, 0n);
  put(F.GuestSysenterCs, from(F.HostSysenterCs));
  put(F.GuestSysenterEsp, from(F.HostSysenterEsp));
  put(F.GuestSysenterEip, from(F.HostSysenterEip));
  const both = Efer.LMA | Efer.LME;
  const efer = exit & Exit.LoadEfer
    ? vmcs12.read32(F.HostEfer)
    : (long ? l2.l2Efer | both : l2.l2Efer & ~both) >>> 0;
  put(F.GuestEfer, BigInt(efer));
  put(F.GuestPat, exit & Exit.LoadPat ? from(F.HostPat) : l2.l2Pat);
  const entry = Number(ops.vmread(F.EntryControls));
  put(
    F.EntryControls,
    BigInt(
      (long ? entry | Entry.Ia32eModeGuest : entry & ~Entry.Ia32eModeGuest) >>>
        0,
    ),
  );
  loadSegments(l0, vmcs12, long);
  put(F.GuestGdtrBase, from(F.HostGdtrBase));
  put(F.GuestGdtrLimit, 0xffffn);
  put(F.GuestIdtrBase, from(F.HostIdtrBase));
  put(F.GuestIdtrLimit, 0xffffn);
  put(F.GuestRip, from(F.HostRip));
  put(F.GuestRsp, from(F.HostRsp));
  put(F.GuestRflags, 2n);
  put(F.GuestActivity, 0n);
  put(F.GuestPendingDebug, 0n);
}

function loadSegments(l0: L0, vmcs12: Vmcs, long: boolean): void {
  const { operations: ops } = l0;
  const hosts = [
    [F.HostEsSelector, 0],
    [F.HostCsSelector, 0],
    [F.HostSsSelector, 0],
    [F.HostDsSelector, 0],
    [F.HostFsSelector, F.HostFsBase],
    [F.HostGsSelector, F.HostGsBase],
    [0, 0],
    [F.HostTrSelector, F.HostTrBase],
  ] as const;
  const CS = 1;
  const LDTR = 6;
  const TR = 7;
  GUEST_SEGMENT_FIELDS.forEach(([selector, base, limit, attributes], s) => {
    const [from, baseFrom] = hosts[s];
    const value = s === LDTR ? 0n : vmcs12.read(from);
    const unusable = s === LDTR ||
      (s !== CS && s !== TR && (value & 0xfffcn) === 0n);
    const rights = s === CS
      ? (long ? CODE64_RIGHTS : CODE32_RIGHTS)
      : s === TR
      ? TR_RIGHTS
      : DATA_RIGHTS;
    ops.vmwrite(selector, value);
    ops.vmwrite(base, baseFrom === 0 ? 0n : vmcs12.read(baseFrom));
    ops.vmwrite(limit, s === TR ? 0x67n : s === LDTR ? 0n : 0xffff_ffffn);
    ops.vmwrite(attributes, unusable ? UNUSABLE : rights);
  });
}
