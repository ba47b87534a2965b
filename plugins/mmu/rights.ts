/**
 * Whether a translation's rights permit an access (SDM 3A §4.6; stage 2:
 * 3C §29.3.2 and, for execution, §29.3.3.1 / table of MBEC). The same judgement
 * serves TLB hits and walks.
 */
import { PageFaultError } from "../../cpu/arch/exceptions.ts";
import { Cr0, Cr4, Efer, Rflags } from "../../cpu/arch/flags.ts";
import { MsrSlot } from "../../cpu/arch/msr.ts";
import { Stage2Flags, VCPU } from "../../cpu/layout.ts";
import { Access } from "../../cpu/port.ts";
import type { Vcpu } from "../../cpu/vcpu.ts";
import { Attribute } from "./formats.ts";

/** The access is made by the user: CPL 3 and not an implicit system access. */
export function isUser(v: Vcpu, access: number): boolean {
  return (access & Access.User) !== 0 ||
    ((access & Access.System) === 0 && v.cpl === 3);
}

/** Stage 2 translates now; its root may lie at physical page 0. */
export function stage2InForce(v: Vcpu): boolean {
  return (v.word(VCPU.stage2Flags) & (Stage2Flags.Ept | Stage2Flags.Npt)) !== 0;
}

/**
 * SDM 3A §4.6.2: the key of a user page is judged by PKRU, of a supervisor
 * page by IA32_PKRS; fetches never are. Implicit accesses are judged alike.
 */
export function keyDenies(
  v: Vcpu,
  attributes: number,
  access: number,
): boolean {
  if (access & Access.Fetch || !(v.efer & Efer.LMA)) return false;
  const userPage = (attributes & Attribute.U) !== 0;
  if (!(v.cr4 & (userPage ? Cr4.PKE : Cr4.PKS))) return false;
  const rights = userPage
    ? v.word(VCPU.pkru)
    : v.word(VCPU.msrs + MsrSlot.Pkrs * 8);
  const own = rights >>> ((attributes >>> Attribute.KeyShift) & 15) * 2;
  if (own & 1) return true;
  if (!(own & 2)) return false;
  const write = (access & (Access.Write | Access.ReadForWrite)) !== 0;
  return write && ((v.cr0 & Cr0.WP) !== 0 || isUser(v, access));
}

/** SDM 3A §4.6.1 and §4.6.2: guest paging's rights. */
export function guestPermits(
  v: Vcpu,
  attributes: number,
  access: number,
): boolean {
  if (!(v.cr0 & Cr0.PG)) return true;
  if (keyDenies(v, attributes, access)) return false;
  const write = (access & (Access.Write | Access.ReadForWrite)) !== 0;
  const userPage = (attributes & Attribute.U) !== 0;
  if (isUser(v, access)) {
    if (!userPage) return false;
    if (access & Access.Fetch) return (attributes & Attribute.NX) === 0;
    return !write || (attributes & Attribute.W) !== 0;
  }
  if (access & Access.Fetch) {
    if (userPage && v.cr4 & Cr4.SMEP) return false;
    return (attributes & Attribute.NX) === 0;
  }
  if (userPage && v.cr4 & Cr4.SMAP) {
    const explicit = (access & Access.System) === 0;
    if (!explicit || !(v.rflags & Rflags.AC)) return false;
  }
  return !write || (attributes & Attribute.W) !== 0 || !(v.cr0 & Cr0.WP);
}

/**
 * Stage-2 rights. A fetch is judged by the mode of its linear address with MBEC,
 * by the CPL with GMET (APM 2 §15.25); else XS2 holds for both.
 */
export function stage2Permits(
  v: Vcpu,
  flags: number,
  attributes: number,
  access: number,
): boolean {
  if (access & Access.Fetch) {
    let user = false;
    if (flags & Stage2Flags.Gmet) user = isUser(v, access);
    else if (flags & Stage2Flags.Mbec) {
      user = !(v.cr0 & Cr0.PG) || (attributes & Attribute.U) !== 0;
    }
    return (attributes & (user ? Attribute.XU2 : Attribute.XS2)) !== 0;
  }
  if (access & (Access.Write | Access.ReadForWrite)) {
    if (!(attributes & Attribute.W2)) return false;
    if (access & Access.Write) return true;
  }
  return (attributes & Attribute.R2) !== 0;
}

/** #PF error code (SDM 3A §4.7). @param bits Present, Reserved and ProtectionKey, as the walk found */
export function pageFaultCode(v: Vcpu, access: number, bits: number): number {
  let code = bits;
  if (access & (Access.Write | Access.ReadForWrite)) {
    code |= PageFaultError.Write;
  }
  if (isUser(v, access)) code |= PageFaultError.User;
  if (access & Access.Fetch) {
    const nx = (v.cr4 & Cr4.PAE) !== 0 && (v.efer & Efer.NXE) !== 0;
    if (nx || v.cr4 & Cr4.SMEP) code |= PageFaultError.Fetch;
  }
  return code;
}
