/**
 * Where intercepted exceptions meet the modules: from the cpu's exception
 * filter on the bare machine, or from L0's exception bitmap (bits 13 and 14 of
 * vmcs01). Both ask `judge`, so that the guest sees the same either way.
 *
 * Invariant: interception is on exactly while a module of that vCPU is
 * registered; what is not a module's reaches the guest unchanged.
 */
import { Vector } from "../../cpu/arch/exceptions.ts";
import { Rflags } from "../../cpu/arch/flags.ts";
import type { CpuContext } from "../../cpu/context.ts";
import { Gpr, VCPU } from "../../cpu/layout.ts";
import type { CellMap } from "../../core/mod.ts";
import type { L1ExceptionControl } from "../hypervisor/api.ts";
import { decide, INTERCEPTED, type Intercepted } from "./modules.ts";
import type { Reporter } from "./report.ts";
import type { GuestModule } from "./requests.ts";

/** Cells of the modules. */
export interface ModuleCells {
  reinjected: number;
  /** Module whose fault the guest has, empty for none. */
  injectedModule: string;
  injectedRip: bigint;
  injectedVa: bigint;
  /** How often that fault was given to the guest in a row. */
  injections: number;
  readonly modules: CellMap<string, GuestModule>;
}

/** Where a redirected guest goes on. */
export interface Redirection {
  readonly rip: bigint;
  readonly rax: bigint;
}

/** See the file header. */
export class ModuleWatch {
  constructor(
    private readonly cells: ModuleCells,
    private readonly cpus: readonly CpuContext[],
    private readonly report: Reporter,
    private readonly l1: L1ExceptionControl | undefined,
  ) {
    l1?.watch({
      exception: (fault) =>
        this.judge({ ...fault, cpu: fault.cpu.index }, fault.rsp, fault.rflags),
    });
  }

  /** Registers or replaces. */
  arm(module: GuestModule): void {
    this.cells.modules.set(module.name, module);
    this.report.armed(module);
    this.intercept(module.cpu);
  }

  /** @returns whether it was registered */
  disarm(name: string): boolean {
    const module = this.cells.modules.get(name);
    if (module === undefined) return false;
    this.cells.modules.delete(name);
    if (this.cells.injectedModule === name) this.cells.injectedModule = "";
    this.report.disarmed(name);
    this.intercept(module.cpu);
    return true;
  }

  /** L0's exception bitmap; the bare machine's filter needs no switch. */
  intercept(cpu: number): void {
    if (this.l1 === undefined) return;
    const any = [...this.cells.modules.values()].some((m) => m.cpu === cpu);
    this.l1.intercept(cpu, any ? INTERCEPTED : 0);
  }

  /** The cpu's filter: `v.pending` is about to be delivered. */
  exception(cpu: CpuContext): boolean {
    if (this.cells.modules.size === 0) return false;
    const { v } = cpu;
    const pending = v.pending;
    if (
      pending === undefined || pending.software ||
      (pending.vector !== Vector.PF && pending.vector !== Vector.GP)
    ) return false;
    const to = this.judge(
      {
        cpu: cpu.index,
        vector: pending.vector,
        errorCode: pending.errorCode,
        linear: pending.payload,
        rip: v.rip,
        cr3: v.quad(VCPU.cr3),
        delivering: false,
      },
      v.gpr(Gpr.RSP),
      v.rflags,
    );
    if (to === undefined) return false;
    v.rip = to.rip;
    v.setGpr(Gpr.RAX, to.rax);
    v.rflags = (v.rflags & ~Rflags.RF) >>> 0;
    return true;
  }

  /** @returns where the guest goes on, or undefined when it gets its exception */
  private judge(
    fault: Intercepted,
    rsp: bigint,
    rflags: number,
  ): Redirection | undefined {
    const { cells, report } = this;
    const decision = decide(
      cells.modules.values(),
      fault,
      (module) =>
        cells.injectedModule === module.name &&
          cells.injectedRip === fault.rip && cells.injectedVa === fault.linear
          ? cells.injections
          : 0,
    );
    switch (decision.kind) {
      case "reinject":
        cells.reinjected = (cells.reinjected + 1) >>> 0;
        report.reinjected(fault, cells.reinjected);
        return undefined;
      case "inject": {
        const { module } = decision;
        report.moduleFaulted(fault, module);
        const same = cells.injectedModule === module.name &&
          cells.injectedRip === fault.rip && cells.injectedVa === fault.linear;
        cells.injections = same ? cells.injections + 1 : 1;
        cells.injectedModule = module.name;
        cells.injectedRip = fault.rip;
        cells.injectedVa = fault.linear;
        return undefined;
      }
      case "redirect": {
        const { module } = decision;
        report.moduleFaulted(fault, module);
        if (cells.injectedModule === module.name) cells.injectedModule = "";
        if (decision.frame) this.writeFrame(module, fault, rsp, rflags);
        report.redirected(fault, decision);
        return { rip: decision.to, rax: decision.status };
      }
    }
  }

  /** Vector, error code, linear address, RIP, RSP, RFLAGS: six u64. */
  private writeFrame(
    module: GuestModule,
    fault: Intercepted,
    rsp: bigint,
    rflags: number,
  ): void {
    const { physical } = this.cpus[module.cpu];
    const values = [
      BigInt(fault.vector),
      BigInt(Math.max(fault.errorCode, 0)),
      fault.linear,
      fault.rip,
      rsp,
      BigInt((rflags & ~Rflags.RF) >>> 0),
    ];
    values.forEach((value, i) =>
      physical.writeU64(Number(module.frame) + i * 8, value)
    );
  }

  /** IRET retired: a module whose fault the guest had reads again. */
  returned(cpu: CpuContext): void {
    const { cells } = this;
    const module = cells.modules.get(cells.injectedModule);
    if (
      module === undefined || module.cpu !== cpu.index ||
      cpu.v.rip !== cells.injectedRip
    ) return;
    this.report.retried(0, module.name, cpu);
  }
}
