/**
 * What L1's policy says of a fetch of its L2, for inspection between steps:
 * walks of L2's paging and L1's EPT without any effect (reference §3.2).
 */
import { PAGE_SIZE, Seg } from "../../cpu/layout.ts";
import { VmcsField as F } from "../vmx/api.ts";
import type { L2Fetch } from "./api.ts";
import { eptp12Of, l2ToHost, policyOf } from "./context.ts";
import { type PagingState, translateLinear } from "./guest_memory.ts";
import { type L0, NO_POINTER, vmcs12Of } from "./nested_state.ts";

/** Bit 13 of CS access rights: 64-bit code. */
const LONG = 1 << 13;

function pagingOfL2(l0: L0): PagingState {
  const { v } = l0.cpu;
  if (l0.cells.inL2) {
    return { cr0: v.cr0, cr3: v.cr3, cr4: v.cr4, efer: v.efer };
  }
  const vmcs12 = vmcs12Of(l0);
  return {
    cr0: vmcs12.read32(F.GuestCr0),
    cr3: Number(vmcs12.read(F.GuestCr3)),
    cr4: vmcs12.read32(F.GuestCr4),
    efer: vmcs12.read32(F.GuestEfer),
  };
}

function linearOf(l0: L0, rip: bigint): bigint {
  const vmcs12 = vmcs12Of(l0);
  const { base, attributes } = l0.cells.inL2 ? l0.cpu.v.segment(Seg.CS) : {
    base: vmcs12.read(F.GuestCsBase),
    attributes: vmcs12.read32(F.GuestCsAttributes),
  };
  return attributes & LONG ? rip : BigInt.asUintN(32, base + rip);
}

/** See NestedVmx.fetchPolicy. */
export function fetchPolicy(l0: L0, rip: bigint): L2Fetch | undefined {
  if (l0.cells.vmptr12 === NO_POINTER || eptp12Of(l0) === 0n) return undefined;
  const linear = linearOf(l0, rip);
  const translation = translateLinear(
    l0.cpu.physical,
    pagingOfL2(l0),
    Number(linear / BigInt(PAGE_SIZE)),
    (page) => l2ToHost(l0, page),
    { accessed: false, dirty: false },
  );
  if (translation === undefined) return undefined;
  return {
    user: translation.user,
    policy: policyOf(l0, translation.guestPage),
  };
}
