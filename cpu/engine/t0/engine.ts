/**
 * T0 (design §7): the generated WebAssembly interpreter as a Backend. The
 * reference stands in for forms not compiled yet, for instructions that cross a
 * page, and while breakpoints or alignment checks are on, so that T0 differs
 * from it in nothing but speed (law 2).
 */
import type { CpuContext } from "../../context.ts";
import type { InstructionDecoder } from "../../isa/decoder.ts";
import type { Insn } from "../../isa/insn.ts";
import { PAGE_SIZE } from "../../layout.ts";
import type { Backend, CallRows, HotFacts } from "../backend.ts";
import { ReferenceEngine } from "../reference/reference.ts";
import { type Form, Forms } from "./form.ts";
import { canFuse } from "./fused.ts";
import { HOT } from "./hot_forms.ts";
import { Modes } from "./mode.ts";
import { Runner, type Shared } from "./runner.ts";

export { t0EngineBytes } from "./area.ts";

/** How T0 is set up; the defaults are what machines use. */
export interface T0Options {
  /** Executions of a form by the reference before it is compiled. */
  readonly threshold?: number;
  /** Instructions whose forms the main function has: "codeSize:hex bytes". */
  readonly hot?: readonly string[];
}

/** See the file header. */
export class T0Engine implements Backend {
  readonly name = "t0";
  private readonly reference: ReferenceEngine;
  private readonly runners: (Runner | undefined)[] = [];
  private cpus: readonly CpuContext[] = [];
  private shared: Shared | undefined;
  private facts = 0;
  private rows: CallRows | undefined;
  private last: Runner | undefined;

  constructor(
    private readonly decoder: InstructionDecoder,
    private readonly options: T0Options = {},
  ) {
    this.reference = new ReferenceEngine(decoder);
  }

  get insn(): Insn | undefined {
    return this.last?.insn;
  }
  get notModelled(): string | undefined {
    return this.last?.notModelled;
  }

  get callRows(): CallRows | undefined {
    return this.rows;
  }
  set callRows(rows: CallRows | undefined) {
    this.rows = rows;
    if (this.shared !== undefined) this.shared.callRows = rows;
  }

  attach(cpus: readonly CpuContext[]): void {
    this.cpus = cpus;
    this.reference.attach(cpus);
    this.runners.length = 0;
    const { physical, v } = cpus[0];
    physical.onCodeMarked((page) => {
      for (const runner of this.runners) runner?.dropWriteGrants(page);
    });
    const forms = new Forms();
    this.shared = {
      memory: v.memory,
      forms,
      modes: new Modes(),
      decoder: this.decoder,
      reference: this.reference,
      callRows: this.callRows,
      hot: this.hotForms(forms),
      threshold: this.options.threshold ?? 16,
    };
  }

  execute(cpu: CpuContext, limit: number): number {
    let runner = this.runners[cpu.index];
    if (runner === undefined) {
      runner = new Runner(cpu, this.shared!);
      runner.observe(this.facts);
      this.runners[cpu.index] = runner;
    }
    this.last = runner;
    return runner.execute(limit);
  }

  observe({ retired, memory, registers }: HotFacts): void {
    this.facts = (retired ? 1 : 0) | (memory ? 2 : 0) | (registers ? 4 : 0);
    for (const runner of this.runners) runner?.observe(this.facts);
  }

  codeWritten(physicalPage: number, first = 0, last = PAGE_SIZE - 1): void {
    this.reference.codeWritten(physicalPage);
    for (const runner of this.runners) {
      const kept = runner?.codeWritten(physicalPage, first, last);
      if (kept) this.cpus[0].physical.keepCode(physicalPage);
    }
  }

  dropGrants(cpu: number, linearPage?: number): void {
    this.runners[cpu]?.dropGrants(linearPage);
  }
  dropWriteGrants(): void {
    for (const runner of this.runners) runner?.dropWriteGrants();
  }

  reset(): void {
    this.reference.reset();
    for (const runner of this.runners) runner?.reset();
  }

  private hotForms(forms: Forms): Form[] {
    const list = new Set<Form>();
    for (const text of this.options.hot ?? HOT) {
      const [size, code] = text.split(":");
      const local = code.endsWith("l");
      const insns = (local ? code.slice(0, -1) : code).split("+")
        .map((hex) => this.example(Number(size) as 16 | 32 | 64, hex));
      const [first, second] = insns;
      // A model without the instruction has no such form.
      if (first?.row.emit === undefined) continue;
      if (insns.length === 1) list.add(forms.of(first, local));
      else if (second !== undefined && canFuse(first, second)) {
        list.add(forms.of(first, false));
        list.add(forms.fuse(first, second, local));
      }
    }
    return [...list];
  }

  private example(codeSize: 16 | 32 | 64, hex: string): Insn | undefined {
    const bytes = Uint8Array.from(
      hex.match(/../g)!,
      (byte) => parseInt(byte, 16),
    );
    const insn = this.decoder.decode(
      bytes,
      bytes.length,
      codeSize,
      0n,
      codeSize,
      false,
    );
    return typeof insn === "number" ? undefined : insn;
  }
}
