/**
 * The L0 hypervisor model (design §8): its facts, its memory rule, and the
 * `NestedExtension` by which techniques such as software MBEC change how it
 * offers VMX again to the guest hypervisor (L1).
 */
import {
  bool,
  defineEvent,
  defineService,
  u32,
  u64,
  u8,
} from "../../core/mod.ts";
import type { CpuContext } from "../../cpu/context.ts";
import type { VmxFeature } from "../../cpu/arch/models.ts";
import { ExitReason, type RootOperations, type Vmcs } from "../vmx/api.ts";

/**
 * Bytes of RAM that L0 keeps for itself, above the guest's memory. A machine
 * with this plugin has that much RAM more than its scenario says.
 */
export const L0_RESERVE_BYTES = 16 * 2 ** 20;

/** L0 entered L2 for L1. */
export const NestedEntered = defineEvent({
  name: "hypervisor.nested-entered",
  version: 1,
  kind: "fact",
  doc: "L1's VMLAUNCH or VMRESUME was carried out: L2 runs",
  fields: {
    cpu: u8("vCPU"),
    vmcs12: u64("Guest-physical address of L1's VMCS"),
    launch: bool("VMLAUNCH (else VMRESUME)"),
    rip: u64("L2 RIP"),
  },
});

/** L0 gave an exit of L2 to L1. */
export const NestedReflected = defineEvent({
  name: "hypervisor.reflected",
  version: 1,
  kind: "fact",
  doc: "An exit of L2 was given to L1, its vmcs12 holding the exit information",
  fields: {
    cpu: u8("vCPU"),
    vmcs12: u64("Guest-physical address of L1's VMCS"),
    reason: u32("Exit reason as L1 sees it"),
    qualification: u64("Exit qualification as L1 sees it"),
    guestPhysical: u64("Guest-physical address as L1 sees it"),
    linear: u64("Guest-linear address as L1 sees it"),
    rip: u64("L2 RIP"),
  },
});

/** L0 dealt with an exit itself. */
export const ExitHandled = defineEvent({
  name: "hypervisor.exit-handled",
  version: 1,
  kind: "fact",
  doc: "L0 dealt with a VM exit itself and resumed",
  fields: {
    cpu: u8("vCPU"),
    level: u8("1: exit of L1, 2: exit of L2"),
    reason: u32("Basic exit reason"),
    cost: u32("Modelled cost of the exit in host cycles; never virtual time"),
  },
});

/** A shadow entry was made. */
export const ShadowFilled = defineEvent({
  name: "hypervisor.shadow-filled",
  version: 1,
  kind: "fact",
  doc: "L0 made a leaf entry in a shadow hierarchy from L1's EPT",
  fields: {
    cpu: u8("vCPU"),
    view: u8("View number of the hierarchy"),
    eptp12: u64("L1's EPT pointer"),
    guestPhysical: u64("L2 guest-physical address of the page"),
    hostPhysical: u64("Host-physical address of the page"),
    rights: u8("R W X XU of the entry made, bits 0 to 3"),
  },
});

/** Shadow hierarchies were dropped. */
export const ShadowDropped = defineEvent({
  name: "hypervisor.shadow-dropped",
  version: 1,
  kind: "fact",
  doc: "L0 dropped shadow hierarchies: L1 executed INVEPT, or memory ran out",
  fields: { cpu: u8("vCPU"), eptp12: u64("L1's EPT pointer, 0 for all") },
});

/** Effective rights that L1's EPT gives to an L2 guest-physical page. */
export interface PolicyEntry {
  /** All levels' R, W, XS, XU ANDed (bits 0, 1, 2, 10 of EPT entries). */
  readonly rights: number;
  /** Page in L1's guest-physical memory, which is host-physical too. */
  readonly page: number;
  /** Memory type of the leaf, bits 5:3 of the entry. */
  readonly memoryType: number;
  /** Bits of 4-KiB pages in the leaf (0, 9, 18). */
  readonly sizeShift: number;
}

/** Outcome of walking L1's EPT in software. */
export type PolicyWalk =
  | { readonly kind: "mapped"; readonly entry: PolicyEntry }
  | { readonly kind: "absent" }
  | { readonly kind: "misconfigured" };

/** What an extension may work with while an L2 runs. */
export interface NestedContext {
  readonly cpu: CpuContext;
  readonly operations: RootOperations;
  /** L1's VMCS, in L1's memory. */
  readonly vmcs12: Vmcs;
  /** L1's EPT pointer, 0n when it uses none. */
  readonly eptp12: bigint;
  /** Walks L1's EPT without effect. */
  policy(guestPhysicalPage: number): PolicyWalk;
  /** Makes `view`'s hierarchy the one in force in vmcs02. */
  useView(view: number): void;
  /** Removes one page from every view of the current hierarchy. */
  forget(guestPhysicalPage: number): void;
  /** Makes the shadow leaf of `view` for a page from L1's entry. */
  fill(view: number, guestPhysicalPage: number, entry: PolicyEntry): void;
  /** Drops every shadow of the current EPT pointer. */
  dropShadows(): void;
  /** Reads L2 memory through L2's own paging and L1's EPT; undefined where it does not translate. */
  readL2(linear: bigint, length: number): Uint8Array | undefined;
  /** Paging state of L2 in the guest-state area of vmcs02. */
  paging(): L2Paging;
  /** Translates a linear address of L2 to its guest-physical page, without effect. */
  translate(linear: bigint): L2Translation | undefined;
  /** Begins again, on resuming, the delivery or instruction that this exit interrupted. */
  keepVectoring(): void;
  /** Raises an exception in L2 on resuming. @param errorCode −1 for none */
  inject(vector: number, errorCode: number): void;
  /** Gives the exit to L1 with these fields replaced. */
  reflect(change?: ReflectedExit): void;
}

/** CR0, CR3, CR4 and EFER of L2. */
export interface L2Paging {
  readonly cr0: number;
  readonly cr3: number;
  readonly cr4: number;
  readonly efer: number;
}

/** A linear page of L2. */
export interface L2Translation {
  readonly guestPage: number;
  /** All entries have U/S = 1 (true with paging off). */
  readonly user: boolean;
}

/** What of an exit L1 shall see differently from what hardware said. */
export interface ReflectedExit {
  readonly reason?: number;
  readonly qualification?: bigint;
  readonly guestLinear?: bigint;
}

/** How a violation in the shadow of a misconfigured entry of L1 is given to it. */
export const MISCONFIGURATION: ReflectedExit = {
  reason: ExitReason.EptMisconfiguration,
  qualification: 0n,
  guestLinear: 0n,
};

/** What an extension decided about an exit of L2. */
export const Decision = {
  /** Not mine: L0 goes on as without the extension. */
  Default: 0,
  /** Dealt with: resume L2. */
  Resume: 1,
  /** Given to L1 by `context.reflect`. */
  Reflected: 2,
} as const;
/** One of `Decision`. */
export type DecisionCode = typeof Decision[keyof typeof Decision];

/** A technique plugged into nested VMX. */
export interface NestedExtension {
  /** VMX features offered to L1 although the hardware lacks them. */
  readonly offers: readonly VmxFeature[];
  /** Number of views of each of L1's hierarchies. */
  readonly views: number;
  /** R, W, X, XU bits of a shadow leaf in `view`, as hardware shall judge them. */
  leafRights(
    context: NestedContext,
    view: number,
    guestPhysicalPage: number,
    entry: PolicyEntry,
  ): number;
  /** vmcs02 is complete for an entry that L1 asked for; choose the view, set traps. */
  entering(context: NestedContext): void;
  /** An exit of L2, before anything else looks at it. */
  exited(context: NestedContext, reason: number): DecisionCode;
  /** The exit is about to be given to L1: vmcs02 must hold nothing of ours. */
  leaving(context: NestedContext): void;
  /** Shadows of an EPT pointer were dropped (0n: all). */
  dropped(cpu: number, eptp12: bigint): void;
}

/** An exception of L1 that made it exit. */
export interface L1Fault {
  readonly cpu: CpuContext;
  readonly vector: number;
  /** −1 for none. */
  readonly errorCode: number;
  /** #PF: linear address. */
  readonly linear: bigint;
  readonly rip: bigint;
  readonly rsp: bigint;
  readonly rflags: number;
  readonly cr3: bigint;
  /** It was met while another event was being delivered (SDM 3C §28.2.4). */
  readonly delivering: boolean;
}

/** Where L1 goes on instead of its exception handler. */
export interface L1Redirection {
  readonly rip: bigint;
  readonly rax: bigint;
}

/** Who looks at L1's exceptions before L1 does. */
export interface ExceptionWatcher {
  /** @returns undefined: L1 gets its exception unchanged */
  exception(fault: L1Fault): L1Redirection | undefined;
}

/** Exceptions of L1 for one watcher outside it. */
export interface L1ExceptionControl {
  /** @throws ConfigError when there is a watcher already */
  watch(watcher: ExceptionWatcher): void;
  /** Sets the exception bitmap of L1 (bit = vector); between steps only. */
  intercept(cpu: number, bitmap: number): void;
  /** Whose registers the vCPU holds: 1 or 2. */
  level(cpu: number): 1 | 2;
}
/** Token of that control. */
export const L1Exceptions = defineService<L1ExceptionControl>(
  "hypervisor.l1-exceptions",
  { doc: "Exceptions of L1 for one watcher outside it" },
);

/** What L1's policy says of a fetch of its L2. */
export interface L2Fetch {
  /** The linear address is a user-mode one. */
  readonly user: boolean;
  readonly policy: PolicyWalk;
}

/** L2's code at an address, for a decoder. */
export interface L2Code {
  readonly linear: bigint;
  /** Up to 15 bytes: as many as L2's paging and L1's EPT map. */
  readonly bytes: Uint8Array;
  readonly codeSize: 16 | 32 | 64;
  readonly stackSize: 16 | 32 | 64;
  /** Real-address or virtual-8086 mode. */
  readonly real: boolean;
}

/** Where an extension registers itself. */
export interface NestedVmx {
  /** @throws ConfigError when there is one already */
  extend(extension: NestedExtension): void;
  /**
   * L1's policy for L2's fetch from CS offset `rip`, without effect and at any
   * time: L2's paging comes from the vCPU while L2 runs, else from vmcs12.
   * @returns undefined where L2's paging does not translate, and without vmcs12
   */
  fetchPolicy(cpu: number, rip: bigint): L2Fetch | undefined;
  /**
   * What lies at CS offset `rip` of L2 and how it is decoded; as fetchPolicy.
   * @returns undefined too where no instruction reaches the next page
   */
  codeAcross(cpu: number, rip: bigint): L2Code | undefined;
}
/** Token of nested VMX. */
export const Nested = defineService<NestedVmx>("hypervisor.nested", {
  doc: "What L0 does for its guest's VMX, and hooks into it",
});
