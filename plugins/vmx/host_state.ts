/**
 * Loading host state on a VM exit or VM-entry failure (SDM 3C §28.5).
 */
import { Cr4, Efer } from "../../cpu/arch/flags.ts";
import { MsrSlot } from "../../cpu/arch/msr.ts";
import type { CpuContext } from "../../cpu/context.ts";
import {
  ActivityState,
  Gpr,
  GuestMode,
  Interruptibility,
  Seg,
  VCPU,
} from "../../cpu/layout.ts";
import { validPdpte } from "./check_values.ts";
import { type ControlWords, Exit } from "./controls.ts";
import { CR0_KEPT, paePaging } from "./guest_state.ts";
import type { Vmcs } from "./vmcs.ts";
import { VmcsField as F } from "./vmcs_fields.ts";

const UNUSABLE = 0x1_0000;
/** Present, S = 1, DPL 0, type 3, G, and D/B. */
const DATA_RIGHTS = 0xc093;
/** Present, S = 1, DPL 0, type 11, G; L or D/B by the address space. */
const CODE_RIGHTS = 0x809b;
const TR_RIGHTS = 0x8b;

const DATA_SEGMENTS: readonly (readonly [number, number, number])[] = [
  [Seg.ES, F.HostEsSelector, 0],
  [Seg.SS, F.HostSsSelector, 0],
  [Seg.DS, F.HostDsSelector, 0],
  [Seg.FS, F.HostFsSelector, F.HostFsBase],
  [Seg.GS, F.HostGsSelector, F.HostGsBase],
];

/**
 * Loads host state.
 * @param nmi the exit is due to an NMI, which stays blocked
 * @returns false when host PDPTEs are invalid: a VMX abort (SDM 3C §28.7)
 */
export function loadHostState(
  cpu: CpuContext,
  vmcs: Vmcs,
  c: ControlWords,
  nmi: boolean,
): boolean {
  const { v } = cpu;
  const long = (c.exit & Exit.HostAddressSpaceSize) !== 0;
  v.cr0 = ((vmcs.read32(F.HostCr0) & ~CR0_KEPT) | (v.cr0 & CR0_KEPT)) >>> 0;
  v.cr3Full = vmcs.read(F.HostCr3);
  const cr4 = vmcs.read32(F.HostCr4);
  v.cr4 = (long ? cr4 | Cr4.PAE : cr4 & ~Cr4.PCIDE) >>> 0;
  v.setDr(7, 0x400n);
  v.setMsr(MsrSlot.DebugCtl, 0n);
  v.setMsr(MsrSlot.SysenterCs, vmcs.read(F.HostSysenterCs));
  v.setMsr(MsrSlot.SysenterEsp, vmcs.read(F.HostSysenterEsp));
  v.setMsr(MsrSlot.SysenterEip, vmcs.read(F.HostSysenterEip));
  if (c.exit & Exit.LoadEfer) v.efer = vmcs.read32(F.HostEfer);
  else {
    const both = Efer.LMA | Efer.LME;
    v.efer = (long ? v.efer | both : v.efer & ~both) >>> 0;
  }
  if (c.exit & Exit.LoadPat) v.setMsr(MsrSlot.Pat, vmcs.read(F.HostPat));

  v.setSegment(Seg.CS, {
    selector: vmcs.read32(F.HostCsSelector),
    base: 0n,
    limit: 0xffff_ffff,
    attributes: CODE_RIGHTS | (long ? 1 << 13 : 1 << 14),
  });
  for (const [segment, field, base] of DATA_SEGMENTS) {
    const selector = vmcs.read32(field);
    v.setSegment(segment, {
      selector,
      // FS and GS bases are loaded even when the selector is null.
      base: base === 0 ? 0n : vmcs.read(base),
      limit: 0xffff_ffff,
      // In 64-bit mode a null SS stays usable at CPL 0 for stack accesses;
      // the manual still marks it unusable.
      attributes: (selector & 0xfffc) === 0 ? UNUSABLE : DATA_RIGHTS,
    });
  }
  v.setSegment(Seg.TR, {
    selector: vmcs.read32(F.HostTrSelector),
    base: vmcs.read(F.HostTrBase),
    limit: 0x67,
    attributes: TR_RIGHTS,
  });
  v.setSegment(Seg.LDTR, {
    selector: 0,
    base: 0n,
    limit: 0,
    attributes: UNUSABLE,
  });
  v.setGdtr(vmcs.read(F.HostGdtrBase), 0xffff);
  v.setIdtr(vmcs.read(F.HostIdtrBase), 0xffff);
  v.rip = vmcs.read(F.HostRip);
  v.setGpr(Gpr.RSP, vmcs.read(F.HostRsp));
  v.rflags = 2;
  v.cpl = 0;
  v.activity = ActivityState.Active;
  v.interruptibility = nmi
    ? Interruptibility.ByNmi
    : v.interruptibility & Interruptibility.ByNmi;
  v.pendingDebug = 0;
  v.guestMode = GuestMode.None;
  v.setWord(VCPU.tlbTag, 0);
  v.setQuad(VCPU.stage2Root, 0n);
  v.setWord(VCPU.stage2Flags, 0);
  if (!paePaging(v)) return true;
  const base = Math.floor((v.cr3 % 2 ** 32) / 32) * 32;
  for (let i = 0; i < 4; i++) {
    const entry = cpu.physical.readU64(base + i * 8);
    if (!validPdpte(entry, cpu.model)) return false;
    v.setPdpte(i, entry);
  }
  return true;
}
