/**
 * Requests under way: each try reads everything anew between two steps, so that
 * what is published was so at one boundary. Faults go by the request's policy.
 *
 * Inject-and-retry, depth one: at most one injected fault is out at a time,
 * further ones queue. It is held back until the vCPU is active, outside the
 * shadows of STI and MOV SS, at the declared CPL and in the pinned address
 * space, and tried once more before it is delivered. The read is made again
 * when an IRET returns to the very place (RIP, RSP, CPL, CR3); what comes in
 * between, interrupts and NMIs included, is the guest's own business. A fault
 * that cannot be delivered, or a guest that does not return in time, ends the
 * request by policy report.
 *
 * Invariant: all state is in cells and in EventRequest.Introspection.
 */
import type { CellMap } from "../../core/mod.ts";
import { Vector } from "../../cpu/arch/exceptions.ts";
import type { CpuContext } from "../../cpu/context.ts";
import {
  ActivityState,
  Gpr,
  Interruptibility,
  VCPU,
} from "../../cpu/layout.ts";
import { deliverEvent } from "../../cpu/semantics/system/delivery.ts";
import { EventType } from "../../cpu/semantics/system/events.ts";
import type { MmuService } from "../mmu/api.ts";
import {
  type ErrorHandler,
  type FaultHandler,
  Verdict,
  type VerdictCode,
} from "./api.ts";
import { type ListWalk, walkList } from "./list_walk.ts";
import { type Fault, readable, withReader } from "./reader.ts";
import type { Reporter } from "./report.ts";
import {
  commonOf,
  defaultsOf,
  type Job,
  JOB_FIELDS,
  type ListRequest,
  type ReadRequest,
  type ReadResult,
  RESULT_FIELDS,
} from "./requests.ts";
import { Cause, Ending, type EndingWord, Policy } from "./words.ts";

/** Cells of the requests. */
export interface JobCells {
  nextId: number;
  /** Request whose fault is held or injected; 0 for none. */
  active: number;
  readonly jobs: CellMap<number, Job>;
  readonly results: CellMap<number, ReadResult>;
}

/** What jobs work with. */
export interface JobWorld {
  readonly cells: JobCells;
  readonly cpus: readonly CpuContext[];
  readonly mmu: MmuService;
  readonly report: Reporter;
  readonly errorHandlers: ReadonlyMap<string, ErrorHandler>;
  readonly faultHandlers: ReadonlyMap<string, FaultHandler>;
  /** Results kept. */
  readonly keep: number;
  /** Whether the level that L0 (or the bare machine) runs has the vCPU. */
  injectable(cpu: CpuContext): boolean;
  /** Requests the boundary check, or takes the request back. */
  watchBoundary(cpu: CpuContext, on: boolean): void;
  /** Starts or stops the patience timer. */
  patience(on: boolean): void;
}

const SHADOW = Interruptibility.BySti | Interruptibility.ByMovSs;
const NO_JOB = defaultsOf(JOB_FIELDS);
const NO_RESULT = defaultsOf(RESULT_FIELDS);

/** One try. */
interface Attempt {
  readonly bytes: Uint8Array;
  readonly fault: Fault | undefined;
  readonly walk: ListWalk | undefined;
}

/** See the file header. */
export class Jobs {
  constructor(private readonly world: JobWorld) {}

  /** Accepts a request; its first try is `attempt`. */
  accept(request: ReadRequest | ListRequest): number {
    const { cells, cpus } = this.world;
    const id = cells.nextId;
    cells.nextId = id === 0xffff_ffff ? 1 : id + 1;
    const { v } = cpus[request.cpu];
    cells.jobs.set(id, {
      ...NO_JOB,
      ...("length" in request ? { read: request } : { list: request }),
      cr3: request.cr3 ?? v.quad(VCPU.cr3),
    });
    return id;
  }

  /** Tries until the request ends or waits for the guest. */
  attempt(id: number): void {
    for (;;) {
      const job = this.world.cells.jobs.get(id);
      if (job === undefined) return;
      const tried = this.read(id, job);
      if (tried.fault === undefined) {
        return this.finish(id, job, tried, Ending.Read);
      }
      if (!this.faulted(id, job, tried, tried.fault)) return;
    }
  }

  private read(id: number, job: Job): Attempt {
    const { cpus, mmu, report } = this.world;
    const { cpu: index, reader, cpl, ac } = commonOf(job);
    const cpu = cpus[index];
    const { read: wanted, list } = job;
    return withReader(
      cpu,
      mmu,
      reader,
      { cpl, ac, cr3: job.cr3 },
      (read): Attempt => {
        if (wanted !== undefined) {
          return {
            ...read(wanted.linear, wanted.length),
            walk: undefined,
          };
        }
        const walk = walkList(list!, read, (at) => readable(cpu, at));
        report.steps(id, job.attempts, walk);
        return { bytes: walk.bytes, fault: walk.fault, walk };
      },
    );
  }

  /** @returns whether to try again at once */
  private faulted(
    id: number,
    job: Job,
    tried: Attempt,
    fault: Fault,
  ): boolean {
    const { world } = this;
    const { cells, report } = world;
    const { policy, cpu: index, budget } = commonOf(job);
    const cpu = world.cpus[index];
    report.faulted(id, cpu, policy, fault);
    if (policy === Policy.Report) {
      this.finish(id, job, tried, Ending.Reported);
      return false;
    }
    if (policy === Policy.InjectAndRetry) {
      this.hold(id, job, tried, fault);
      return false;
    }
    const again = this.callHandler(id, job, tried, fault);
    report.handled(id, commonOf(job), again === Verdict.Again);
    if (again !== Verdict.Again) {
      this.finish(id, job, tried, Ending.Dropped);
      return false;
    }
    if (job.attempts >= budget) {
      this.finish(id, job, tried, Ending.OutOfBudget);
      return false;
    }
    cells.jobs.set(id, { ...job, attempts: job.attempts + 1 });
    return true;
  }

  private callHandler(
    id: number,
    job: Job,
    tried: Attempt,
    fault: Fault,
  ): VerdictCode {
    const { errorHandlers, faultHandlers, cpus } = this.world;
    const { policy, cpu: index, handler } = commonOf(job);
    const { attempts } = job;
    if (policy === Policy.Handler) {
      return errorHandlers.get(handler)!({
        id,
        cpu: index,
        cause: fault.cause,
        bytesOk: tried.bytes.length,
        faultVa: fault.linear,
        attempts,
      });
    }
    const { v } = cpus[index];
    const { vector, errorCode, linear } = fault;
    return faultHandlers.get(handler)!({
      id,
      cpu: index,
      vector,
      errorCode,
      linear,
      rip: v.rip,
      rsp: v.gpr(Gpr.RSP),
      cpl: v.cpl,
      attempts,
    });
  }

  /** Inject-and-retry: the fault waits until the guest can take it. */
  private hold(id: number, job: Job, tried: Attempt, fault: Fault): void {
    const { world } = this;
    const { cells } = world;
    const { cpu: index, budget } = commonOf(job);
    const cpu = world.cpus[index];
    if (fault.cause !== Cause.PageFault) {
      return this.finish(id, job, tried, Ending.Reported);
    }
    if (!world.injectable(cpu)) {
      return this.finish(id, job, tried, Ending.NotInjectable);
    }
    if (job.attempts >= budget) {
      return this.finish(id, job, tried, Ending.OutOfBudget);
    }
    const mine = cells.active === 0 || cells.active === id;
    cells.jobs.set(id, {
      ...job,
      phase: mine ? "held" : "queued",
      faultStep: cpu.v.step,
      faultVa: fault.linear,
      errorCode: fault.errorCode,
    });
    if (!mine) return;
    if (cells.active === 0) world.patience(true);
    cells.active = id;
    world.watchBoundary(cpu, true);
  }

  /** The boundary check that `watchBoundary` asked for. @returns whether it delivered */
  boundary(cpu: CpuContext): boolean {
    const { world } = this;
    const { cells } = world;
    const { v } = cpu;
    // Again for each request that a finished one makes room for: a later
    // boundary would be another one on another engine.
    for (;;) {
      const id = cells.active;
      const job = cells.jobs.get(id);
      if (job === undefined || job.phase !== "held") return false;
      if (
        commonOf(job).cpu !== cpu.index ||
        v.activity !== ActivityState.Active || v.interruptibility & SHADOW ||
        v.cpl !== commonOf(job).cpl || v.quad(VCPU.cr3) !== job.cr3 ||
        !world.injectable(cpu)
      ) return false;
      if (job.faultStep === v.step) return this.inject(id, job, cpu);
      // Held back for a while: the page may be there by now.
      this.attempt(id);
    }
  }

  private inject(id: number, job: Job, cpu: CpuContext): boolean {
    const { world } = this;
    const { v } = cpu;
    const { faultVa, errorCode } = job;
    world.watchBoundary(cpu, false);
    const out: Job = {
      ...job,
      phase: "injected",
      attempts: job.attempts + 1,
      rip: v.rip,
      rsp: v.gpr(Gpr.RSP),
    };
    world.cells.jobs.set(id, out);
    world.report.injected(id, cpu, out);
    const reached = deliverEvent(
      cpu,
      {
        vector: Vector.PF,
        type: EventType.HardwareException,
        errorCode,
        instructionLength: 0,
      },
      faultVa,
    );
    if (!reached) this.giveUp(id, Ending.Aborted);
    return true;
  }

  /** IRET retired. */
  returned(cpu: CpuContext): void {
    const { cells, report } = this.world;
    if (cells.active === 0) return;
    const job = cells.jobs.get(cells.active);
    if (job === undefined || job.phase !== "injected") return;
    const { v } = cpu;
    const { cpu: index, cpl } = commonOf(job);
    if (
      index !== cpu.index || v.rip !== job.rip || v.gpr(Gpr.RSP) !== job.rsp ||
      v.cpl !== cpl || v.quad(VCPU.cr3) !== job.cr3
    ) return;
    cells.jobs.set(cells.active, { ...job, phase: "ready" });
    report.retried(cells.active, "", cpu);
  }

  /** The guest did not come back in time. */
  outOfPatience(): void {
    this.giveUp(this.world.cells.active, Ending.TimedOut);
  }

  private giveUp(id: number, ending: EndingWord): void {
    const job = this.world.cells.jobs.get(id);
    if (job === undefined) return;
    const { faultVa, errorCode } = job;
    const fault: Fault = {
      cause: Cause.PageFault,
      vector: Vector.PF,
      errorCode,
      linear: faultVa,
    };
    const bytes = new Uint8Array(0);
    this.finish(id, job, { bytes, fault, walk: undefined }, ending);
  }

  private finish(
    id: number,
    job: Job,
    tried: Attempt,
    ending: EndingWord,
  ): void {
    const { world } = this;
    const { cells, report } = world;
    const { bytes, fault, walk } = tried;
    const result: ReadResult = {
      ...NO_RESULT,
      ending,
      cause: fault?.cause ?? Cause.None,
      errorCode: fault?.errorCode ?? 0,
      faultVa: fault?.linear ?? walk?.stoppedAt ?? 0n,
      bytesOk: bytes.length,
      bytes,
      ...(walk === undefined
        ? {}
        : { outcome: walk.outcome, nodes: walk.nodes }),
      attempts: job.attempts,
      step: world.cpus[commonOf(job).cpu].v.step,
    };
    cells.jobs.delete(id);
    cells.results.set(id, result);
    while (cells.results.size > world.keep) {
      cells.results.delete(cells.results.keys().next().value!);
    }
    report.completed(id, job, result);
    if (cells.active !== id) return;
    cells.active = 0;
    world.patience(false);
    world.watchBoundary(world.cpus[commonOf(job).cpu], false);
    for (const [next, { phase }] of cells.jobs) {
      if (phase !== "queued") continue;
      cells.jobs.set(next, { ...cells.jobs.get(next)!, phase: "ready" });
      this.attempt(next);
      if (cells.active !== 0) break;
    }
  }
}
