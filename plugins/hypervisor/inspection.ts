/**
 * What L1's policy says of a fetch of its L2, for inspection between steps:
 * walks of L2's paging and L1's EPT without any effect (reference §3.2).
 */
import { Cr0, Cr3, Rflags } from "../../cpu/arch/flags.ts";
import { PAGE_SIZE, Seg } from "../../cpu/layout.ts";
import { VmcsField as F } from "../vmx/api.ts";
import type { L2Code, L2Fetch } from "./api.ts";
import { eptp12Of, l2ToHost, policyOf } from "./context.ts";
import {
  type PagingState,
  translateLinear,
  type Translation,
} from "./guest_memory.ts";
import { type L0, NO_POINTER, vmcs12Of } from "./nested_state.ts";

/** Bit 13 of CS access rights: 64-bit code. */
const LONG = 1 << 13;
/** Bit 14 of access rights: default operation size, or stack size, 32. */
const BIG = 1 << 14;
/** Longest instruction. */
const LONGEST = 15;

function pagingOfL2(l0: L0): PagingState {
  const { v } = l0.cpu;
  if (l0.cells.inL2) {
    return { cr0: v.cr0, cr3: v.cr3, cr4: v.cr4, efer: v.efer };
  }
  const vmcs12 = vmcs12Of(l0);
  return {
    cr0: vmcs12.read32(F.GuestCr0),
    cr3: Number(vmcs12.read(F.GuestCr3) & Cr3.ADDRESS),
    cr4: vmcs12.read32(F.GuestCr4),
    efer: vmcs12.read32(F.GuestEfer),
  };
}

interface CodeSegment {
  readonly base: bigint;
  readonly attributes: number;
}

function codeSegment(l0: L0): CodeSegment {
  if (l0.cells.inL2) return l0.cpu.v.segment(Seg.CS);
  const vmcs12 = vmcs12Of(l0);
  return {
    base: vmcs12.read(F.GuestCsBase),
    attributes: vmcs12.read32(F.GuestCsAttributes),
  };
}

function linearOf({ base, attributes }: CodeSegment, rip: bigint): bigint {
  return attributes & LONG ? rip : BigInt.asUintN(32, base + rip);
}

function translate(l0: L0, linear: bigint): Translation | undefined {
  return translateLinear(
    l0.cpu.physical,
    pagingOfL2(l0),
    Number(linear / BigInt(PAGE_SIZE)),
    (page) => l2ToHost(l0, page),
    { accessed: false, dirty: false },
  );
}

/** See NestedVmx.fetchPolicy. */
export function fetchPolicy(l0: L0, rip: bigint): L2Fetch | undefined {
  if (l0.cells.vmptr12 === NO_POINTER || eptp12Of(l0) === 0n) return undefined;
  const translation = translate(l0, linearOf(codeSegment(l0), rip));
  if (translation === undefined) return undefined;
  return {
    user: translation.user,
    policy: policyOf(l0, translation.guestPage),
  };
}

/** See NestedVmx.codeAcross. */
export function codeAcross(l0: L0, rip: bigint): L2Code | undefined {
  if (l0.cells.vmptr12 === NO_POINTER) return undefined;
  const cs = codeSegment(l0);
  const linear = linearOf(cs, rip);
  if (Number(linear & 0xfffn) + LONGEST <= PAGE_SIZE) return undefined;
  const bytes: number[] = [];
  for (let at = linear; bytes.length < LONGEST;) {
    const page = translate(l0, at)?.guestPage;
    const host = page === undefined ? undefined : l2ToHost(l0, page);
    if (host === undefined) break;
    const offset = Number(at & 0xfffn);
    const n = Math.min(LONGEST - bytes.length, PAGE_SIZE - offset);
    bytes.push(...l0.cpu.physical.readBytes(host * PAGE_SIZE + offset, n));
    at += BigInt(n);
  }
  const size = (attributes: number): 16 | 32 => attributes & BIG ? 32 : 16;
  const ss = l0.cells.inL2
    ? l0.cpu.v.segAttributes(Seg.SS)
    : vmcs12Of(l0).read32(F.GuestSsAttributes);
  const long = (cs.attributes & LONG) !== 0;
  const rflags = l0.cells.inL2
    ? l0.cpu.v.rflags
    : vmcs12Of(l0).read32(F.GuestRflags);
  return {
    linear,
    bytes: Uint8Array.from(bytes),
    codeSize: long ? 64 : size(cs.attributes),
    stackSize: long ? 64 : size(ss),
    real: !(pagingOfL2(l0).cr0 & Cr0.PE) || (rflags & Rflags.VM) !== 0,
  };
}
