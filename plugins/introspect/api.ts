/**
 * Non-faulting reads of guest memory (patent US20170371733A1; design §8): what
 * may be asked for, by inputs or by the service, and the facts that tell what
 * became of it. Requests and results are cells; completion is an event.
 */
import {
  bytes,
  defineEvent,
  defineService,
  oneOf,
  text,
  u32,
  u64,
  u8,
} from "../../core/mod.ts";
import {
  defaultsOf,
  type GuestModule,
  LIST_FIELDS,
  type ListRequest,
  MODULE_FIELDS,
  READ_FIELDS,
  type ReadRequest,
  type ReadResult,
} from "./requests.ts";
import {
  CAUSES,
  type CauseWord,
  ENDINGS,
  OUTCOMES,
  POLICIES,
  READERS,
} from "./words.ts";

export * from "./words.ts";
export type { GuestModule, ListRequest, ReadRequest, ReadResult };
export { FRAME_BYTES } from "./requests.ts";

/** Somebody outside asks for a read. */
export const IntrospectRequested = defineEvent({
  name: "introspect.requested",
  version: 1,
  kind: "input",
  doc: "Somebody outside asked for bytes of the guest",
  fields: READ_FIELDS,
});

/** Somebody outside asks for a list walk. */
export const IntrospectListRequested = defineEvent({
  name: "introspect.list-requested",
  version: 1,
  kind: "input",
  doc: "Somebody outside asked for a linked list of the guest",
  fields: LIST_FIELDS,
});

/** Somebody outside registers an in-guest module. */
export const IntrospectModuleRegistered = defineEvent({
  name: "introspect.module-registered",
  version: 1,
  kind: "input",
  doc: "Somebody outside registered (or replaced) an in-guest module",
  fields: MODULE_FIELDS,
});

/** Somebody outside releases an in-guest module. */
export const IntrospectModuleReleased = defineEvent({
  name: "introspect.module-released",
  version: 1,
  kind: "input",
  doc: "Somebody outside released an in-guest module",
  fields: { name: text("Its name") },
});

/** A read was accepted. */
export const ReadRequested = defineEvent({
  name: "introspect.read-requested",
  version: 1,
  kind: "fact",
  doc: "A read was asked for; it is made at the next consistent point",
  fields: { id: u32("Request"), ...READ_FIELDS },
});

/** A list walk was accepted. */
export const WalkRequested = defineEvent({
  name: "introspect.walk-requested",
  version: 1,
  kind: "fact",
  doc: "A list walk was asked for; it is made at the next consistent point",
  fields: { id: u32("Request"), ...LIST_FIELDS },
});

/** A read ended. */
export const ReadCompleted = defineEvent({
  name: "introspect.read-completed",
  version: 1,
  kind: "fact",
  doc: "A read ended, whole or in part",
  fields: {
    id: u32("Request; 0 if it was refused as an input"),
    cpu: u8("vCPU"),
    reader: oneOf(READERS, "Who read"),
    policy: oneOf(POLICIES, "Policy"),
    ending: oneOf(ENDINGS, "How it ended"),
    cause: oneOf(CAUSES, "Why the bytes ended"),
    linear: u64("Linear address asked for"),
    bytesOk: u32("Bytes read, from there on"),
    faultVa: u64("Linear address of the first byte not read; 0 if none"),
    errorCode: u32("Error code of the fault; 0 if none"),
    bytes: bytes("The bytes read, and none beyond a fault"),
    why: text("Why it was refused"),
  },
});

/** A list walk ended. */
export const WalkCompleted = defineEvent({
  name: "introspect.walk-completed",
  version: 1,
  kind: "fact",
  doc: "A list walk ended",
  fields: {
    id: u32("Request; 0 if it was refused as an input"),
    cpu: u8("vCPU"),
    reader: oneOf(READERS, "Who read"),
    policy: oneOf(POLICIES, "Policy"),
    ending: oneOf(ENDINGS, "How it ended"),
    outcome: oneOf(OUTCOMES, "What the walk came to"),
    cause: oneOf(CAUSES, "Why a read of it ended"),
    nodes: u32("Sound nodes"),
    bytesOk: u32("Bytes of their contents"),
    faultVa: u64("Linear address at which the walk stopped; 0 if at the end"),
    errorCode: u32("Error code of the fault; 0 if none"),
    why: text("Why it was refused"),
  },
});

/** A list walk came to an entry. */
export const WalkStepped = defineEvent({
  name: "introspect.walk-step",
  version: 1,
  kind: "fact",
  doc: "A list walk came to an entry",
  fields: {
    id: u32("Request"),
    attempt: u8("Try of the walk, from 0"),
    index: u32("Entries before it"),
    entry: u64("Linear address of the entry"),
    next: u64("Forward link found; 0 if not read"),
    prev: u64("Back link found; 0 if not read"),
    outcome: oneOf(OUTCOMES, "What it came to"),
    bytes: bytes("Contents of a sound node"),
  },
});

/** A read met a fault. */
export const ReadFaulted = defineEvent({
  name: "introspect.read-faulted",
  version: 1,
  kind: "fact",
  doc: "A read met a fault, which the guest did not see",
  fields: {
    id: u32("Request; 0 for an in-guest module"),
    module: text("In-guest module; empty for a request"),
    cpu: u8("vCPU"),
    policy: oneOf(POLICIES, "Policy"),
    cause: oneOf(CAUSES, "What kind of fault"),
    vector: u8("14 #PF, 13 #GP, 0 for what is no fault of the guest"),
    errorCode: u32("Error code that the guest would have got"),
    linear: u64("Linear address; 0 if the processor tells none"),
    rip: u64("RIP of the guest"),
  },
});

/** A named handler was called. */
export const FaultHandled = defineEvent({
  name: "introspect.fault-handled",
  version: 1,
  kind: "fact",
  doc: "A named handler was told of a read's fault (handler, forward)",
  fields: {
    id: u32("Request"),
    policy: oneOf(POLICIES, "handler or forward"),
    handler: text("Its name"),
    again: u8("1: it asked for another try"),
  },
});

/** A page fault was injected for a read. */
export const FaultInjected = defineEvent({
  name: "introspect.injected",
  version: 1,
  kind: "fact",
  doc: "The guest is given the page fault of a read, to page in",
  fields: {
    id: u32("Request"),
    cpu: u8("vCPU"),
    attempt: u8("Injections so far, with this one"),
    errorCode: u32("Error code"),
    linear: u64("Linear address (CR2)"),
    rip: u64("RIP at which it is delivered"),
  },
});

/** The guest came back from the injected fault. */
export const ReadRetried = defineEvent({
  name: "introspect.retried",
  version: 1,
  kind: "fact",
  doc: "The guest returned from the page fault of a read: it is made again",
  fields: {
    id: u32("Request; 0 for an in-guest module"),
    module: text("In-guest module; empty for a request"),
    cpu: u8("vCPU"),
    rip: u64("RIP returned to"),
  },
});

/** A module's faults are intercepted from now on. */
export const ModuleArmed = defineEvent({
  name: "introspect.module-armed",
  version: 1,
  kind: "fact",
  doc: "#PF and #GP are intercepted for an in-guest module",
  fields: MODULE_FIELDS,
});

/** They no longer are. */
export const ModuleDisarmed = defineEvent({
  name: "introspect.module-disarmed",
  version: 1,
  kind: "fact",
  doc: "An in-guest module was released, or could not be registered",
  fields: { name: text("Its name"), why: text("Why it could not be") },
});

/** The guest's RIP was redirected. */
export const ModuleRedirected = defineEvent({
  name: "introspect.redirected",
  version: 1,
  kind: "fact",
  doc: "A fault of an in-guest module became a jump instead of an exception",
  fields: {
    module: text("Its name"),
    cpu: u8("vCPU"),
    from: u64("RIP of the fault"),
    to: u64("RIP at which the guest goes on"),
    status: u64("RAX there: vector, and the error code in bits 63:32"),
    aborted: u8("1: the policy gave up (nesting, budget, no page fault)"),
  },
});

/** Somebody else's fault went on to the guest. */
export const FaultReinjected = defineEvent({
  name: "introspect.reinjected",
  version: 1,
  kind: "fact",
  doc: "An intercepted fault was not a module's: the guest gets it unchanged",
  fields: {
    cpu: u8("vCPU"),
    vector: u8("13 or 14"),
    errorCode: u32("Error code; 0xffffffff for none"),
    linear: u64("#PF: linear address"),
    rip: u64("RIP of the fault"),
    count: u32("Such faults so far"),
  },
});

/** What a named handler wants. */
export const Verdict = {
  /** The read stays dropped. */
  Drop: 0,
  /** Read again now, if the budget allows it. */
  Again: 1,
} as const;
/** One of {@link Verdict}. */
export type VerdictCode = typeof Verdict[keyof typeof Verdict];

/** What an error handler is told: the read was dropped. */
export interface DroppedRead {
  readonly id: number;
  readonly cpu: number;
  readonly cause: CauseWord;
  readonly bytesOk: number;
  /** Linear address of the first byte not read. */
  readonly faultVa: bigint;
  /** Earlier tries. */
  readonly attempts: number;
}

/** What a fault handler gets instead of the guest's IDT. */
export interface FaultFrame {
  readonly id: number;
  readonly cpu: number;
  /** 14 or 13; 0 for what is no fault of the guest. */
  readonly vector: number;
  readonly errorCode: number;
  /** Linear address (what CR2 would be). */
  readonly linear: bigint;
  /** The guest's registers, which the read does not change. */
  readonly rip: bigint;
  readonly rsp: bigint;
  readonly cpl: number;
  readonly attempts: number;
}

/** Asked under policy `handler`. */
export type ErrorHandler = (read: DroppedRead) => VerdictCode;
/** Asked under policy `forward`. */
export type FaultHandler = (frame: FaultFrame) => VerdictCode;

/** Introspection for other participants. */
export interface IntrospectService {
  /**
   * Asks for bytes; `introspect.read-completed` tells when they are there.
   * @returns the request's id
   * @throws ConfigError when the request makes no sense
   */
  request(read: AskRead): number;
  /**
   * Asks for a walk of a linked list; `introspect.walk-completed` tells when
   * it is done.
   * @throws ConfigError when the request makes no sense
   */
  walk(list: AskList): number;
  /** What became of a request; undefined while it is under way, or forgotten. */
  result(id: number): ReadResult | undefined;
  /** Names an error handler; in `setup` only. @throws ConfigError if taken */
  errorHandler(name: string, handler: ErrorHandler): void;
  /** Names a fault handler; in `setup` only. @throws ConfigError if taken */
  faultHandler(name: string, handler: FaultHandler): void;
  /** Registers or replaces an in-guest module. @throws ConfigError */
  register(module: AskModule): void;
  /** Releases it. @returns whether there was one */
  release(name: string): boolean;
  /** Faults of others that were re-injected. */
  reinjected(): number;
}

/** A read to ask for; what is left out takes its default. */
export type AskRead =
  & Pick<ReadRequest, "linear" | "length">
  & Partial<ReadRequest>;
/** A list walk to ask for. */
export type AskList =
  & Pick<ListRequest, "head" | "nodeBytes">
  & Partial<ListRequest>;
/** A module to register. */
export type AskModule =
  & Pick<GuestModule, "name" | "start" | "end" | "recover">
  & Partial<GuestModule>;

const READ_DEFAULTS = defaultsOf(READ_FIELDS);
const LIST_DEFAULTS = defaultsOf(LIST_FIELDS);
const MODULE_DEFAULTS = defaultsOf(MODULE_FIELDS);

/** Payload of `introspect.requested`: what is left out takes its default. */
export function introspectRequest(read: AskRead): ReadRequest {
  return { ...READ_DEFAULTS, ...read };
}
/** Payload of `introspect.list-requested`: what is left out takes its default. */
export function introspectList(list: AskList): ListRequest {
  return { ...LIST_DEFAULTS, ...list };
}
/** Payload of `introspect.module-registered`: what is left out takes its default. */
export function introspectModule(module: AskModule): GuestModule {
  return { ...MODULE_DEFAULTS, ...module };
}

/** Token of introspection. */
export const Introspect = defineService<IntrospectService>(
  "introspect.service",
  { doc: "Non-faulting reads, list walks and in-guest modules" },
);
