/**
 * The least machine that executes instructions: one vCPU, RAM, a flat table of
 * page rights instead of paging, no devices and no interrupts. For tests that
 * judge one engine or compare two; the real machine is host/'s.
 */
import { type CpuModel, parseModel } from "../../cpu/arch/models.ts";
import { PageFaultError, Vector } from "../../cpu/arch/exceptions.ts";
import { Cr0, Cr4, Efer } from "../../cpu/arch/flags.ts";
import { LinearAccess } from "../../cpu/access.ts";
import type { CpuContext } from "../../cpu/context.ts";
import { type Backend, ExecReason } from "../../cpu/engine/backend.ts";
import { CpuRetired, type FactPort, MemWrote } from "../../cpu/facts.ts";
import { createLayout, Seg, VCPU } from "../../cpu/layout.ts";
import { Outcome } from "../../cpu/isa/row.ts";
import { PhysicalMemory } from "../../cpu/physical.ts";
import {
  Access,
  type DeviceBus,
  Grant,
  type InterruptController,
  type Translator,
} from "../../cpu/port.ts";
import { EventRing } from "../../cpu/ring.ts";
import { type PendingException, Vcpu } from "../../cpu/vcpu.ts";
import { NotModelled } from "../../core/errors.ts";

/** One mapped linear page; RAM frames are given out in order of mapping. */
export interface BarePage {
  readonly writable: boolean;
  readonly executable: boolean;
  readonly user: boolean;
  readonly frame: number;
}

/** What one instruction came to. */
export type StepResult =
  | { readonly kind: "done" | "again" | "halt" | "exit" }
  | { readonly kind: "fault"; readonly fault: PendingException }
  | { readonly kind: "not-modelled"; readonly what: string };

/** A fact as the bare machine keeps it. */
export type BareFact =
  | { readonly kind: "retired"; readonly rip: bigint }
  | { readonly kind: "memory"; linear: bigint; size: number; value: bigint }
  | { readonly kind: "register"; register: number; value: bigint };

const noDevices: DeviceBus = {
  in: (_port, size) => size === 4 ? 0xffffffff : (1 << size * 8) - 1,
  out: () => {},
  claims: () => false,
  read: (_address, size) => (1n << BigInt(size * 8)) - 1n,
  write: () => {},
};

const noInterrupts: InterruptController = {
  acknowledge: () => 0,
  readTpr: () => 0,
  writeTpr: () => {},
};

/** How the vCPU starts. */
export interface BareOptions {
  readonly model?: string | CpuModel;
  readonly ramBytes?: number;
  readonly bits?: 16 | 32 | 64;
  readonly cpl?: 0 | 3;
  /** Room that the engine asks for. */
  readonly engineBytes?: number;
  /** The engine shall state all hot facts. */
  readonly observed?: boolean;
}

/** See the file header. */
export class BareMachine implements Translator {
  readonly cpu: CpuContext;
  readonly memory: WebAssembly.Memory;
  readonly pages = new Map<number, BarePage>();
  private readonly stated: BareFact[] = [];
  private readonly ring: EventRing;
  private frames = 0;

  constructor(readonly backend: Backend, options: BareOptions = {}) {
    const ramBytes = options.ramBytes ?? 1 << 20;
    const layout = createLayout(1, ramBytes, options.engineBytes ?? 1 << 16);
    this.memory = new WebAssembly.Memory({
      initial: layout.totalBytes / 65536,
      maximum: layout.totalBytes / 65536,
    });
    this.ring = new EventRing(this.memory, layout);
    const v = new Vcpu(this.memory, layout, 0);
    const physical = new PhysicalMemory(this.memory, layout, noDevices);
    const { model = "max-intel" } = options;
    const cpu = {
      index: 0,
      layout,
      v,
      model: typeof model === "string" ? parseModel(model) : model,
      physical,
      translator: this,
      devices: noDevices,
      interrupts: noInterrupts,
      virtualization: undefined,
      facts: this.factPort(options.observed ?? false),
      time: () => v.step,
      random: () => 0n,
      nextRip: 0n,
      attention: false,
      delivering: undefined,
      deliver() {
        throw new Error("deliver an event: a bare machine has no IDT");
      },
      notModelled(what: string, manual: string): never {
        throw new NotModelled(what, manual);
      },
    };
    this.cpu = Object.assign(cpu, {
      access: new LinearAccess(cpu as unknown as CpuContext),
    });
    physical.onCodeWritten((page, first, last) =>
      backend.codeWritten(page, first, last)
    );
    this.reset(options.bits ?? 64, options.cpl ?? 0);
    backend.attach([this.cpu]);
    const observed = options.observed ?? false;
    backend.observe({
      retired: observed,
      memory: observed,
      registers: observed,
    });
  }

  /** Facts so far, in order, of an observed machine. */
  get facts(): readonly BareFact[] {
    const quad = (words: Uint32Array, at: number): bigint =>
      BigInt(words[at]) | BigInt(words[at + 1]) << 32n;
    this.ring.drain((_step, event, words, at) => {
      switch (event as unknown) {
        case CpuRetired:
          this.stated.push({ kind: "retired", rip: quad(words, at + 1) });
          break;
        case MemWrote:
          this.stated.push({
            kind: "memory",
            linear: quad(words, at + 2),
            size: words[at + 1],
            value: quad(words, at + 6),
          });
          break;
        default:
          this.stated.push({
            kind: "register",
            register: words[at + 1],
            value: quad(words, at + 2),
          });
      }
    });
    return this.stated;
  }

  private factPort(observed: boolean): FactPort {
    const { ring } = this;
    return {
      observed,
      retired: (cpu, rip) => ring.retired(cpu, rip),
      memoryWrote: (cpu, linear, physical, size, value, old) =>
        ring.memory(cpu, linear, physical, size, value, old),
      registerWrote: (cpu, register, value) =>
        ring.register(cpu, register, value),
      wants: () => false,
      emit: () => {},
    };
  }

  /** Control state of a mode with flat segments. */
  private reset(bits: 16 | 32 | 64, cpl: 0 | 3): void {
    const { v } = this.cpu;
    v.cpl = cpl;
    v.rflags = 2;
    if (bits === 16) v.cr0 = Cr0.ET | Cr0.NE;
    else v.cr0 = (Cr0.PE | Cr0.ET | Cr0.NE | Cr0.WP | Cr0.PG) >>> 0;
    v.cr4 = Cr4.PAE | Cr4.OSFXSR | Cr4.FSGSBASE;
    v.efer = bits === 64 ? Efer.LME | Efer.LMA | Efer.SCE | Efer.NXE : 0;
    const dpl = cpl << 5;
    const code = bits === 64 ? 0xa09b : bits === 32 ? 0xc09b : 0x009b;
    const data = bits === 16 ? 0x0093 : 0xc093;
    const limit = bits === 16 ? 0xffff : 0xffffffff;
    for (let s = 0; s < 6; s++) {
      v.setSegment(s, {
        selector: bits === 16 ? 0 : (s === Seg.CS ? 0x30 : 0x28) | cpl,
        base: 0n,
        limit,
        attributes: (s === Seg.CS ? code : data) | dpl,
      });
    }
    v.setWord(VCPU.fcw, 0x37f);
    v.setWord(VCPU.ftw, 0xffff);
    v.setWord(VCPU.mxcsr, 0x1f80);
  }

  /** Maps a linear page to a fresh frame filled with `fill`. */
  map(
    linear: number | bigint,
    { writable = true, executable = true, user = true } = {},
    fill = 0,
  ): void {
    const page = Number(BigInt.asUintN(64, BigInt(linear)) >> 12n);
    const known = this.pages.get(page);
    const frame = known?.frame ?? this.frames++;
    this.pages.set(page, { writable, executable, user, frame });
    this.cpu.physical.writeBytes(
      frame * 4096,
      new Uint8Array(4096).fill(fill),
    );
  }

  /** Maps a linear page to the frame of another. */
  alias(linear: number, of: number): void {
    const page = this.pages.get(of / 4096);
    if (page === undefined) {
      throw new Error(`alias page 0x${of.toString(16)}: it is not mapped`);
    }
    this.pages.set(linear / 4096, page);
  }

  /** Writes bytes at a linear address, whatever the rights. */
  poke(linear: number | bigint, bytes: Uint8Array): void {
    const at = BigInt.asUintN(64, BigInt(linear));
    for (let i = 0; i < bytes.length;) {
      const physical = this.physical(at + BigInt(i));
      const n = Math.min(bytes.length - i, 4096 - physical % 4096);
      this.cpu.physical.writeBytes(physical, bytes.subarray(i, i + n));
      i += n;
    }
  }

  /** Reads bytes at a linear address, whatever the rights. */
  peek(linear: number | bigint, length: number): Uint8Array {
    const at = BigInt.asUintN(64, BigInt(linear));
    const out = new Uint8Array(length);
    for (let i = 0; i < length;) {
      const physical = this.physical(at + BigInt(i));
      const n = Math.min(length - i, 4096 - physical % 4096);
      out.set(this.cpu.physical.readBytes(physical, n), i);
      i += n;
    }
    return out;
  }

  private physical(linear: bigint): number {
    const page = this.pages.get(Number(linear >> 12n));
    if (page === undefined) {
      throw new Error(`touch 0x${linear.toString(16)}: it is not mapped`);
    }
    return page.frame * 4096 + Number(linear & 0xfffn);
  }

  /** Executes the instruction (or REP iteration, or part of a block) at RIP. */
  step(): StepResult {
    const { v } = this.cpu;
    const reason = this.backend.execute(this.cpu, v.step + 1);
    switch (reason) {
      case ExecReason.Call:
        return this.call();
      case ExecReason.Fault:
        return this.fault();
      case ExecReason.NotModelled:
        return { kind: "not-modelled", what: this.backend.notModelled ?? "" };
      case ExecReason.Stage2:
        return { kind: "exit" };
      default:
        return { kind: "done" };
    }
  }

  private fault(): StepResult {
    const fault = this.cpu.v.pending;
    if (fault === undefined) throw new Error("a fault without an exception");
    this.cpu.v.pending = undefined;
    return { kind: "fault", fault };
  }

  /** What the machine loop does with a `call` row, without interception. */
  private call(): StepResult {
    const { cpu } = this;
    const { v } = cpu;
    const insn = this.backend.insn;
    if (insn?.row.call === undefined) throw new Error("no call row to execute");
    if (insn.row.privileged && v.cpl !== 0) {
      v.raise(Vector.GP, 0);
      return this.fault();
    }
    const mask = insn.codeSize === 64 ? 64 : 32;
    cpu.nextRip = BigInt.asUintN(mask, insn.rip + BigInt(insn.length));
    const before = Array.from({ length: 16 }, (_, r) => v.gpr(r));
    let outcome: number = Outcome.Done;
    try {
      // Checks that the loop makes before it asks about interception.
      if (insn.row.detail !== undefined) {
        const detail = insn.row.detail(cpu, insn);
        if (detail === undefined) outcome = cpu.access.outcome;
      }
      if (outcome === Outcome.Done) outcome = insn.row.call(cpu, insn);
      // There is nobody to give the turn to.
      if (outcome === Outcome.Yield || outcome === Outcome.Spin) {
        outcome = Outcome.Done;
      }
    } catch (error) {
      if (!(error instanceof NotModelled)) throw error;
      return { kind: "not-modelled", what: error.what };
    }
    if (outcome === Outcome.Fault) return this.fault();
    if (outcome === Outcome.Done || outcome === Outcome.Halt) {
      v.rip = cpu.nextRip;
    }
    v.step++;
    if (cpu.facts.observed) {
      for (let r = 0; r < 16; r++) {
        if (v.gpr(r) !== before[r]) cpu.facts.registerWrote(0, r, v.gpr(r));
      }
      cpu.facts.retired(0, insn.rip);
    }
    return {
      kind: outcome === Outcome.Again
        ? "again"
        : outcome === Outcome.Halt
        ? "halt"
        : outcome === Outcome.Done || outcome === Outcome.Completed
        ? "done"
        : "exit",
    };
  }

  // --- Translator

  translate(
    cpu: CpuContext,
    linearPage: number,
    offset: number,
    access: number,
  ): number {
    const page = this.pages.get(linearPage);
    const write = (access & (Access.Write | Access.ReadForWrite)) !== 0;
    const fetch = (access & Access.Fetch) !== 0;
    const user = cpu.v.cpl === 3 && (access & Access.System) === 0;
    let error = -1;
    if (page === undefined) error = 0;
    else if (
      (write && !page.writable) || (fetch && !page.executable) ||
      (user && !page.user)
    ) error = PageFaultError.Present;
    if (error < 0) return page!.frame;
    if (write) error |= PageFaultError.Write;
    if (user) error |= PageFaultError.User;
    if (fetch) error |= PageFaultError.Fetch;
    const linear = (BigInt(linearPage) << 12n) | BigInt(offset);
    cpu.v.raise(Vector.PF, error, linear);
    return -1;
  }

  grantable(): boolean {
    return true;
  }
  grants(cpu: CpuContext, linearPage: number): number {
    const page = this.pages.get(linearPage);
    if (page === undefined || (cpu.v.cpl === 3 && !page.user)) return 0;
    const write = page.writable ? Grant.Write : 0;
    return page.frame * Grant.Size + Grant.Read + write;
  }
  controlChanged(): void {}
  invlpg(): void {}
  invpcid(): void {}
  flush(): void {}
  loadPdptes(): boolean {
    return true;
  }
  translatePhysical(_cpu: CpuContext, page: number): number {
    return page;
  }
}
