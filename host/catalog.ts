/**
 * Our own plugins by name, and which of them a platform has before a scenario
 * adds its own (design §9: `platform: pc | lean | none`).
 * Invariant: a plugin that a scenario names replaces the platform's of the
 * same name, so that its options can be set; nothing is loaded twice.
 */
import type { Plugin, PluginUse } from "../core/plugin.ts";
import type { CpuModel } from "../cpu/arch/models.ts";
import { acpi } from "../plugins/acpi/plugin.ts";
import { debugexit } from "../plugins/debugexit/plugin.ts";
import { decoder } from "../plugins/decoder/plugin.ts";
import { firmware } from "../plugins/firmware/plugin.ts";
import { hypervisor } from "../plugins/hypervisor/plugin.ts";
import { i440fx } from "../plugins/i440fx/plugin.ts";
import { introspect } from "../plugins/introspect/plugin.ts";
import { ioapic } from "../plugins/ioapic/plugin.ts";
import { lapic } from "../plugins/lapic/plugin.ts";
import { mbecOracle } from "../plugins/mbec/oracle.ts";
import { mbec } from "../plugins/mbec/plugin.ts";
import { mmu } from "../plugins/mmu/plugin.ts";
import { pic8259 } from "../plugins/pic8259/plugin.ts";
import { pit8254 } from "../plugins/pit8254/plugin.ts";
import { rtc } from "../plugins/rtc/plugin.ts";
import { svm } from "../plugins/svm/plugin.ts";
import { testdev } from "../plugins/testdev/plugin.ts";
import { uart16550 } from "../plugins/uart16550/plugin.ts";
import { vmx } from "../plugins/vmx/plugin.ts";
import type { Platform } from "./scenario/types.ts";

/** What every CPU needs to execute at all. */
const CPU: readonly Plugin[] = [decoder, mmu];

/** The devices that Linux needs at least (platform.md §1). */
const LEAN = [debugexit, lapic, pic8259, pit8254, rtc, uart16550];

/** What each platform has beside that. */
const DEVICES: Readonly<Record<Platform, readonly Plugin[]>> = {
  pc: [...LEAN, acpi, i440fx, ioapic],
  lean: LEAN,
  none: [],
};

/** Our plugins by name. */
export const CATALOG: ReadonlyMap<string, Plugin> = new Map(
  [
    ...[...CPU, ...DEVICES.pc, svm, vmx],
    ...[firmware, hypervisor, introspect, mbec, mbecOracle, testdev],
  ].map((p) => [p.name, p] as const),
);

/**
 * A CPU model's and a platform's plugins, with those of a scenario added or in
 * their place. A model that has VMX or SVM gets its plugin.
 */
export function platformUses(
  model: CpuModel,
  platform: Platform,
  uses: readonly PluginUse[],
): PluginUse[] {
  const own = new Set(uses.map(({ plugin }) => plugin.name));
  const virtualization = model.has("vmx")
    ? [vmx]
    : model.has("svm")
    ? [svm]
    : [];
  const defaults = [...CPU, ...virtualization, ...DEVICES[platform]]
    .filter((plugin) => !own.has(plugin.name));
  return [...defaults.map((plugin) => ({ plugin })), ...uses];
}
