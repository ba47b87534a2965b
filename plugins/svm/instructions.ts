/**
 * The SVM instructions (APM 3, each by name; APM 2 §15.4–15.17): fault checks,
 * intercept, effect, as rows. Privilege and mode come before the intercept, the
 * operand's address after it.
 */
import { Efer } from "../../cpu/arch/flags.ts";
import type { CpuContext } from "../../cpu/context.ts";
import type { Insn } from "../../cpu/isa/insn.ts";
import { Outcome, type OutcomeCode } from "../../cpu/isa/row.ts";
import { Gpr, GuestMode } from "../../cpu/layout.ts";
import { Access } from "../../cpu/port.ts";
import {
  gp,
  maskOf,
  protectedMode,
  ud,
} from "../../cpu/semantics/system/common.ts";
import { Flush } from "../mmu/api.ts";
import { IntCtl, InterceptBit as B } from "./controls.ts";
import { vmrun } from "./entry.ts";
import { vmExit } from "./exit.ts";
import { hasFlag, intercepted, SCRATCH, setFlag, SvmFlag } from "./scratch.ts";
import type { SvmUnit } from "./unit.ts";
import { Vmcb } from "./vmcb.ts";
import { vmload, vmsave } from "./vmload.ts";

/** One instruction. */
export interface SvmInstruction {
  /** Mnemonic of the ISA row. */
  readonly name: string;
  /** Its InterceptBit, the exit code too. */
  readonly bit: number;
  /** Executes it, intercepts and privilege apart. */
  readonly run: (unit: SvmUnit, cpu: CpuContext, insn: Insn) => OutcomeCode;
  /** At any privilege and in any mode (VMMCALL). */
  readonly anywhere?: boolean;
}

/** rAX as a VMCB address: 4-KiB-aligned and within MAXPHYADDR, else undefined (#GP). */
function vmcbAddress(cpu: CpuContext, insn: Insn): number | undefined {
  const address = cpu.v.gpr(Gpr.RAX) & maskOf(insn.addressSize);
  if (address & 0xfffn) return undefined;
  if (address >> BigInt(cpu.model.physicalAddressBits)) return undefined;
  return Number(address);
}

/**
 * VMRUN: the loop must do nothing more, whatever came of it. A VM_HSAVE_PA of 0
 * is not valid (§15.30.4).
 */
function runGuest(unit: SvmUnit, cpu: CpuContext, insn: Insn): OutcomeCode {
  const address = vmcbAddress(cpu, insn);
  if (address === undefined || cpu.v.quad(SCRATCH.hsave) === 0n) return gp(cpu);
  vmrun(unit, cpu, address);
  return Outcome.Exit;
}

/**
 * VMLOAD and VMSAVE. Virtualized (§15.33.1), a guest's address goes through
 * nested paging; otherwise it is a host-physical one.
 */
function transfer(
  move: (cpu: CpuContext, vmcb: Vmcb) => void,
  access: number,
): SvmInstruction["run"] {
  return (_unit, cpu, insn) => {
    const { v } = cpu;
    let address = vmcbAddress(cpu, insn);
    if (address === undefined) return gp(cpu);
    if (
      v.guestMode === GuestMode.Svm && hasFlag(v, SvmFlag.VmloadVirtual) &&
      hasFlag(v, SvmFlag.NestedPaging)
    ) {
      const page = cpu.translator.translatePhysical(
        cpu,
        address / 4096,
        access | Access.System,
      );
      if (page < 0) return Outcome.Stage2;
      address = page * 4096;
    }
    move(cpu, new Vmcb(cpu.physical, address));
    return Outcome.Done;
  };
}

/** STGI and CLGI: V_GIF in a guest with virtual GIF (§15.33.2), else GIF. */
function setGif(on: boolean): SvmInstruction["run"] {
  return (_unit, cpu) => {
    const { v } = cpu;
    const intCtl = v.word(SCRATCH.intCtl);
    if (v.guestMode === GuestMode.Svm && intCtl & IntCtl.GifEnable) {
      const next = on ? intCtl | IntCtl.Gif : intCtl & ~IntCtl.Gif;
      v.setWord(SCRATCH.intCtl, next);
    } else setFlag(v, SvmFlag.GifClear, !on);
    cpu.attention = true;
    return Outcome.Done;
  };
}

/** INVLPGA: the page of rAX in the ASID of ECX; 0 is the host's. */
function invlpga(_unit: SvmUnit, cpu: CpuContext, insn: Insn): OutcomeCode {
  const { v } = cpu;
  const linear = v.gpr(Gpr.RAX) & maskOf(insn.addressSize);
  const asid = Math.min(v.gpr32(Gpr.RCX), 0xffff);
  cpu.translator.flush(cpu, Flush.VpidAddress, asid, 0, linear);
  return Outcome.Done;
}

/** The instructions. */
export const SVM_INSTRUCTIONS: readonly SvmInstruction[] = [
  { name: "VMRUN", bit: B.Vmrun, run: runGuest },
  {
    name: "VMMCALL",
    bit: B.Vmmcall,
    // Only a hypervisor that intercepts it gives VMMCALL a meaning.
    run: (_unit, cpu) => ud(cpu),
    anywhere: true,
  },
  {
    name: "VMLOAD",
    bit: B.Vmload,
    run: transfer(vmload, Access.Read),
  },
  {
    name: "VMSAVE",
    bit: B.Vmsave,
    run: transfer(vmsave, Access.Write),
  },
  { name: "STGI", bit: B.Stgi, run: setGif(true) },
  { name: "CLGI", bit: B.Clgi, run: setGif(false) },
  {
    name: "SKINIT",
    bit: B.Skinit,
    run: (_unit, cpu) => cpu.notModelled("SKINIT", "APM 2 §15.27"),
  },
  { name: "INVLPGA", bit: B.Invlpga, run: invlpga },
];

const byName = (
  rows: readonly SvmInstruction[],
): ReadonlyMap<string, SvmInstruction> =>
  new Map(rows.map((row) => [row.name, row]));
const BY_NAME = byName(SVM_INSTRUCTIONS);

/** Executes an SVM instruction. @param rows other than all of them in tests only */
export function executeSvm(
  unit: SvmUnit,
  cpu: CpuContext,
  insn: Insn,
  rows = SVM_INSTRUCTIONS,
): OutcomeCode {
  const { v } = cpu;
  const table = rows === SVM_INSTRUCTIONS ? BY_NAME : byName(rows);
  const row = table.get(insn.row.name);
  if (row === undefined) return ud(cpu);
  if (!row.anywhere) {
    const enabled = (v.efer & Efer.SVME) !== 0;
    if (!enabled || !protectedMode(v)) return ud(cpu);
    if (v.cpl !== 0) return gp(cpu);
  }
  if (v.guestMode === GuestMode.Svm && intercepted(v, row.bit)) {
    // The loop has cleared the shadow and RF for the instruction's own sake.
    v.interruptibility |= cpu.shadow ?? 0;
    vmExit(unit, cpu, { code: row.bit, nextRip: cpu.nextRip });
    return Outcome.Exit;
  }
  return row.run(unit, cpu, insn);
}
