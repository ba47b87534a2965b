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
import { DecodeCache } from "./decoded.ts";
import { type Form, Forms, hasForm } from "./form.ts";
import { canFuse } from "./fused.ts";
import { HOT } from "./hot_forms.ts";
import { Modes } from "./mode.ts";
import { Runner } from "./runner.ts";
import type { Shared } from "./shared.ts";

export { t0EngineBytes } from "./area.ts";

/** Instructions worth a form that leaves the flags alone. */
const DEAD: ReadonlySet<string> = new Set([
  ...["ADD", "ADC", "SUB", "SBB", "AND", "OR", "XOR", "INC", "DEC", "NEG"],
  ...["SHL", "SHR", "SAR", "ROL", "ROR", "IMUL"],
]);

/** How T0 is set up; the defaults are what machines use. */
export interface T0Options {
  /** Executions of a form by the reference before it is compiled. */
  readonly threshold?: number;
  /** Instructions whose forms the main function has: "codeSize:hex bytes". */
  readonly hot?: readonly string[];
  /** Makes every dead and paired form that blocks could use, not only the listed: for tests. */
  readonly eager?: boolean;
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
  /** By code size and bytes. */
  private readonly examples = new Map<string, Insn | undefined>();

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
      decoded: new DecodeCache(this.decoder),
      reference: this.reference,
      callRows: this.callRows,
      hot: this.hotForms(forms),
      threshold: this.options.threshold ?? 16,
      eager: this.options.eager ?? false,
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
    const pairs: [Form, Form][] = [];
    for (const text of this.options.hot ?? HOT) {
      const [size, code] = text.split(":");
      const parts = code.split("~");
      if (parts.length === 2) {
        const [first, then] = parts.map((part) =>
          this.formOf(forms, Number(size) as 16 | 32 | 64, part)
        );
        if (first && then) pairs.push([first, then]);
        continue;
      }
      const form = this.formOf(forms, Number(size) as 16 | 32 | 64, code);
      if (form === undefined) continue;
      if (form.second !== undefined) list.add(forms.byId(form.plain!));
      list.add(form);
    }
    for (const form of [...list]) {
      const dead = DEAD.has(form.sample.row.name) && form.second === undefined
        ? forms.makeDead(form)
        : undefined;
      if (dead !== undefined) list.add(dead);
    }
    for (const [first, then] of pairs) {
      for (const a of [first, forms.findDead(first)]) {
        for (const b of [then, forms.findDead(then)]) {
          const pair = a && b && forms.makePair(a, b);
          if (pair !== undefined && list.has(a!) && list.has(b!)) {
            list.add(pair);
          }
        }
      }
    }
    this.examples.clear();
    return [...list];
  }

  /** The form of "bytes", or of "bytes+bytes" fused; "l" at the end: local. */
  private formOf(
    forms: Forms,
    size: 16 | 32 | 64,
    code: string,
  ): Form | undefined {
    const local = code.endsWith("l");
    const [first, second] = (local ? code.slice(0, -1) : code).split("+")
      .map((hex) => this.example(size, hex));
    // A model without the instruction has no such form.
    if (first === undefined || !hasForm(first.row)) return undefined;
    if (!code.includes("+")) return forms.of(first, local);
    return second !== undefined && canFuse(first, second)
      ? forms.fuse(first, second, local)
      : undefined;
  }

  /** The instruction of hexadecimal bytes; pairs name those of others again. */
  private example(codeSize: 16 | 32 | 64, hex: string): Insn | undefined {
    const key = `${codeSize}:${hex}`;
    if (!this.examples.has(key)) {
      this.examples.set(key, this.decoded(codeSize, Uint8Array.fromHex(hex)));
    }
    return this.examples.get(key);
  }

  private decoded(
    codeSize: 16 | 32 | 64,
    bytes: Uint8Array,
  ): Insn | undefined {
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
