/**
 * The `mbec` plugin (patent US20180173551A1): offers mode-based execute control
 * to a VMX guest hypervisor on a CPU model without it, as an extension of L0's
 * nested VMX.
 */
import {
  bool,
  ConfigError,
  definePlugin,
  oneOf,
  setOf,
  tableOf,
  u32,
  u53,
  u64,
  u8,
} from "../../core/mod.ts";
import { HardwareAccess } from "../../cpu/hardware.ts";
import { DecoderService } from "../decoder/api.ts";
import { Nested } from "../hypervisor/api.ts";
import { Decided, Mbec, Trapped, ViewSwitched } from "./api.ts";
import { Emulation } from "./emulation.ts";
import { Reporter } from "./report.ts";

/** R W XS XU of an entry as bits 0 to 3. */
function compact(rights: number): number {
  return rights & 7 | (rights & 0x400 ? 8 : 0);
}

/** Views of each policy: user and supervisor. */
const VIEWS = 2;

/** Software mode-based execute control. */
export const mbec = definePlugin({
  name: "mbec",
  version: "1.0.0",
  doc: "Mode-based execute control for L1 on a CPU without it",
  role: "participant",
  options: {
    strategy: oneOf(
      ["trap-all", "entry-page-nx"],
      "How user-to-supervisor escalation is made to exit",
      "trap-all",
    ),
    exactness: oneOf(
      ["lazy", "exact"],
      "Whether the silent cases are single-stepped",
      "lazy",
    ),
  },
  needs: {
    hardware: HardwareAccess,
    nested: Nested,
    decoder: DecoderService,
  },
  provides: { inspection: Mbec },
  emits: [ViewSwitched, Decided, Trapped],
  state: {
    vcpus: tableOf(1, {
      active: bool("An L2 with an emulated policy was entered"),
      view: u8("View in force"),
      step: u8("StepReason of a single step under way"),
      path: u8("SwitchPath of the instruction being run again"),
      lent: u53("Page lent to the user view for one step, + 1"),
      half: u53("Page with a right of its own for one step, + 1"),
      halfExecutes: bool("That right"),
      supervisorOnly: bool("The policy holds an XS-only leaf"),
      armed: bool("Traps are set"),
      idtrLimit: u32("L2's IDT limit while trapped"),
      efer: u32("L2's EFER while trapped"),
      sysenterCs: u32("L2's SYSENTER_CS while trapped"),
      withheld: setOf(u64("Guest-physical page withheld from the user view")),
    }, "State of the emulation, by vCPU"),
  },
  setup({ use, provide, state, options }) {
    const { model } = use.hardware;
    if (model.hasVmx("vmx-mbec")) {
      throw new ConfigError(
        `start mbec: CPU model ${model.name} has mode-based execute control ` +
          "in hardware; choose haswell-server or remove it with ,-vmx-mbec",
      );
    }
    const report = new Reporter();
    const instructions = use.decoder.create(model);
    const of = (cpu: number): Emulation =>
      new Emulation(state.vcpus[cpu], options, report);
    use.nested.extend({
      offers: ["vmx-mbec"],
      views: VIEWS,
      leafRights: (context, view, page, entry) =>
        of(context.cpu.index).leafRights(context, view, page, entry),
      entering: (context) => of(context.cpu.index).entering(context),
      exited: (context, reason) =>
        of(context.cpu.index).exited(context, reason),
      leaving: (context) => of(context.cpu.index).leaving(context),
      dropped: (cpu) => of(cpu).dropped(),
    });
    provide.inspection({
      active: (cpu) => state.vcpus[cpu].active,
      view: (cpu) => state.vcpus[cpu].view,
      policyOf(cpu, rip) {
        const fetch = use.nested.fetchPolicy(cpu, rip);
        if (fetch === undefined) return undefined;
        const { user, policy } = fetch;
        return {
          user,
          rights: policy.kind === "mapped" ? compact(policy.entry.rights) : 0,
        };
      },
      secondHalf(cpu, rip) {
        const code = use.nested.codeAcross(cpu, rip);
        if (code === undefined) return undefined;
        const { linear, bytes, codeSize, stackSize, real } = code;
        const here = 4096 - Number(linear & 0xfffn);
        if (here >= bytes.length) return undefined;
        const { length } = bytes;
        const found = instructions
          .decode(bytes, length, codeSize, rip, stackSize, real);
        // What does not decode was fetched as far as it goes: nobody can tell.
        return typeof found === "object" && found.length > here
          ? rip + BigInt(here)
          : undefined;
      },
    });
    return undefined;
  },
});
