/**
 * The conformance kit on vmx, hypervisor and mbec, over the HVCI-like guest of
 * the equivalence test: a guest hypervisor with a mode-based-execute policy,
 * whose guest escalates and returns in every way.
 */
import { assert, assertEquals } from "@std/assert";
import type { Kernel } from "../../core/kernel.ts";
import type { Plugin, PluginUse } from "../../core/plugin.ts";
import { hvciGuest, ORIGIN } from "../../examples/guests/hvci.ts";
import { machines } from "../../host/machine.ts";
import { defineScenario } from "../../host/scenario/define.ts";
import { debugexit } from "../../plugins/debugexit/plugin.ts";
import { decoder } from "../../plugins/decoder/plugin.ts";
import { hypervisor } from "../../plugins/hypervisor/plugin.ts";
import { lapic } from "../../plugins/lapic/plugin.ts";
import { mbecOracle } from "../../plugins/mbec/oracle.ts";
import { mbec } from "../../plugins/mbec/plugin.ts";
import { mmu } from "../../plugins/mmu/plugin.ts";
import { pic8259 } from "../../plugins/pic8259/plugin.ts";
import { pit8254 } from "../../plugins/pit8254/plugin.ts";
import { uart16550 } from "../../plugins/uart16550/plugin.ts";
import { vmx } from "../../plugins/vmx/plugin.ts";
import { checkPlugin } from "../../testing/mod.ts";
import { MODEL } from "../equivalence/harness.ts";
import { pairOf } from "../equivalence/programs.ts";

const DEVICES: readonly Plugin[] = [
  decoder,
  mmu,
  debugexit,
  lapic,
  pic8259,
  pit8254,
  uart16550,
];

function loader(
  cpu: string,
  image: Uint8Array,
): (uses: readonly PluginUse[]) => Kernel {
  const scenario = defineScenario({
    machine: { cpu, memory: "2MiB" },
    guest: { flat: "guest", at: ORIGIN, mode: "long" },
  });
  return (uses) =>
    machines.create(scenario, new Map([["guest", image]]), {
      uses,
      engine: "reference",
    });
}

/** @param stack plugins above the devices, the last one under test */
function judge(stack: readonly Plugin[], cpu: string, seed: number): void {
  const { image } = hvciGuest(pairOf(seed));
  const plugins = [...DEVICES, ...stack];
  const plugin = plugins[plugins.length - 1];
  const report = checkPlugin({ plugin }, {
    load: loader(cpu, image),
    plugins: plugins.slice(0, -1).map((p) => ({ plugin: p })),
    steps: 2500,
    restores: 4,
  });
  const about = [...report.emitted].map(([n, c]) => `${n} ${c}`).join(", ");
  // What this guest never provokes is not the kit's business here.
  const findings = report.findings.filter(({ check }) => check !== "coverage");
  assertEquals(findings, [], about);
  assert([...report.emitted.values()].some((n) => n > 0), about);
}

Deno.test("vmx conforms", () => judge([vmx], MODEL, 3));
Deno.test("hypervisor conforms", () => judge([vmx, hypervisor], MODEL, 4));
Deno.test("mbec conforms", () =>
  judge([vmx, hypervisor, mbec], `${MODEL},-vmx-mbec`, 5));
Deno.test("the MBEC oracle conforms", () =>
  judge([vmx, hypervisor, mbec, mbecOracle], `${MODEL},-vmx-mbec`, 45));
