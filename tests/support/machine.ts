/**
 * A small whole machine for tests: kernel, decoder, mmu and the reference
 * engine around an assembled program. Three starting states: 16-bit real mode,
 * 32-bit flat protected mode, 64-bit mode with the first GiB identity-mapped.
 */
import { Kernel } from "../../core/kernel.ts";
import type { EventToken } from "../../core/event.ts";
import type { PluginUse } from "../../core/plugin.ts";
import type { StopInfo } from "../../core/sink.ts";
import { Cr0, Cr4, Efer } from "../../cpu/arch/flags.ts";
import { parseModel } from "../../cpu/arch/models.ts";
import type { CpuContext } from "../../cpu/context.ts";
import type { Backend } from "../../cpu/engine/backend.ts";
import {
  type EngineWorld,
  MachineExecutor,
} from "../../cpu/engine/executor.ts";
import { ReferenceEngine } from "../../cpu/engine/reference/reference.ts";
import type { Hardware } from "../../cpu/hardware.ts";
import { Gpr, Seg } from "../../cpu/layout.ts";
import type { Vcpu } from "../../cpu/vcpu.ts";
import { assemble } from "../../host/asm/mod.ts";
import { DecoderService } from "../../plugins/decoder/api.ts";
import { decoder } from "../../plugins/decoder/plugin.ts";
import { mmu } from "../../plugins/mmu/plugin.ts";

/** Starting state. */
export type Mode = "real" | "protected" | "long";

/** What a test machine is made from. */
export interface TestMachineOptions {
  readonly mode?: Mode;
  readonly model?: string;
  readonly ramBytes?: number;
  /** vCPUs; all but the first wait for a start-up IPI. */
  readonly cpus?: number;
  /** Steps of a vCPU's turn. */
  readonly turnSteps?: number;
  /** Further plugins. */
  readonly plugins?: readonly PluginUse[];
  /** `plugins` is the whole list, decoder and mmu included. */
  readonly exactly?: boolean;
  readonly engine?: (world: EngineWorld) => Backend;
  readonly engineBytes?: number;
  /** After image and registers are in place. */
  readonly setup?: (cpu: CpuContext, hardware: Hardware) => void;
  /** Symbols for the program. */
  readonly constants?: Readonly<Record<string, bigint>>;
}

/** Where things lie. */
export const PLACE = {
  /** GDT: null, code64, data, code32, code16, data16, user code32, user data, user code64, TSS (16 bytes). */
  gdt: 0x500,
  tss: 0x700,
  idt: 0x2000,
  tables: 0x10000,
  code: 0x8000,
  stack: 0x7000,
  /** RSP0 of the TSS. */
  innerStack: 0x6000,
  userStack: 0x5000,
} as const;

/** Selectors of that GDT. */
export const SELECTOR = {
  code64: 0x08,
  data: 0x10,
  code32: 0x18,
  code16: 0x20,
  data16: 0x28,
  userCode32: 0x33,
  userData: 0x3b,
  userCode64: 0x43,
  tss: 0x48,
} as const;

const GDT: readonly bigint[] = [
  0n,
  0x00af9b000000ffffn,
  0x00cf93000000ffffn,
  0x00cf9b000000ffffn,
  0x00009b000000ffffn,
  0x000093000000ffffn,
  0x00cffb000000ffffn,
  0x00cff3000000ffffn,
  0x00affb000000ffffn,
];

/** A running test machine. */
export class TestMachine {
  readonly kernel: Kernel;
  readonly executor: MachineExecutor;
  readonly cpu: CpuContext;
  readonly v: Vcpu;
  readonly hardware: Hardware;
  readonly symbols: ReadonlyMap<string, bigint>;

  constructor(source: string, options: TestMachineOptions = {}) {
    const mode = options.mode ?? "long";
    const bits = mode === "real" ? 16 : mode === "protected" ? 32 : 64;
    const image = assemble(source, {
      bits,
      origin: PLACE.code,
      constants: options.constants,
    });
    this.symbols = image.symbols;
    let executor: MachineExecutor | undefined;
    this.kernel = Kernel.load({
      plugins: [
        ...(options.exactly ? [] : [{ plugin: decoder }, { plugin: mmu }]),
        ...(options.plugins ?? []),
      ],
      seed: 1n,
      executor: (port) =>
        executor = new MachineExecutor(port, {
          model: parseModel(options.model ?? "max-intel"),
          ramBytes: options.ramBytes ?? 0x200000,
          cpus: options.cpus,
          turnSteps: options.turnSteps,
          engineBytes: options.engineBytes ?? 0,
          engine: options.engine ?? referenceEngine,
          boot: (hardware) => {
            hardware.physical.writeBytes(image.origin, image.bytes);
            boot(hardware, mode, image.entry);
            options.setup?.(hardware.cpus[0], hardware);
          },
        }),
    });
    this.executor = executor!;
    this.hardware = this.executor.hardware;
    this.cpu = this.hardware.cpus[0];
    this.v = this.cpu.v;
  }

  /** Runs until the guest halts for good, the machine stops, or `steps` passed. */
  run(steps = 100_000): StopInfo {
    return this.kernel.run({ untilStep: this.v.step + steps });
  }

  /** Collects the payloads of an event from now on. */
  collect<P>(event: EventToken<P>): P[] {
    const out: P[] = [];
    this.kernel.watch(event, (payload) => {
      out.push(payload);
      return undefined;
    });
    return out;
  }

  /** Little-endian word of RAM. */
  word(address: number, bytes = 8): bigint {
    return this.hardware.physical.read(address, bytes);
  }

  /** Address of a label. */
  at(symbol: string): number {
    const value = this.symbols.get(symbol);
    if (value === undefined) throw new RangeError(`no label ${symbol}`);
    return Number(value);
  }
}

/** The reference engine over the decoder plugin. */
export function referenceEngine({ port, hardware }: EngineWorld): Backend {
  const factory = port.service(DecoderService).get();
  if (factory === undefined) throw new RangeError("no decoder plugin");
  return new ReferenceEngine(factory.create(hardware.model));
}

/** Writes an IDT gate. @param type 0x8e interrupt, 0x8f trap, with DPL in bits 6:5 */
export function setGate(
  hardware: Hardware,
  vector: number,
  handler: number,
  options: { type?: number; selector?: number; ist?: number; wide?: boolean } =
    {},
): void {
  const type = options.type ?? 0x8e;
  const selector = options.selector ?? SELECTOR.code64;
  const low = BigInt(handler & 0xffff) | BigInt(selector) << 16n |
    BigInt(options.ist ?? 0) << 32n | BigInt(type) << 40n |
    BigInt(handler >>> 16) << 48n;
  const { physical } = hardware;
  if (options.wide === false) {
    physical.write(PLACE.idt + vector * 8, 8, low);
    return;
  }
  physical.write(PLACE.idt + vector * 16, 8, low);
  physical.write(PLACE.idt + vector * 16 + 8, 8, 0n);
}

function boot(hardware: Hardware, mode: Mode, entry: bigint): void {
  const { physical } = hardware;
  const { v } = hardware.cpus[0];
  const flat = (segment: number, selector: number, attributes: number): void =>
    v.setSegment(segment, {
      selector,
      base: 0n,
      limit: mode === "real" ? 0xffff : 0xffffffff,
      attributes,
    });
  v.rip = entry;
  v.setGpr(Gpr.RSP, BigInt(PLACE.stack));
  v.setGpr(Gpr.RDX, 0n);
  v.cr0 = Cr0.ET;
  if (mode === "real") {
    for (let s = 0; s < 6; s++) flat(s, 0, s === Seg.CS ? 0x9b : 0x93);
    v.setIdtr(0n, 0x3ff);
    return;
  }
  GDT.forEach((d, i) => physical.write(PLACE.gdt + i * 8, 8, d));
  const tss = 0x0000890000000067n | BigInt(PLACE.tss) << 16n;
  physical.write(PLACE.gdt + SELECTOR.tss, 8, tss);
  physical.write(PLACE.gdt + SELECTOR.tss + 8, 8, 0n);
  v.setGdtr(BigInt(PLACE.gdt), GDT.length * 8 + 15);
  v.setIdtr(BigInt(PLACE.idt), 0xfff);
  v.cr0 = Cr0.ET | Cr0.PE | Cr0.NE;
  for (let s = 0; s < 6; s++) flat(s, SELECTOR.data, 0xc093);
  v.setSegment(Seg.TR, {
    selector: SELECTOR.tss,
    base: BigInt(PLACE.tss),
    limit: 0x67,
    attributes: 0x8b,
  });
  v.setSegment(Seg.LDTR, {
    selector: 0,
    base: 0n,
    limit: 0,
    attributes: 0x10000,
  });
  if (mode === "protected") {
    flat(Seg.CS, SELECTOR.code32, 0xc09b);
    physical.write(PLACE.tss + 4, 4, BigInt(PLACE.innerStack));
    physical.write(PLACE.tss + 8, 4, BigInt(SELECTOR.data));
    return;
  }
  physical.write(PLACE.tss + 4, 8, BigInt(PLACE.innerStack));
  // PML4 → PDPT → PD of 2-MiB pages, all user and writable.
  const t = PLACE.tables;
  physical.write(t, 8, BigInt(t + 0x1000) | 7n);
  physical.write(t + 0x1000, 8, BigInt(t + 0x2000) | 7n);
  for (let i = 0; i < 512; i++) {
    physical.write(t + 0x2000 + i * 8, 8, BigInt(i) << 21n | 0x87n);
  }
  v.cr3 = t;
  v.cr4 = Cr4.PAE;
  v.efer = Efer.LME | Efer.LMA | Efer.SCE | Efer.NXE;
  v.cr0 = (Cr0.ET | Cr0.PE | Cr0.NE | Cr0.WP | Cr0.PG) >>> 0;
  flat(Seg.CS, SELECTOR.code64, 0xa09b);
}
