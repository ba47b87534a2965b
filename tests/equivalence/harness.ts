/**
 * Runs one guest in one of the three arrangements of design §8 and compares
 * runs: everything that the guest sees (examples/guests/guest_visible.ts), how
 * the machine ended, and the final RAM outside L0's.
 */
import { definePlugin, type PluginUse } from "../../core/plugin.ts";
import type { StopInfo } from "../../core/sink.ts";
import { type Hardware, HardwareAccess } from "../../cpu/hardware.ts";
import {
  type Difference,
  difference,
  GuestVisible,
} from "../../examples/guests/guest_visible.ts";
import { type HvciGuest, ORIGIN } from "../../examples/guests/hvci.ts";
import { machines } from "../../host/machine.ts";
import { defineScenario } from "../../host/scenario/define.ts";
import { hypervisor } from "../../plugins/hypervisor/plugin.ts";
import { mbecOracle } from "../../plugins/mbec/oracle.ts";
import { mbec } from "../../plugins/mbec/plugin.ts";

/** skylake-server without what L0 doesn't carry on to L1. */
export const MODEL =
  "skylake-server,-vmx-eptad,-vmx-vmfunc,-vmx-eptp-switching";
const MEMORY = 2 ** 21;
/** Some programs never end: they go on until here. */
const STEPS = 15_000;

/** An arrangement. */
export interface Arrangement {
  readonly name: string;
  readonly l0: boolean;
  readonly emulated?: {
    readonly strategy: "trap-all" | "entry-page-nx";
    readonly exactness: "lazy" | "exact";
  };
}

/** The three arrangements, the last one in four forms. */
export const ARRANGEMENTS: readonly Arrangement[] = [
  { name: "no L0", l0: false },
  { name: "MBEC in hardware", l0: true },
  ...(["exact", "lazy"] as const).flatMap((exactness) =>
    (["trap-all", "entry-page-nx"] as const).map((strategy) => ({
      name: `emulated, ${strategy}, ${exactness}`,
      l0: true,
      emulated: { strategy, exactness },
    }))
  ),
];

/** A finished run. */
export interface Run {
  readonly end: StopInfo;
  readonly seen: GuestVisible;
  readonly ram: Uint8Array;
}

/** Runs `guest` in `arrangement`. */
export function observe(guest: HvciGuest, arrangement: Arrangement): Run {
  const { l0, emulated } = arrangement;
  let hardware: Hardware | undefined;
  const peek = definePlugin({
    name: "peek",
    version: "1.0.0",
    doc: "Lends the test the hardware to look at",
    role: "participant",
    needs: { hardware: HardwareAccess },
    setup({ use }) {
      hardware = use.hardware;
      return undefined;
    },
  });
  const uses: PluginUse[] = [{ plugin: peek }];
  if (l0) uses.push({ plugin: hypervisor });
  if (emulated) {
    uses.push({ plugin: mbec, options: { ...emulated } });
    if (emulated.exactness === "lazy") uses.push({ plugin: mbecOracle });
  }
  const scenario = defineScenario({
    machine: {
      cpu: emulated ? `${MODEL},-vmx-mbec` : MODEL,
      memory: `${MEMORY / 2 ** 20}MiB`,
    },
    guest: { flat: "guest", at: ORIGIN, mode: "long" },
  });
  const files = new Map([["guest", guest.image]]);
  // Runs are too short for a faster engine's start-up.
  const engine = "reference";
  const kernel = machines.create(scenario, files, { uses, engine });
  const { physical, cpus } = hardware!;
  const seen = new GuestVisible(
    (at) => physical.readBytes(at, 4096),
    () => cpus[0],
  );
  kernel.sink = seen;
  const end = kernel.run({ untilStep: STEPS });
  kernel.sink = undefined;
  return { end, seen, ram: physical.readBytes(0, MEMORY) };
}

/** The first difference of `b` from `a`. */
export function compare(a: Run, b: Run): Difference | undefined {
  const seen = difference(a.seen, b.seen);
  if (seen !== undefined) return seen;
  const { step } = b.end;
  if (a.end.kind !== b.end.kind || a.end.exitCode !== b.end.exitCode) {
    return { step, text: `${a.end.kind} and ${b.end.kind}` };
  }
  for (let i = 0; i < a.ram.length; i++) {
    if (a.ram[i] === b.ram[i]) continue;
    const at = `RAM at 0x${i.toString(16)}`;
    return { step, text: `${at}: ${a.ram[i]} and ${b.ram[i]}` };
  }
  return undefined;
}
