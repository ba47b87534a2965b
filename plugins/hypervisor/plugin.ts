/**
 * L0: a model of a hypervisor that runs the guest image as L1 and offers it VMX
 * again (design §8). It owns VMX root operation through `VmxRoot`; all its
 * structures lie in simulated RAM above the guest's memory.
 */
import {
  arrayOf,
  bool,
  ConfigError,
  definePlugin,
  list,
  record,
  tableOf,
  u32,
  u53,
  u64,
  u8,
} from "../../core/mod.ts";
import type { CpuModel, VmxFeature } from "../../cpu/arch/models.ts";
import { Rflags } from "../../cpu/arch/flags.ts";
import { HardwareAccess } from "../../cpu/hardware.ts";
import { PAGE_SIZE } from "../../cpu/layout.ts";
import { capabilitiesOf, Vmcs, VmcsField, VmxRoot } from "../vmx/api.ts";
import {
  type ExceptionWatcher,
  ExitHandled,
  L0_RESERVE_BYTES,
  L1Exceptions,
  Nested,
  NestedEntered,
  type NestedExtension,
  NestedReflected,
  ShadowDropped,
  ShadowFilled,
} from "./api.ts";
import { onExit } from "./exits.ts";
import { codeAcross, fetchPolicy } from "./inspection.ts";
import { PagePool } from "./memory.ts";
import { type L0, NO_POINTER } from "./nested_state.ts";
import { ShadowTables } from "./shadow.ts";
import { startL1 } from "./vmcs01.ts";

/** Features of the hardware that L0 does not carry on to L1. */
const NOT_OFFERED: ReadonlySet<VmxFeature> = new Set<VmxFeature>([
  "vmx-eptad",
  "vmx-vmfunc",
  "vmx-eptp-switching",
]);

/** The processor that L1 sees. */
function offeredModel(
  model: CpuModel,
  extra: readonly VmxFeature[],
): CpuModel {
  return {
    ...model,
    has: (feature) => model.has(feature),
    hasVmx: (feature) =>
      extra.includes(feature) ||
      (model.hasVmx(feature) && !NOT_OFFERED.has(feature)),
  };
}

/** What L0 must know again when it serves the next exit of L2. */
function noteEntry({ cells, cpu, operations: ops }: L0): void {
  if (!cells.inL2) return;
  cells.entryStep = cpu.v.step;
  cells.entryRf = (Number(ops.vmread(VmcsField.GuestRflags)) & Rflags.RF) !== 0;
}

/** L0 hypervisor model. */
export const hypervisor = definePlugin({
  name: "hypervisor",
  version: "1.0.0",
  doc: "L0: runs the guest as L1 and offers it VMX again (nested)",
  role: "participant",
  needs: { hardware: HardwareAccess, root: VmxRoot },
  provides: { nested: Nested, exceptions: L1Exceptions },
  emits: [
    NestedEntered,
    NestedReflected,
    ExitHandled,
    ShadowFilled,
    ShadowDropped,
  ],
  state: {
    poolUsed: u32("Pages of L0's memory handed out"),
    poolFree: arrayOf(u32("Page number"), "Pages given back"),
    vcpus: tableOf(1, {
      vmxonRegion: u53("VMXON region of L0"),
      vmcs01: u53("VMCS of L1"),
      vmcs02: u53("VMCS of L2"),
      ept01: u53("Root of L1's EPT"),
      msrBitmap01: u53("MSR bitmap of L1"),
      msrBitmap02: u53("MSR bitmap of L2"),
      exceptionBitmap: u32("Exceptions of L1 that exit, for their watcher"),
      vmxon12: u64("L1's VMXON region", NO_POINTER),
      vmptr12: u64("L1's current VMCS", NO_POINTER),
      featureControl: u64("L1's IA32_FEATURE_CONTROL"),
      inL2: bool("L2 runs"),
      view: u8("View in force for L2"),
      entryStep: u53("Step at which L2 was entered last"),
      entryRf: bool("RFLAGS.RF of L2 at that entry"),
    }, "What L0 keeps, by vCPU"),
    shadows: arrayOf(
      record({
        key: u64("L1's EPT pointer, bit 11 = with MBEC"),
        roots: list(u53("Root of a view")),
      }),
      "Shadow hierarchies, oldest first",
    ),
  },
  setup({ use, provide, state, stop }) {
    const { hardware } = use;
    if (hardware.cpus.length > 1) {
      throw new ConfigError(
        `start hypervisor: the machine has ${hardware.cpus.length} vCPUs and ` +
          "L0 drives one; write cpus: 1",
      );
    }
    const reservedPages = L0_RESERVE_BYTES / PAGE_SIZE;
    const { ramPages } = hardware.physical;
    const guestPages = ramPages - reservedPages;
    if (guestPages < 1) {
      throw new ConfigError(
        `start hypervisor: the machine has ${
          ramPages * 4
        } KiB of RAM and L0 needs ${reservedPages * 4} KiB above the guest's`,
      );
    }
    if (!hardware.model.has("vmx") || !hardware.model.hasVmx("vmx-ept")) {
      throw new ConfigError(
        `start hypervisor: CPU model ${hardware.model.name} has no VMX with ` +
          "EPT; choose haswell-server, skylake-server or max-intel",
      );
    }
    let extension: NestedExtension | undefined;
    let watcher: ExceptionWatcher | undefined;
    const pool = new PagePool(
      hardware.physical,
      {
        get used() {
          return state.poolUsed;
        },
        set used(n) {
          state.poolUsed = n;
        },
        free: state.poolFree,
      },
      guestPages,
      reservedPages,
    );
    const shadows = new ShadowTables(
      hardware.physical,
      pool,
      state.shadows,
      () => extension?.views ?? 1,
    );
    let capabilities: ReturnType<typeof capabilitiesOf> | undefined;
    const l0Of = (cpu: number): L0 => {
      const context = hardware.cpus[cpu];
      capabilities ??= capabilitiesOf(
        offeredModel(hardware.model, extension?.offers ?? []),
      );
      return {
        cpu: context,
        cells: state.vcpus[cpu],
        pool,
        shadows,
        capabilities,
        extension,
        watcher,
        guestBytes: guestPages * PAGE_SIZE,
        // The page just above RAM: devices lie higher, so nobody claims it.
        nowhere: ramPages,
        operations: use.root.operations(context),
        stop,
      };
    };
    use.root.bind({
      onExit(cpu, operations) {
        const l0 = { ...l0Of(cpu.index), operations };
        if (!onExit(l0)) return;
        noteEntry(l0);
        const result = operations.resume();
        if (result !== 0) {
          throw new Error(
            `L0's VM entry failed with error ${result}: vmcs${
              l0.cells.inL2 ? "02" : "01"
            } is invalid`,
          );
        }
      },
    });
    hardware.onStart(() => startL1(l0Of(0)));
    provide.exceptions({
      watch(by) {
        if (watcher !== undefined) {
          throw new ConfigError(
            "watch L1's exceptions: somebody does already; load one watcher",
          );
        }
        watcher = by;
      },
      intercept(cpu, bitmap) {
        const cells = state.vcpus[cpu];
        cells.exceptionBitmap = bitmap;
        // Before the first step L0 hasn't started: startL1 takes it from the cell.
        if (cells.vmcs01 === 0) return;
        new Vmcs(hardware.physical, cells.vmcs01)
          .write32(VmcsField.ExceptionBitmap, bitmap);
      },
      level: (cpu) => state.vcpus[cpu].inL2 ? 2 : 1,
    });
    provide.nested({
      extend(by) {
        if (extension !== undefined) {
          throw new ConfigError(
            "extend nested VMX: there is an extension already; load one only",
          );
        }
        extension = by;
      },
      fetchPolicy: (cpu, rip) => fetchPolicy(l0Of(cpu), rip),
      codeAcross: (cpu, rip) => codeAcross(l0Of(cpu), rip),
    });
    return undefined;
  },
});
