/**
 * The root owner's side of SVM (design §8): a hypervisor model without guest
 * instructions of its own, called after a #VMEXIT in place of the host, whose
 * operations are the instructions of the same names without operand fetch and
 * privilege checks.
 *
 * The owner never runs inside itself: a #VMEXIT or VMEXIT_INVALID that happens
 * while it enters a guest becomes its next call once it has returned.
 */
import { ConfigError, PluginError } from "../../core/errors.ts";
import type { CpuContext } from "../../cpu/context.ts";
import { ActivityState, Gpr, GuestMode } from "../../cpu/layout.ts";
import { readMsr, writeMsr } from "../../cpu/semantics/system/msr.ts";
import { Flush } from "../mmu/api.ts";
import type { SvmRootOperations, SvmRootService } from "./api.ts";
import { vmrun } from "./entry.ts";
import { setFlag, SvmFlag } from "./scratch.ts";
import type { SvmUnit } from "./unit.ts";
import { Vmcb } from "./vmcb.ts";
import { vmload, vmsave } from "./vmload.ts";

/** Calls in a row without a guest instruction after which an owner is stuck. */
const OWNER_LIMIT = 65_536;

/** Calls the root owner until the guest runs, or until it stops the machine. */
export function runOwner(unit: SvmUnit, cpu: CpuContext): void {
  const { owner } = unit;
  if (owner === undefined) return;
  const i = cpu.index;
  unit.ownerDue[i] = true;
  if (unit.ownerRuns[i]) return;
  unit.ownerRuns[i] = true;
  try {
    for (let n = 0; unit.ownerDue[i]; n++) {
      if (n === OWNER_LIMIT) {
        throw new PluginError(
          "svm",
          `run guest of vCPU ${i}: ${OWNER_LIMIT} VMRUNs failed or exited ` +
            "without a step; correct the VMCB in the root owner",
        );
      }
      unit.ownerDue[i] = false;
      for (let r = 0; r < 16; r++) unit.registers[r] = cpu.v.gpr(r);
      owner.onExit(cpu, operationsOf(unit, cpu));
    }
  } finally {
    unit.ownerRuns[i] = false;
  }
  // An owner that entered no guest has stopped the machine: host state has no
  // code to go on with.
  if (cpu.v.guestMode === GuestMode.None) {
    cpu.v.activity = ActivityState.Shutdown;
  }
}

/** Root operations of one vCPU. */
export function operationsOf(
  unit: SvmUnit,
  cpu: CpuContext,
): SvmRootOperations {
  const { v } = cpu;
  return {
    vmrun(address) {
      setFlag(v, SvmFlag.RootOwned, true);
      cpu.nextRip = v.rip;
      vmrun(unit, cpu, address, true);
    },
    vmload: (address) => vmload(cpu, new Vmcb(cpu.physical, address)),
    vmsave: (address) => vmsave(cpu, new Vmcb(cpu.physical, address)),
    invlpga(asid, linear) {
      cpu.translator.flush(cpu, Flush.VpidAddress, asid, 0, linear);
    },
    rdmsr: (index) => readMsr(cpu, index),
    wrmsr: (index, value) => writeMsr(cpu, index, value),
    retired(rip) {
      if (cpu.facts.observed) {
        for (let i = 0; i < 16; i++) {
          if (i === Gpr.RSP || v.gpr(i) === unit.registers[i]) continue;
          cpu.facts.registerWrote(cpu.index, i, v.gpr(i));
        }
        cpu.facts.retired(cpu.index, rip);
      }
      v.step += 1;
    },
  };
}

/** The service as the plugin provides it. */
export function rootService(unit: SvmUnit): SvmRootService {
  return {
    bind(owner) {
      if (unit.owner !== undefined) {
        throw new ConfigError(
          "bind root owner: SVM has an owner already; load only one " +
            "hypervisor plugin",
        );
      }
      unit.owner = owner;
    },
    operations: (cpu) => operationsOf(unit, cpu),
  };
}
