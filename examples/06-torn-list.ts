/**
 * Walking a linked list of a guest that is just changing it.
 *
 *   deno run --allow-read=. examples/06-torn-list.ts
 *
 * Between any two steps of the guest we walk its list, by the software walk,
 * which leaves no trace in the machine. The walker takes a node's contents only
 * once its back link was seen to be right, so that the two stores of an
 * insertion never make it believe a half-linked list; and a link into nowhere
 * ends the walk instead of the guest.
 */
import { assemble, defineScenario, machines } from "../mod.ts";
import {
  introspectList,
  IntrospectListRequested,
  type OutcomeWord,
  Reader,
  WalkCompleted,
  WalkStepped,
} from "../plugins/introspect/api.ts";

const path = new URL("./guests/list.asm", import.meta.url);
const source = Deno.readTextFileSync(path);
const address = 0x100000;
const symbols = assemble(source, { bits: 64, origin: address }).symbols;
const LAST_STEP = 22;

/** One walk. */
export interface Walk {
  readonly step: number;
  readonly outcome: OutcomeWord;
  /** Values of the sound nodes. */
  readonly values: readonly number[];
  /** Where it stopped; 0 if at the list's end. */
  readonly stoppedAt: bigint;
}

/** What is asked at each step. */
export const request = introspectList({
  reader: Reader.Walk,
  head: symbols.get("head")!,
  nextOffset: 0,
  prevOffset: 8,
  nodeBytes: 24,
  maxNodes: 16,
  maxBytes: 1024,
});

/** The machine and its guest. */
export const scenario = defineScenario({
  machine: { cpu: "qemu64", memory: "4MiB", platform: "none" },
  guest: { asm: source, at: address },
  steps: LAST_STEP + 1,
});
/** The plugins that the machine needs. */
export const uses = [{ plugin: machines.catalog.get("introspect")! }];

/** Walks the list at every step of the guest. */
export function walkAtEveryStep(): Walk[] {
  const kernel = machines.create(scenario, new Map(), { uses });
  const walks: Walk[] = [];
  let values: number[] = [];
  kernel.watch(WalkStepped, ({ bytes }) => {
    if (bytes.length > 0) values.push(bytes[16]);
    return undefined;
  });
  kernel.watch(WalkCompleted, ({ outcome, faultVa }, at) => {
    walks.push({ step: at.step, outcome, values, stoppedAt: faultVa });
    values = [];
    return undefined;
  });
  for (let step = 1; step <= LAST_STEP; step++) {
    kernel.run({ untilStep: step });
    kernel.inject(IntrospectListRequested, request);
  }
  kernel.run({ untilStep: scenario.steps });
  return walks;
}

if (import.meta.main) {
  let before = "";
  for (const { step, outcome, values, stoppedAt } of walkAtEveryStep()) {
    const nodes = values.map((v) => `0x${v.toString(16)}`).join(" ");
    const where = stoppedAt === 0n ? "" : ` at 0x${stoppedAt.toString(16)}`;
    const line = `${outcome}${where}, nodes: ${nodes}`;
    if (line !== before) console.log(`step ${step}: ${line}`);
    before = line;
  }
}
