/**
 * Fields of requests, in-guest modules, jobs and results: the one place that
 * says what a request holds, for inputs, events, cells and the service alike.
 * A field's initial value is what a request that leaves it out gets.
 */
import {
  bool,
  bytes,
  type Fields,
  list,
  maybe,
  oneOf,
  record,
  text,
  u32,
  u53,
  u64,
  u8,
  type ValuesOf,
} from "../../core/mod.ts";
import {
  Cause,
  CAUSES,
  Ending,
  ENDINGS,
  Outcome,
  OUTCOMES,
  POLICIES,
  Policy,
  Reader,
  READERS,
} from "./words.ts";

/** What reads and list walks have in common. */
const COMMON = {
  cpu: u8("vCPU whose translation is used"),
  reader: oneOf(READERS, "Who reads", Reader.L0),
  policy: oneOf(POLICIES, "What a fault leads to", Policy.Report),
  cpl: u8("Privilege level as which rights are judged, 0 to 3"),
  ac: bool("RFLAGS.AC as which SMAP is judged"),
  cr3: maybe(u64(), "Address space; left out: the vCPU's at the request"),
  handler: text("Named error handler (handler) or fault handler (forward)"),
  budget: u8("Tries after a fault that handlers and injections may cost", 4),
} satisfies Fields;

/** A read of consecutive bytes. */
export const READ_FIELDS = {
  ...COMMON,
  linear: u64("Linear address of the first byte"),
  length: u32("Bytes"),
} satisfies Fields;

/** A bounded walk of a linked list. */
export const LIST_FIELDS = {
  ...COMMON,
  head: u64("Linear address of the list's head entry, which is no node"),
  nextOffset: u32("Of the forward link (Flink) in an entry"),
  prevOffset: maybe(
    u32(),
    "Of the back link (Blink) in an entry; left out: no integrity check",
  ),
  entryOffset: u32("Of the list entry in a node"),
  nodeBytes: u32("Bytes of a node that are read"),
  pointerBytes: u8("4 or 8", 8),
  alignment: u32("Power of two to which entries are aligned", 8),
  maxNodes: u32("Most nodes", 256),
  maxBytes: u32("Most bytes read, links included", 65_536),
} satisfies Fields;

/** A read as it was asked for. */
export type ReadRequest = ValuesOf<typeof READ_FIELDS>;
/** A list walk as it was asked for. */
export type ListRequest = ValuesOf<typeof LIST_FIELDS>;

/** An in-guest module: code of the guest that reads for whoever calls it. */
export const MODULE_FIELDS = {
  name: text("Unique name"),
  cpu: u8("vCPU"),
  start: u64("RIP of its first byte"),
  end: u64("RIP after its last byte"),
  cr3: maybe(u64(), "Its address space; left out: any"),
  policy: oneOf(POLICIES, "What a fault leads to", Policy.Report),
  base: u64("First linear address that it may fault on"),
  length: u64("Bytes from there; 0: any address"),
  recover: u64("RIP that gets the status in RAX (report, and every abort)"),
  handler: u64("RIP of the error handler (handler) or fault handler (forward)"),
  handlerEnd: u64("RIP after that handler; faults within are aborts"),
  frame: u64("Guest-physical address of its 48-byte fault frame (forward)"),
  budget: u8("Injections of the same fault (inject-and-retry)", 4),
} satisfies Fields;
/** A module as registered. */
export type GuestModule = ValuesOf<typeof MODULE_FIELDS>;

/** Where a request that faulted stands. */
export const PHASES = ["ready", "queued", "held", "injected"] as const;

/** Cells of a request under way. */
export const JOB_FIELDS = {
  read: maybe(record(READ_FIELDS)),
  list: maybe(record(LIST_FIELDS)),
  cr3: u64("Address space pinned"),
  attempts: u8("Tries after a fault so far"),
  phase: oneOf(PHASES, "What it waits for"),
  faultStep: u53("Step of the last try"),
  faultVa: u64("Linear address of the page fault to inject"),
  errorCode: u32("Its error code"),
  rip: u64("RIP to which the guest must return"),
  rsp: u64("RSP it must then have"),
} satisfies Fields;
/** A request under way. */
export type Job = ValuesOf<typeof JOB_FIELDS>;

/** What became of a request. */
export const RESULT_FIELDS = {
  ending: oneOf(ENDINGS, "How it ended", Ending.Read),
  cause: oneOf(CAUSES, "Why the bytes ended", Cause.None),
  errorCode: u32("Error code of the fault"),
  faultVa: u64("Linear address of the first byte not read"),
  bytesOk: u32("Bytes read"),
  bytes: bytes("Those bytes; of a list walk: the nodes' one after another"),
  outcome: oneOf(OUTCOMES, "Of a list walk", Outcome.None),
  nodes: list(u64(), "Of a list walk: linear addresses of the sound nodes"),
  attempts: u8("Tries after a fault"),
  step: u53("Step boundary at which all of it was read"),
} satisfies Fields;
/** What became of a request. */
export type ReadResult = ValuesOf<typeof RESULT_FIELDS>;

/** The default value of every field. */
export function defaultsOf<F extends Fields>(fields: F): ValuesOf<F> {
  return record(fields).initial;
}

/** What reads and list walks have in common. */
export function commonOf(job: Job): ReadRequest | ListRequest {
  const request = job.read ?? job.list;
  if (request === undefined) {
    throw new RangeError("a job is a read or a list walk");
  }
  return request;
}

/** What is wrong with a request, or undefined. */
export function refusalOf(
  request: ReadRequest | ListRequest,
  world: {
    readonly cpus: number;
    readonly maxBytes: number;
    readonly errorHandlers: ReadonlySet<string>;
    readonly faultHandlers: ReadonlySet<string>;
  },
): string | undefined {
  const { cpu, cpl, policy, handler } = request;
  if (cpu >= world.cpus) return `vCPU ${cpu}: the machine has ${world.cpus}`;
  if (cpl > 3) return `cpl ${cpl}: write 0 to 3`;
  const names = policy === Policy.Handler
    ? world.errorHandlers
    : policy === Policy.Forward
    ? world.faultHandlers
    : undefined;
  if (names !== undefined && !names.has(handler)) {
    const kind = policy === Policy.Handler ? "error" : "fault";
    return `${kind} handler ${
      JSON.stringify(handler)
    }: no plugin registered it (known: ${[...names].join(", ") || "none"})`;
  }
  if ("length" in request) {
    const { length } = request;
    return length < 1 || length > world.maxBytes
      ? `length ${length}: write 1 to ${world.maxBytes}`
      : undefined;
  }
  const { pointerBytes, alignment, maxNodes, maxBytes } = request;
  if (pointerBytes !== 4 && pointerBytes !== 8) {
    return `pointerBytes ${pointerBytes}: write 4 or 8`;
  }
  if (alignment < 1 || (alignment & (alignment - 1)) !== 0) {
    return `alignment ${alignment}: write a power of two`;
  }
  if (maxNodes < 1) return `maxNodes ${maxNodes}: write at least 1`;
  return maxBytes > world.maxBytes
    ? `maxBytes ${maxBytes}: at most ${world.maxBytes}`
    : undefined;
}

/** What is wrong with a module, or undefined. */
export function moduleRefusalOf(
  module: GuestModule,
  world: { readonly cpus: number; readonly ramBytes: number },
): string | undefined {
  const { cpu, start, end, policy, recover, handler, handlerEnd } = module;
  if (module.name === "") return "name: it must not be empty";
  if (cpu >= world.cpus) return `vCPU ${cpu}: the machine has ${world.cpus}`;
  if (end <= start) return `end 0x${end.toString(16)}: it must follow start`;
  if (recover === 0n) return "recover: give the RIP that gets the status";
  const handled = policy === Policy.Handler || policy === Policy.Forward;
  if (handled && handlerEnd <= handler) {
    return `handlerEnd 0x${handlerEnd.toString(16)}: it must follow handler`;
  }
  if (
    policy === Policy.Forward &&
    Number(module.frame) + FRAME_BYTES > world.ramBytes
  ) return `frame 0x${module.frame.toString(16)}: it must lie in memory`;
  return undefined;
}

/** Bytes of a fault frame: vector, error code, linear address, RIP, RSP, RFLAGS. */
export const FRAME_BYTES = 48;
