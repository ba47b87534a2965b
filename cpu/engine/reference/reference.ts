/**
 * The reference engine (design §7): one instruction at a time, evaluated with
 * BigInt through the shared accessors. Slow and inspectable; it is what the
 * compiled engines are compared with.
 */
import type { CpuContext } from "../../context.ts";
import type { InstructionDecoder } from "../../isa/decoder.ts";
import type { Insn } from "../../isa/insn.ts";
import { Outcome } from "../../isa/row.ts";
import { type Backend, ExecReason, type HotFacts } from "../backend.ts";
import { ReferenceEmitter } from "./emitter.ts";
import { Fetcher, NOT_MODELLED } from "./fetch.ts";

/** Observed instructions after which the ring is offered for draining. */
const OBSERVED_BATCH = 1000;

/** See the file header. */
export class ReferenceEngine implements Backend {
  readonly name = "reference";
  insn: Insn | undefined;
  notModelled: string | undefined;
  private readonly emitter = new ReferenceEmitter();
  private readonly fetcher: Fetcher;
  private cpus: readonly CpuContext[] = [];

  constructor(decoder: InstructionDecoder) {
    this.fetcher = new Fetcher(decoder);
  }

  attach(cpus: readonly CpuContext[]): void {
    this.cpus = cpus;
  }

  execute(cpu: CpuContext, limit: number): number {
    const { v, facts, index } = cpu;
    let budget = facts.observed ? OBSERVED_BATCH : Infinity;
    let step = v.step;
    while (step < limit) {
      if (budget-- === 0) return ExecReason.Ring;
      const fetched = this.fetcher.fetch(cpu);
      if (fetched !== 0) return this.failed(fetched);
      const insn = this.fetcher.insn!;
      if (insn.row.call !== undefined) {
        this.insn = insn;
        return ExecReason.Call;
      }
      const pendingDebug = v.pendingDebug;
      const outcome = this.emitter.run(cpu, insn);
      if (outcome !== 0) {
        // Data breakpoints are traps: an instruction that faults reports none.
        v.pendingDebug = pendingDebug;
        return this.failed(outcome);
      }
      this.emitter.commit();
      v.step = ++step;
      if (facts.observed) facts.retired(index, insn.rip);
      if (cpu.attention) return ExecReason.Attention;
    }
    return ExecReason.Limit;
  }

  private failed(outcome: number): number {
    switch (outcome) {
      case Outcome.Stage2:
        return ExecReason.Stage2;
      case NOT_MODELLED:
        this.notModelled = this.fetcher.notModelled;
        return ExecReason.NotModelled;
      default:
        return ExecReason.Fault;
    }
  }

  /** The FactPort filters by kind; nothing here depends on it. */
  observe(_wanted: HotFacts): void {}

  codeWritten(physicalPage: number): void {
    this.fetcher.drop(physicalPage);
    for (const cpu of this.cpus) cpu.physical.clearCode(physicalPage);
  }

  /** Every access goes through the translator: there are no grants. */
  dropGrants(): void {}
  dropWriteGrants(): void {}

  reset(): void {
    this.fetcher.clear();
  }
}
