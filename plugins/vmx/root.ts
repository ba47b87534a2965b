/**
 * The root owner's side of VMX (design §8): calling the owner after a VM exit,
 * and its operations, which are the instructions of the same names without
 * operand fetch and privilege checks.
 *
 * The owner never runs inside itself: an exit or VM-entry failure that happens
 * while it is about to resume becomes its next call once it has returned.
 */
import { ConfigError, PluginError } from "../../core/errors.ts";
import type { CpuContext } from "../../cpu/context.ts";
import { ActivityState, Gpr, GuestMode } from "../../cpu/layout.ts";
import {
  type RootOperations,
  VMFAIL_INVALID,
  type VmxRootService,
} from "./api.ts";
import { vmEntry } from "./entry.ts";
import {
  enterOperation,
  invept,
  invvpid,
  leaveOperation,
  vmclear,
  vmptrld,
  vmxonAllowed,
} from "./operations.ts";
import { currentVmcs, setFlag, VmxFlag } from "./scratch.ts";
import type { VmxUnit } from "./unit.ts";
import { FieldType, findField } from "./vmcs_fields.ts";

/** Entry failures in a row after which an owner is taken to be stuck. */
const OWNER_LIMIT = 65_536;

/** Calls the root owner until the guest runs, or until it stops the machine. */
export function runOwner(unit: VmxUnit, cpu: CpuContext): void {
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
          "vmx",
          `resume guest of vCPU ${i}: ${OWNER_LIMIT} VM entries failed or ` +
            "exited without a step; correct the VMCS in the root owner",
        );
      }
      unit.ownerDue[i] = false;
      for (let r = 0; r < 16; r++) unit.registers[r] = cpu.v.gpr(r);
      owner.onExit(cpu, operationsOf(unit, cpu));
    }
  } finally {
    unit.ownerRuns[i] = false;
  }
  // An owner that neither resumed nor fails has stopped the machine: no guest
  // instruction may follow from host state, which has no code.
  if (cpu.v.guestMode === GuestMode.None) {
    cpu.v.activity = ActivityState.Shutdown;
  }
}

/** Root operations of one vCPU. */
export function operationsOf(unit: VmxUnit, cpu: CpuContext): RootOperations {
  const { v } = cpu;
  const existing = (number: number) => {
    const found = findField(number);
    if (
      found === undefined || !unit.capabilities.fields.has(found.row.feature)
    ) {
      throw new RangeError(
        `cannot reach VMCS field 0x${number.toString(16)}: no such field`,
      );
    }
    const vmcs = unit.current(cpu);
    if (vmcs === undefined) {
      throw new RangeError(
        "cannot reach a VMCS field: no current VMCS; do vmptrld first",
      );
    }
    return { row: found.row, vmcs };
  };
  return {
    vmxon(region) {
      if (!vmxonAllowed(unit, cpu)) return VMFAIL_INVALID;
      const result = enterOperation(unit, cpu, region);
      if (result === 0) setFlag(v, VmxFlag.RootOwned, true);
      return result;
    },
    vmxoff() {
      leaveOperation(cpu);
      return 0;
    },
    vmclear: (region) => vmclear(unit, cpu, BigInt(region)),
    vmptrld: (region) => vmptrld(unit, cpu, BigInt(region)),
    vmptrst: () => currentVmcs(v),
    vmread(number) {
      const { row, vmcs } = existing(number);
      return vmcs.read(row.encoding);
    },
    vmwrite(number, value) {
      const { row, vmcs } = existing(number);
      if (row.type === FieldType.ReadOnly) {
        throw new RangeError(
          `cannot write VMCS field ${row.name}: it is read-only`,
        );
      }
      vmcs.write(row.encoding, value);
    },
    invept: (type, eptp) => invept(unit, cpu, type, eptp),
    invvpid: (type, vpid, linear) => invvpid(unit, cpu, type, vpid, linear),
    resume: () => vmEntry(unit, cpu, undefined, undefined),
    rdmsr: (index) => unit.msrs.read(cpu, index),
    wrmsr: (index, value) => unit.msrs.write(cpu, index, value),
    retired(rip) {
      if (cpu.facts.observed) {
        for (let i = 0; i < 16; i++) {
          if (i === Gpr.RSP || v.gpr(i) === unit.registers[i]) continue;
          cpu.facts.registerWrote(cpu.index, i, v.gpr(i));
        }
      }
      retire(cpu, rip);
    },
  };
}

/** Counts an instruction that VMX completed outside the loop. */
export function retire(cpu: CpuContext, rip: bigint): void {
  if (cpu.facts.observed) cpu.facts.retired(cpu.index, rip);
  cpu.v.step += 1;
}

/** The service as the plugin provides it. */
export function rootService(unit: VmxUnit): VmxRootService {
  return {
    bind(owner) {
      if (unit.owner !== undefined) {
        throw new ConfigError(
          "bind root owner: VMX root operation has an owner already; " +
            "load only one hypervisor plugin",
        );
      }
      unit.owner = owner;
    },
    operations: (cpu) => operationsOf(unit, cpu),
  };
}
