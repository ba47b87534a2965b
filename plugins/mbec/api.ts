/**
 * Software mode-based execute control (patent US20180173551A1; design §8): its
 * facts, the constants they use, and what the oracle may ask.
 */
import { defineEvent, defineService, u64, u8 } from "../../core/mod.ts";

/** Shadow hierarchies of one policy. */
export const View = {
  /** In force while L2 is at CPL 3, or without paging. */
  User: 0,
  /** In force while L2 is at CPL 0–2. */
  Supervisor: 1,
} as const;

/** How L2 came from user to supervisor mode, or why else a view was switched. */
export const SwitchPath = {
  /** L1's VM entry. */
  Entry: 0,
  Syscall: 1,
  Sysenter: 2,
  /** INT n. */
  SoftwareInterrupt: 3,
  /** Any exception, INT3, INTO and INT1 included. */
  Exception: 4,
  ExternalInterrupt: 5,
  Nmi: 6,
  /** First supervisor fetch from a page that the user view withholds. */
  EntryPage: 7,
  /** Another instruction that was run again without traps. */
  Rerun: 8,
  /** A fetch violation found the view that fits the privilege (de-escalation). */
  Violation: 9,
  /** CR0.PG changed. */
  Paging: 10,
  /** Exact mode chose by the walk of the next instruction. */
  Exact: 11,
} as const;

/** Titles of SwitchPath, by value. */
export const SWITCH_PATH_TITLES: readonly string[] = [
  "VM entry",
  "SYSCALL",
  "SYSENTER",
  "INT n",
  "exception",
  "external interrupt",
  "NMI",
  "entry page",
  "rerun",
  "violation",
  "paging",
  "exact step",
];

/** The view in force for L2 changed. */
export const ViewSwitched = defineEvent({
  name: "mbec.view-switched",
  version: 1,
  kind: "fact",
  doc: "Another shadow hierarchy became the one in force for L2",
  fields: {
    cpu: u8("vCPU"),
    from: u8("View before: 0 user, 1 supervisor"),
    to: u8("View now"),
    path: u8("SwitchPath"),
    cpl: u8("CPL of L2"),
    rip: u64("RIP of L2"),
  },
});

/** A row of the decision table fired. */
export const Decided = defineEvent({
  name: "mbec.decided",
  version: 1,
  kind: "fact",
  doc: "An EPT violation of L2 was decided by a row of the decision table",
  fields: {
    cpu: u8("vCPU"),
    row: u8("Row number of decision.ts"),
    view: u8("View in force"),
    cpl: u8("CPL of L2"),
    access: u8("Access of the violation: bit 0 read, 1 write, 2 fetch"),
    rights: u8("L1's rights: R W XS XU, bits 0 to 3"),
    guestPhysical: u64("L2 guest-physical address"),
    linear: u64("L2 linear address"),
  },
});

/** Something trapped that the processor would have run silently with MBEC. */
export const Trapped = defineEvent({
  name: "mbec.trapped",
  version: 1,
  kind: "fact",
  doc: "An escalation trap of the user view fired",
  fields: {
    cpu: u8("vCPU"),
    path: u8("SwitchPath that the instruction stands for"),
    vector: u8("Vector of the exit; 0 if it was none"),
    rip: u64("RIP of L2"),
  },
});

/** The emulation allowed more or less than hardware would have. */
export const PolicySlack = defineEvent({
  name: "mbec.policy-slack",
  version: 1,
  kind: "note",
  doc: "The views allow a fetch that hardware MBEC denies, or the reverse",
  fields: {
    cpu: u8("vCPU"),
    allowed: u8(
      "1: executed although hardware denies it; 0: denied although hardware allows it",
    ),
    user: u8("1 if the linear address is a user-mode one"),
    rights: u8("L1's rights: R W XS XU, bits 0 to 3"),
    view: u8("View in force afterwards"),
    rip: u64("Linear address fetched"),
  },
});

/** What hardware's rule needs to know of one fetch. */
export interface FetchPolicy {
  readonly user: boolean;
  /** R W XS XU, bits 0 to 3. */
  readonly rights: number;
}

/** Read-only view of the emulation. */
export interface MbecInspection {
  /** L2 of this vCPU runs under an emulated policy. */
  active(cpu: number): boolean;
  view(cpu: number): number;
  /**
   * L1's policy for a fetch of L2 from CS offset `rip` as L2's paging and L1's
   * EPT are now; undefined where L2's paging does not translate. Rights are 0
   * where L1's EPT has no entry or a misconfigured one.
   */
  policyOf(cpu: number, rip: bigint): FetchPolicy | undefined;
  /**
   * CS offset of the next page's first byte if the instruction at CS offset
   * `rip` lies across two pages, as code, paging and mode of L2 are now.
   */
  secondHalf(cpu: number, rip: bigint): bigint | undefined;
}
/** Token of the inspection. */
export const Mbec = defineService<MbecInspection>("mbec.inspection", {
  doc: "What the emulation knows, for observers",
  observable: true,
});
