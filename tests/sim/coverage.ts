/**
 * What a corpus of random programs covers: rows of the ISA table that retired
 * or at least were reached (they faulted or exited), exception vectors raised,
 * programs that faulted, self-modifying code, page-table edits, VM exits.
 * Measured on the reference engine by looking at every step, not by what the
 * generator meant to do.
 */
import { parseModel } from "../../cpu/arch/models.ts";
import {
  CpuRetired,
  ExceptionDelivered,
  InterruptDelivered,
  MemWrote,
} from "../../cpu/facts.ts";
import { MachineExecutor } from "../../cpu/engine/executor.ts";
import type { Hardware } from "../../cpu/hardware.ts";
import type { InstructionDecoder } from "../../cpu/isa/decoder.ts";
import { ROWS } from "../../cpu/isa/table.ts";
import { rowLabel } from "../../cpu/isa/validate.ts";
import { Seg } from "../../cpu/layout.ts";
import { createDecoder } from "../../plugins/decoder/decode.ts";
import { UartConsumed } from "../../plugins/uart16550/api.ts";
import { SvmEntered, SvmExited } from "../../plugins/svm/api.ts";
import { VmxEntered, VmxExited } from "../../plugins/vmx/api.ts";
import { AT } from "./places.ts";
import type { Program } from "./program.ts";
import { drive, type Ending, machineOf } from "./run.ts";
import { REAL_AT } from "./runtime.ts";

/** See the file header. */
export class Coverage {
  programs = 0;
  steps = 0;
  /** Programs that raised an exception. */
  faulting = 0;
  /** Programs whose own stores changed code that then ran. */
  selfModifying = 0;
  /** Programs that wrote to their page tables. */
  pageTableEdits = 0;
  /** VM exits and entries of VMX. */
  exits = 0;
  entries = 0;
  svmEntries = 0;
  interrupts = 0;
  serialBytes = 0;
  readonly endings = new Map<Ending, number>();
  readonly exitReasons = new Map<number, number>();
  /** #VMEXITs by EXITCODE. */
  readonly exitCodes = new Map<number, number>();
  /** Exceptions by vector, without INT n. */
  readonly vectors = new Map<number, number>();
  /** Retired instructions by row. */
  readonly retired = new Uint32Array(ROWS.length);
  /** Rows at which an exception or exit happened. */
  readonly reached = new Uint32Array(ROWS.length);

  /** Runs a program to its end. */
  add(program: Program): void {
    const kernel = machineOf(program, "reference");
    const { executor } = kernel;
    if (!(executor instanceof MachineExecutor)) throw new Error("no machine");
    const { hardware } = executor;
    const look = new Look(program, hardware);
    let faults = 0;
    const pages = new Set<number>();
    const written = new Set<number>();
    let modified = false, edited = false;
    const reach = (rip: bigint): void => {
      const row = look.row(rip);
      if (row >= 0) this.reached[row]++;
    };
    kernel.watch(ExceptionDelivered, ({ vector, type, rip }) => {
      // Types 3, 5 and 6: exceptions; 4 is INT n (SDM 3C table 25-17).
      if (type !== 4) {
        this.vectors.set(vector, (this.vectors.get(vector) ?? 0) + 1);
        faults++;
      }
      reach(rip);
      return undefined;
    });
    kernel.watch(InterruptDelivered, ({ nmi }) => {
      if (nmi) this.vectors.set(2, (this.vectors.get(2) ?? 0) + 1);
      else this.interrupts++;
      return undefined;
    });
    kernel.watch(CpuRetired, ({ rip }) => {
      const row = look.row(rip);
      if (row >= 0) this.retired[row]++;
      if (written.has(look.linear(rip))) modified = true;
      return undefined;
    });
    kernel.watch(MemWrote, ({ physical, size }) => {
      const address = Number(physical);
      pages.add(address >>> 12);
      if (look.isCode(address)) {
        for (let i = -14; i < size; i++) written.add(address + i);
      }
      if (look.isTable(address)) edited = true;
      return undefined;
    });
    kernel.watch(UartConsumed, () => void this.serialBytes++);
    if (kernel.events.has(VmxExited.name)) {
      kernel.watch(VmxExited, ({ reason, rip }) => {
        this.exits++;
        this.exitReasons.set(reason, (this.exitReasons.get(reason) ?? 0) + 1);
        reach(rip);
        return undefined;
      });
      kernel.watch(VmxEntered, () => void this.entries++);
    }
    if (kernel.events.has(SvmExited.name)) {
      kernel.watch(SvmExited, ({ code, rip }) => {
        const key = Number(code);
        this.exitCodes.set(key, (this.exitCodes.get(key) ?? 0) + 1);
        reach(rip);
        return undefined;
      });
      kernel.watch(SvmEntered, () => void this.svmEntries++);
    }
    // A budget of one step: each is looked at before the next changes the code.
    const ending = drive(kernel, program, { chop: 1 });
    this.endings.set(ending, (this.endings.get(ending) ?? 0) + 1);
    this.programs++;
    this.steps += kernel.moment.step;
    if (faults > 0) this.faulting++;
    if (modified) this.selfModifying++;
    if (edited) this.pageTableEdits++;
  }

  /** Names of rows that never retired and, of these, never were reached. */
  missing(): { notRetired: string[]; notReached: string[] } {
    const nameOf = (i: number): string => rowLabel(ROWS[i]);
    const notRetired: string[] = [], notReached: string[] = [];
    for (let i = 0; i < ROWS.length; i++) {
      if (this.retired[i] > 0) continue;
      notRetired.push(nameOf(i));
      if (this.reached[i] === 0) notReached.push(nameOf(i));
    }
    return { notRetired, notReached };
  }

  /** The lines that the test prints. */
  toString(): string {
    const { notRetired, notReached } = this.missing();
    const list = (map: ReadonlyMap<number | string, number>): string =>
      [...map].sort(([a], [b]) => Number(a) - Number(b))
        .map(([key, count]) => `${key}:${count}`).join(" ");
    const rows = ROWS.length;
    return [
      `${this.programs} programs, ${this.steps} steps; ended: ${
        list(this.endings)
      }`,
      `ISA rows retired ${rows - notRetired.length} of ${rows}, reached ${
        rows - notReached.length
      }`,
      `exceptions by vector: ${list(this.vectors)}`,
      `faulting programs: ${this.faulting} (${
        Math.round(100 * this.faulting / this.programs)
      } %); self-modifying: ${this.selfModifying}; editing page tables: ${this.pageTableEdits}`,
      `interrupts: ${this.interrupts}; serial bytes consumed: ${this.serialBytes}`,
      `VM entries: ${this.entries}, exits: ${this.exits} by reason: ${
        list(this.exitReasons)
      }`,
      `VMRUNs: ${this.svmEntries}, #VMEXITs by code: ${list(this.exitCodes)}`,
    ].join("\n");
  }
}

/** Decodes what lies at CS:RIP, the bodies being mapped onto themselves. */
class Look {
  readonly #decoder: InstructionDecoder;
  readonly #anything: InstructionDecoder;
  readonly #bytes = new Uint8Array(15);

  constructor(
    private readonly program: Program,
    private readonly hardware: Hardware,
  ) {
    const model = parseModel(program.scenario.machine.cpu);
    this.#decoder = createDecoder(model);
    // Names the row of a form that the model refuses.
    this.#anything = createDecoder({ ...model, has: () => true });
  }

  linear(rip: bigint): number {
    const { v } = this.hardware.cpus[0];
    const base = this.program.mode === "long" ? 0n : v.segBase(Seg.CS);
    return Number(BigInt.asUintN(48, base + rip));
  }

  isCode(physical: number): boolean {
    return this.program.mode === "real"
      ? physical >= REAL_AT.body && physical < REAL_AT.end
      : physical >= AT.kernelBody && physical < AT.end;
  }

  isTable(physical: number): boolean {
    if (this.program.mode === "real") return false;
    // The walker's own writes of A and D are no stores of the guest.
    return physical >= AT.pml4 && physical < AT.vars;
  }

  /** The row at RIP, or −1. */
  row(rip: bigint): number {
    const address = this.linear(rip);
    const { physical, cpus } = this.hardware;
    if (address + 15 > this.hardware.layout.ramBytes) return -1;
    for (let i = 0; i < 15; i++) {
      this.#bytes[i] = Number(physical.read(address + i, 1));
    }
    const { v } = cpus[0];
    const attributes = v.segment(Seg.CS).attributes;
    const size = this.program.mode === "long"
      ? (attributes & 0x2000 ? 64 : attributes & 0x4000 ? 32 : 16)
      : this.program.mode === "protected"
      ? 32
      : 16;
    const real = this.program.mode === "real";
    for (const decoder of [this.#decoder, this.#anything]) {
      const insn = decoder.decode(this.#bytes, 15, size, rip, size, real);
      if (typeof insn !== "number") return insn.rowIndex;
    }
    return -1;
  }
}
