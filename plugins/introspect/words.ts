/**
 * The words that introspection's events, cells and requests share: readers,
 * policies, causes, endings and outcomes of list walks. One table each; the
 * constants name its entries.
 */

/** Who carries out a read that was asked for (the in-guest module is guest code). */
export const READERS = ["l0", "walk"] as const;
/** One of {@link READERS}. */
export type ReaderWord = typeof READERS[number];
/** Readers by name. */
export const Reader = {
  /** Through the vCPU's own translation: A bits and TLB entries as a guest's read. */
  L0: "l0",
  /** Pure software walk: no A bit, no TLB fill, no fact. */
  Walk: "walk",
} as const;

/** What a fault of a read leads to (US20170371733A1). */
export const POLICIES = [
  "report",
  "handler",
  "forward",
  "inject-and-retry",
] as const;
/** One of {@link POLICIES}. */
export type PolicyWord = typeof POLICIES[number];
/** Policies by name. */
export const Policy = {
  /** The read is dropped; who asked sees bytes, address and cause. */
  Report: "report",
  /** The read is dropped and a named error handler runs. */
  Handler: "handler",
  /** The fault's frame goes to a named fault handler instead of the guest's IDT. */
  Forward: "forward",
  /** The guest gets the page fault, pages in, and the read is tried again. */
  InjectAndRetry: "inject-and-retry",
} as const;

/** Why the bytes of a read ended. */
export const CAUSES = [
  "none",
  "page-fault",
  "general-protection",
  "stage2-denied",
  "no-memory",
  "address-space",
] as const;
/** One of {@link CAUSES}. */
export type CauseWord = typeof CAUSES[number];
/** Causes by name. */
export const Cause = {
  /** They didn't: all were read. */
  None: "none",
  PageFault: "page-fault",
  /** Not canonical, or above 4 GiB outside IA-32e mode. */
  GeneralProtection: "general-protection",
  /** EPT denied it: no fault of the guest. */
  Stage2Denied: "stage2-denied",
  /** A device or nothing lies there; devices are never read. */
  NoMemory: "no-memory",
  /** The vCPU uses another CR3 than the one pinned. */
  AddressSpace: "address-space",
} as const;

/** How a request ended. */
export const ENDINGS = [
  "read",
  "reported",
  "dropped",
  "out-of-budget",
  "timed-out",
  "aborted",
  "not-injectable",
  "refused",
] as const;
/** One of {@link ENDINGS}. */
export type EndingWord = typeof ENDINGS[number];
/** Endings by name. */
export const Ending = {
  /** Everything asked for was read (or walked). */
  Read: "read",
  /** A fault was reported. */
  Reported: "reported",
  /** A named handler took the fault and did not ask for another try. */
  Dropped: "dropped",
  /** The fault came again after the last try allowed. */
  OutOfBudget: "out-of-budget",
  /** The guest didn't come back in time. */
  TimedOut: "timed-out",
  /** The injected fault could not be delivered: nesting depth is one. */
  Aborted: "aborted",
  /** A nested guest runs there: its faults are its own hypervisor's. */
  NotInjectable: "not-injectable",
  /** The request made no sense. */
  Refused: "refused",
} as const;

/** What a step of a list walk, or the whole walk, came to. */
export const OUTCOMES = [
  "none",
  "node",
  "closed",
  "ended",
  "torn",
  "cycle",
  "misaligned",
  "non-canonical",
  "faulted",
  "too-many-nodes",
  "too-many-bytes",
] as const;
/** One of {@link OUTCOMES}. */
export type OutcomeWord = typeof OUTCOMES[number];
/** Outcomes by name. */
export const Outcome = {
  /** Not a walk, or it didn't run. */
  None: "none",
  /** A sound node. */
  Node: "node",
  /** Back at the head, whose back link is right. */
  Closed: "closed",
  /** A null link. */
  Ended: "ended",
  /** The back link does not point to where the walk came from. */
  Torn: "torn",
  /** A node came twice. */
  Cycle: "cycle",
  Misaligned: "misaligned",
  NonCanonical: "non-canonical",
  Faulted: "faulted",
  TooManyNodes: "too-many-nodes",
  TooManyBytes: "too-many-bytes",
} as const;
