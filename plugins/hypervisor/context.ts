/**
 * The NestedContext that extensions get, and shadow filling for everybody. A
 * context is made for one exit and holds no state.
 */
import { Cr3, Rflags } from "../../cpu/arch/flags.ts";
import { Interruptibility, PAGE_SIZE } from "../../cpu/layout.ts";
import {
  effectiveControls,
  EptVpidCapability,
  Secondary,
  VmcsField as F,
} from "../vmx/api.ts";
import {
  type NestedContext,
  type PolicyEntry,
  type PolicyWalk,
  ShadowDropped,
  ShadowFilled,
} from "./api.ts";
import { injectException } from "./completion.ts";
import { type PagingState, translateLinear } from "./guest_memory.ts";
import { hostPage, type L0, vmcs12Of } from "./nested_state.ts";
import { reflect } from "./reflect.ts";
import { eptpOf } from "./shadow.ts";
import { walkPolicy } from "./tables.ts";

/** L1's EPT pointer for the current vmcs12, 0n when it uses none. */
export function eptp12Of(l0: L0): bigint {
  const vmcs12 = vmcs12Of(l0);
  const { secondary } = effectiveControls(vmcs12);
  return secondary & Secondary.Ept ? vmcs12.read(F.Eptp) : 0n;
}

/** Whether L1 set "mode-based execute control" for its L2. */
export function mbec12Of(l0: L0): boolean {
  const { secondary } = effectiveControls(vmcs12Of(l0));
  return (secondary & Secondary.ModeBasedExecute) !== 0;
}

/** Walks L1's EPT for one page. */
export function policyOf(l0: L0, guestPage: number): PolicyWalk {
  const { model, physical } = l0.cpu;
  const walk = walkPolicy(physical, eptp12Of(l0), guestPage, {
    executeOnly:
      (l0.capabilities.eptVpid & EptVpidCapability.ExecuteOnly) !== 0n,
    mbec: mbec12Of(l0),
    pages: 2 ** (model.physicalAddressBits - 12),
  });
  return walk;
}

/** Roots of L1's current hierarchy, making room when L0's memory is used up. */
export function shadowRoots(l0: L0): readonly number[] {
  const eptp12 = eptp12Of(l0);
  const mbec = mbec12Of(l0);
  const roots = l0.shadows.roots(eptp12, mbec);
  if (roots !== undefined) return roots;
  dropShadows(l0, 0n);
  const again = l0.shadows.roots(eptp12, mbec);
  if (again === undefined) throw new Error("L0's memory is used up");
  return again;
}

/** Drops shadows and the translations that came from them. */
export function dropShadows(l0: L0, eptp12: bigint): void {
  const { cpu, operations: ops } = l0;
  for (const root of l0.shadows.drop(eptp12)) ops.invept(1, eptpOf(root));
  l0.extension?.dropped(cpu.index, eptp12);
  if (cpu.facts.wants(ShadowDropped)) {
    cpu.facts.emit(ShadowDropped, { cpu: cpu.index, eptp12 });
  }
}

/** Puts a view's hierarchy into vmcs02, which is current. */
export function useView(l0: L0, view: number): void {
  l0.cells.view = view;
  l0.operations.vmwrite(F.Eptp, eptpOf(shadowRoots(l0)[view]));
}

/** Makes one shadow leaf with these hardware rights. */
export function fillShadow(
  l0: L0,
  view: number,
  guestPage: number,
  entry: PolicyEntry,
): void {
  const { cpu } = l0;
  const rights = l0.extension
    ? l0.extension.leafRights(contextOf(l0), view, guestPage, entry)
    : entry.rights;
  const page = hostPage(l0, entry.page);
  const bits = rights | entry.memoryType;
  if (!l0.shadows.map(shadowRoots(l0)[view], guestPage, page, bits)) {
    dropShadows(l0, 0n);
    useView(l0, view);
    l0.shadows.map(shadowRoots(l0)[view], guestPage, page, bits);
  }
  if (cpu.facts.wants(ShadowFilled)) {
    cpu.facts.emit(ShadowFilled, {
      cpu: cpu.index,
      view,
      eptp12: eptp12Of(l0),
      guestPhysical: BigInt(guestPage) << 12n,
      hostPhysical: BigInt(page) << 12n,
      rights: rights & 7 | (rights & 0x400 ? 8 : 0),
    });
  }
}

/** Paging state in the guest-state area of the current VMCS. */
export function pagingState(l0: L0): PagingState {
  const read = (field: number): number => Number(l0.operations.vmread(field));
  return {
    cr0: read(F.GuestCr0),
    cr3: Number(l0.operations.vmread(F.GuestCr3) & Cr3.ADDRESS),
    cr4: read(F.GuestCr4),
    efer: read(F.GuestEfer),
  };
}

/** L2 guest-physical page to host-physical page. */
export function l2ToHost(l0: L0, guestPage: number): number | undefined {
  if (eptp12Of(l0) === 0n) return hostPage(l0, guestPage);
  const walk = policyOf(l0, guestPage);
  return walk.kind === "mapped" ? hostPage(l0, walk.entry.page) : undefined;
}

/** The context of the L2 exit being dealt with. */
export function contextOf(l0: L0): NestedContext {
  return {
    cpu: l0.cpu,
    operations: l0.operations,
    vmcs12: vmcs12Of(l0),
    eptp12: eptp12Of(l0),
    policy: (page) => policyOf(l0, page),
    useView: (view) => useView(l0, view),
    forget(page) {
      l0.shadows.unmap(shadowRoots(l0), page);
      for (const root of shadowRoots(l0)) l0.operations.invept(1, eptpOf(root));
    },
    fill: (view, page, entry) => fillShadow(l0, view, page, entry),
    dropShadows: () => dropShadows(l0, eptp12Of(l0)),
    readL2: (linear, length) => readL2(l0, linear, length),
    paging: () => pagingState(l0),
    translate: (linear) =>
      translateLinear(
        l0.cpu.physical,
        pagingState(l0),
        Number(linear >> 12n),
        (page) => l2ToHost(l0, page),
        { accessed: false, dirty: false },
      ),
    keepVectoring: () => keepVectoring(l0),
    inject: (vector, errorCode) => injectException(l0, vector, errorCode),
    reflect: (change) => reflect(l0, change),
  };
}

/** Bit 12 of the qualification: NMI unblocking due to IRET. */
const NMI_UNBLOCKING = 0x1000n;
/** Enabled breakpoints in DR7 (SDM 3B §17.2.4). */
const BREAKPOINTS = 0xffn;

/**
 * What an EPT violation that L0 serves interrupted begins again on resuming: an
 * event's delivery, or an instruction.
 */
export function keepVectoring(l0: L0): void {
  const { operations: ops } = l0;
  const info = ops.vmread(F.IdtVectoringInformation);
  if (!(info & 0x8000_0000n)) {
    if (ops.vmread(F.ExitQualification) & NMI_UNBLOCKING) blockNmi(l0);
    return restoreResumeFlag(l0);
  }
  ops.vmwrite(F.EntryInterruptionInformation, info & ~0x1000n);
  ops.vmwrite(F.EntryExceptionErrorCode, ops.vmread(F.IdtVectoringErrorCode));
  ops.vmwrite(F.EntryInstructionLength, ops.vmread(F.ExitInstructionLength));
}

/** An IRET that unblocked NMIs and exited runs again: they are blocked until it does. */
function blockNmi({ operations: ops }: L0): void {
  const blocking = Number(ops.vmread(F.GuestInterruptibility));
  const blocked = blocking | Interruptibility.ByNmi;
  ops.vmwrite(F.GuestInterruptibility, BigInt(blocked));
}

/**
 * The exit set RF in the saved RFLAGS (SDM 3C §28.3.3), which L1 could see
 * between two iterations of a string instruction. Before it, RF was as at the
 * entry if nothing completed since, else 0; except behind an IRET that set it,
 * so with breakpoints on it stays.
 */
function restoreResumeFlag({ operations: ops, cells, cpu }: L0): void {
  const first = cells.entryStep === cpu.v.step;
  if (!first && ops.vmread(F.GuestDr7) & BREAKPOINTS) return;
  const flags = Number(ops.vmread(F.GuestRflags)) & ~Rflags.RF;
  const own = first && cells.entryRf ? Rflags.RF : 0;
  ops.vmwrite(F.GuestRflags, BigInt((flags | own) >>> 0));
}

function readL2(
  l0: L0,
  linear: bigint,
  length: number,
): Uint8Array | undefined {
  const out = new Uint8Array(length);
  const state = pagingState(l0);
  for (let done = 0; done < length;) {
    const at = BigInt.asUintN(64, linear + BigInt(done));
    const offset = Number(at & 0xfffn);
    const translation = translateLinear(
      l0.cpu.physical,
      state,
      Number(at >> 12n),
      (page) => l2ToHost(l0, page),
      { accessed: false, dirty: false },
    );
    const host = translation && l2ToHost(l0, translation.guestPage);
    if (host === undefined) return undefined;
    const n = Math.min(length - done, PAGE_SIZE - offset);
    const bytes = l0.cpu.physical.readBytes(host * PAGE_SIZE + offset, n);
    if (bytes.length < n) return undefined;
    out.set(bytes, done);
    done += n;
  }
  return out;
}
