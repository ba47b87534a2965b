/**
 * The four policies of a read that must not fault, twice: by L0 from outside
 * the guest, and by a module inside it.
 *
 *   deno run --allow-read=. examples/05-read-policies.ts
 *
 * L0 asks for sixteen bytes that cross from a present page into an absent one;
 * the module reads a word of an absent page. What the caller gets, and what the
 * guest notices, depends on the policy alone.
 */
import {
  assemble,
  definePlugin,
  defineScenario,
  ExceptionDelivered,
  type Kernel,
  machines,
  type PluginUse,
} from "../mod.ts";
import {
  FaultHandled,
  Introspect,
  introspectRequest,
  IntrospectRequested,
  ModuleRedirected,
  POLICIES,
  Policy,
  type PolicyWord,
  ReadCompleted,
  ReadRetried,
  Verdict,
} from "../plugins/introspect/api.ts";

const path = new URL("./guests/paging.asm", import.meta.url);
const source = Deno.readTextFileSync(path);
const address = 0x100000;
const symbols = assemble(source, { bits: 64, origin: address }).symbols;
const WINDOW = symbols.get("WINDOW")!;
/** Steps before the read from outside, and after it. */
export const STEPS = [100, 400] as const;

/** Whoever asks registers its handlers by name, as a plugin. */
const desk = definePlugin({
  name: "desk",
  version: "1.0.0",
  doc: "Handlers of the example's reads",
  role: "participant",
  needs: { introspect: Introspect },
  setup({ use: { introspect } }) {
    introspect.errorHandler("desk", () => Verdict.Drop);
    introspect.faultHandler("desk", () => Verdict.Drop);
    return undefined;
  },
});

/** A module in the guest, as the plugin's option takes it. */
export type Module = Record<string, unknown>;

/** What came of one policy. */
export interface Row {
  readonly policy: PolicyWord;
  /** L0: how the request ended, and with how many bytes. */
  readonly ending: string;
  readonly bytes: number;
  readonly handlerCalls: number;
  readonly retries: number;
  /** Page faults that went through the guest's IDT. */
  readonly guestFaults: number;
}

/** The machine and its guest. */
export const scenario = defineScenario({
  machine: { cpu: "qemu64", memory: "4MiB", platform: "none" },
  guest: { asm: source, at: address },
});

/** The plugins that the machine needs, with these modules registered. */
export function usesWith(modules: readonly Module[]): PluginUse[] {
  const introspect = machines.catalog.get("introspect")!;
  return [{ plugin: introspect, options: { modules } }, { plugin: desk }];
}

function machine(modules: readonly Module[]): Kernel {
  return machines.create(scenario, new Map(), { uses: usesWith(modules) });
}

/** Counts what happens from now on. */
function watch(kernel: Kernel): {
  row: { -readonly [K in keyof Row]: Row[K] };
} {
  const row = {
    policy: Policy.Report as PolicyWord,
    ending: "",
    bytes: 0,
    handlerCalls: 0,
    retries: 0,
    guestFaults: 0,
  };
  kernel.watch(ExceptionDelivered, () => void row.guestFaults++);
  kernel.watch(FaultHandled, () => void row.handlerCalls++);
  kernel.watch(ReadRetried, () => void row.retries++);
  kernel.watch(ReadCompleted, ({ ending, bytesOk }) => {
    row.ending = ending;
    row.bytes = bytesOk;
    return undefined;
  });
  return { row };
}

/** Sixteen bytes across the end of what is present. */
export const requestOf = (
  policy: PolicyWord,
): ReturnType<typeof introspectRequest> =>
  introspectRequest({
    linear: WINDOW + 0xff8n,
    length: 16,
    policy,
    handler: "desk",
  });

/** One read from outside. */
export function readFromOutside(policy: PolicyWord): Row {
  const kernel = machine([]);
  const [before, after] = STEPS;
  // The guest pages in its third page itself; only then do we look.
  kernel.run({ untilStep: before });
  const { row } = watch(kernel);
  kernel.inject(
    IntrospectRequested,
    requestOf(policy),
  );
  kernel.run({ untilStep: before + after });
  return { ...row, policy };
}

/** The reading module in the guest. */
export function moduleOf(policy: PolicyWord): Module {
  const at = (label: string): string => `0x${symbols.get(label)!.toString(16)}`;
  const handler = policy === Policy.Forward ? "fault_handler" : "error_handler";
  return {
    name: "reader",
    start: at("read"),
    end: at("read_end"),
    policy,
    recover: at("recover"),
    handler: at(handler),
    handlerEnd: at(`${handler}_end`),
    frame: at("frame"),
  };
}

/** Reads by the module in the guest. */
export function readFromInside(policy: PolicyWord): Row {
  const kernel = machine([moduleOf(policy)]);
  const { row } = watch(kernel);
  kernel.watch(ModuleRedirected, ({ aborted }) => {
    row.handlerCalls += 1;
    row.ending = aborted ? "aborted" : "redirected";
    return undefined;
  });
  kernel.run({ untilStep: 100 });
  const [row0] = machines.inspector(kernel)!.registers(0)
    .filter(({ name }) => name === "r12");
  row.bytes = 8 * Number(BigInt(row0.value));
  return { ...row, ending: row.ending || "read", policy };
}

function show(title: string, called: string, rows: readonly Row[]): void {
  console.log(title);
  console.log(
    `  policy            ending      bytes${
      called.padStart(7)
    }  retried  guest #PF`,
  );
  for (const r of rows) {
    console.log(
      `  ${r.policy.padEnd(18)}${r.ending.padEnd(12)}${
        String(r.bytes).padStart(5)
      }${String(r.handlerCalls).padStart(7)}${String(r.retries).padStart(9)}${
        String(r.guestFaults).padStart(11)
      }`,
    );
  }
}

if (import.meta.main) {
  show(
    "L0 reads 16 bytes, of which 8 lie in an absent page:",
    "calls",
    POLICIES.map(readFromOutside),
  );
  console.log();
  show(
    "A module in the guest reads a word of an absent page (100 steps):",
    "jumps",
    POLICIES.map(readFromInside),
  );
}
