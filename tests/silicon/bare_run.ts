/**
 * Runs a silicon vector on a bare machine with any engine (tests/silicon/
 * compare.ts says what that means): on a model of the vendor whose processor it
 * was recorded on, with every feature that has rows.
 */
import {
  type CpuModel,
  parseModel,
  type Vendor,
} from "../../cpu/arch/models.ts";
import type { Feature } from "../../cpu/arch/cpuid.ts";
import { XState } from "../../cpu/arch/xsave.ts";
import { EXCEPTIONS, Vector } from "../../cpu/arch/exceptions.ts";
import { Cr0, Cr4, Rflags } from "../../cpu/arch/flags.ts";
import type { Backend } from "../../cpu/engine/backend.ts";
import type { InstructionDecoder } from "../../cpu/isa/decoder.ts";
import { rowIndexOf } from "../../cpu/isa/table.ts";
import { Gpr, Seg, VCPU } from "../../cpu/layout.ts";
import { tagOf } from "../../cpu/semantics/fpu_control.ts";
import type { Vcpu } from "../../cpu/vcpu.ts";
import { createDecoder } from "../../plugins/decoder/decode.ts";
import { BareMachine } from "../exec/bare_machine.ts";
import type { Result, RunCase } from "./compare.ts";
import {
  DESCRIPTORS,
  GDT_LIMIT,
  PAGE_SIZE,
  PAGES,
  USER_GATES,
} from "./environment.ts";
import {
  copyState,
  type FpuState,
  pagesBefore,
  type SiliconCase,
  type SiliconFault,
  type SiliconState,
} from "./vectors.ts";

/** What AMD's processor has and no model shows: it is about MXCSR.MM alone. */
const HIDDEN: Feature = "misalignsse";

/**
 * The model that a vendor's vectors are judged by. Neither processor had
 * protection keys, whose state would be a component of XSAVE's.
 */
export function siliconModel(vendor: Vendor = "AuthenticAMD"): CpuModel {
  if (vendor === "GenuineIntel") return parseModel("max-intel,-pku");
  const base = parseModel("max-amd,-pku");
  return { ...base, has: (f) => f === HIDDEN || base.has(f) };
}

/** The kernel's pages, where no case looks. */
const GDT = 0xffffc000_00000000n;
const IDT = GDT + 0x1000n;
const TSS = GDT + 0x2000n;
const STACK_TOP = GDT + 0x4000n;
/** Handler of vector n at HANDLERS + 16 n: never executed. */
const HANDLERS = GDT + 0x5000n;
const { RSP } = Gpr;

/** GDT, IDT and TSS as environment.ts describes them. */
function mapKernel(machine: BareMachine): void {
  const { v } = machine.cpu;
  for (const page of [GDT, IDT, TSS, STACK_TOP - 0x1000n]) {
    machine.map(page, { user: false, executable: false });
  }
  v.setGdtr(GDT, GDT_LIMIT);
  const gdt = new DataView(new ArrayBuffer(GDT_LIMIT + 1));
  for (const [at, value] of DESCRIPTORS) gdt.setBigUint64(at, value, true);
  machine.poke(GDT, new Uint8Array(gdt.buffer));
  const idt = new DataView(new ArrayBuffer(4096));
  for (let vector = 0; vector < 256; vector++) {
    const offset = HANDLERS + BigInt(vector * 16);
    const type = USER_GATES.includes(vector) ? 0xeen : 0x8en;
    const low = (offset & 0xffffn) | 0x10n << 16n | type << 40n |
      ((offset >> 16n) & 0xffffn) << 48n;
    idt.setBigUint64(vector * 16, low, true);
    idt.setBigUint64(vector * 16 + 8, offset >> 32n, true);
  }
  v.setIdtr(IDT, 4095);
  machine.poke(IDT, new Uint8Array(idt.buffer));
  const tss = new DataView(new ArrayBuffer(0x68));
  tss.setBigUint64(4, STACK_TOP, true);
  tss.setUint16(0x66, 0x68, true); // no I/O permission bitmap
  machine.poke(TSS, new Uint8Array(tss.buffer));
  v.setSegment(Seg.TR, {
    selector: 0x40,
    base: TSS,
    limit: 0x67,
    attributes: 0x8b,
  });
  v.setSegment(Seg.LDTR, {
    selector: 0,
    base: 0n,
    limit: 0,
    attributes: 1 << 16,
  });
}

/**
 * An event went through the IDT (INT n and its like do so at once): takes the
 * frame off the kernel stack and puts the registers back as it holds them.
 */
function unwind(machine: BareMachine): SiliconFault {
  const { v } = machine.cpu;
  const vector = Number((v.rip - HANDLERS) >> 4n);
  const hasCode = EXCEPTIONS.some((e) => e.vector === vector && e.hasErrorCode);
  const frame = new DataView(
    machine.peek(v.gpr(RSP), hasCode ? 48 : 40).buffer,
  );
  const at = hasCode ? 8 : 0;
  v.rip = frame.getBigUint64(at, true);
  v.rflags = Number(frame.getBigUint64(at + 16, true));
  v.setGpr(RSP, frame.getBigUint64(at + 24, true));
  for (const [s, offset] of [[Seg.CS, 8], [Seg.SS, 32]]) {
    const selector = Number(frame.getBigUint64(at + offset, true));
    v.setSegment(s, { ...v.segment(s), selector });
  }
  return {
    vector,
    errorCode: hasCode ? Number(frame.getBigUint64(0, true)) : 0,
    cr2: vector === Vector.PF ? v.cr2 : 0n,
  };
}

/** Makes the judge's interface from an engine. */
export function runOn(
  engine: (decoder: InstructionDecoder) => Backend,
  engineBytes?: number,
): RunCase {
  const made = new Map<Vendor, RunCase>();
  return (c) => {
    let run = made.get(c.vendor);
    if (run === undefined) {
      run = runOnModel(siliconModel(c.vendor), engine, engineBytes);
      made.set(c.vendor, run);
    }
    return run(c);
  };
}

function runOnModel(
  model: CpuModel,
  engine: (decoder: InstructionDecoder) => Backend,
  engineBytes?: number,
): RunCase {
  const machine = new BareMachine(engine(createDecoder(model)), {
    model,
    cpl: 3,
    engineBytes,
  });
  const { v } = machine.cpu;
  v.cr0 = (v.cr0 | Cr0.AM) >>> 0;
  v.cr4 |= Cr4.OSXSAVE | Cr4.OSXMMEXCPT;
  v.setQuad(VCPU.xcr0, BigInt(XState.X87 | XState.SSE));
  mapKernel(machine);
  const segments = Array.from({ length: 8 }, (_, s) => v.segment(s));
  for (const { address, writable, executable } of PAGES) {
    machine.map(address, { writable, executable });
  }
  return (c) => {
    for (const [address, bytes] of pagesBefore(c)) {
      machine.poke(address, bytes);
    }
    segments.forEach((s, i) => v.setSegment(i, s));
    v.cpl = 3;
    v.pendingDebug = 0;
    load(v, c.before);
    const start = c.before.rip;
    let fault: SiliconFault | null = null;
    for (let i = 0; i < 64; i++) {
      const result = machine.step();
      if (result.kind === "not-modelled") return result.what;
      if (result.kind === "fault") {
        const { vector, errorCode, payload } = result.fault;
        if (vector === Vector.UD && rowIndexOf(c.form) < 0) {
          return `${c.form}: no CPU model has it`;
        }
        const cr2 = vector === Vector.PF ? payload : 0n;
        fault = { vector, errorCode: Math.max(errorCode, 0), cr2 };
        break;
      }
      if (v.cpl === 0) {
        fault = unwind(machine);
        break;
      }
      if (v.rip !== start) break;
    }
    return { after: save(v, c), fault, pages: pages(machine) };
  };
}

function pages(machine: BareMachine): Result["pages"] {
  return new Map(
    PAGES.map(({ address }) => [address, machine.peek(address, PAGE_SIZE)]),
  );
}

/** Its 32-bit code segment (environment.ts). */
const COMPATIBILITY_CODE = 0x23;

/** Of a selector of environment.ts, as the VMCS has them (SDM 3C §25.4.1). */
function attributesOf(selector: number): number {
  const descriptor = DESCRIPTORS.get(selector & ~7)!;
  return Number((descriptor >> 40n) & 0xffn | (descriptor >> 40n) & 0xf000n);
}

function load(v: Vcpu, s: SiliconState): void {
  s.gpr.forEach((value, r) => v.setGpr(r, value));
  v.rip = s.rip;
  v.rflags = s.rflags;
  const compatibility = s.selectors[Seg.CS] === COMPATIBILITY_CODE;
  s.selectors.forEach((selector, i) => {
    const old = v.segment(i);
    const attributes = selector === 0
      ? 1 << 16
      : compatibility
      ? attributesOf(selector)
      : old.attributes;
    v.setSegment(i, { ...old, selector, attributes });
  });
  v.setSegBase(Seg.FS, s.fsBase);
  v.setSegBase(Seg.GS, s.gsBase);
  loadFpu(v, s.fpu);
}

function loadFpu(v: Vcpu, f: FpuState): void {
  v.setWord(VCPU.fcw, f.fcw);
  v.setWord(VCPU.fsw, f.fsw);
  v.setWord(VCPU.fop, f.fop);
  v.setQuad(VCPU.fip, f.fip);
  v.setQuad(VCPU.fdp, f.fdp);
  v.setWord(VCPU.fcs, 0);
  v.setWord(VCPU.fds, 0);
  v.setWord(VCPU.mxcsr, f.mxcsr);
  const top = (f.fsw >> 11) & 7;
  let tags = 0;
  for (let i = 0; i < 8; i++) {
    const physical = (top + i) & 7, at = VCPU.x87 + physical * 16;
    v.setQuad(at, BigInt.asUintN(64, f.st[i]));
    v.setQuad(at + 8, f.st[i] >> 64n);
    tags |= (f.ftw >> physical & 1
      ? tagOf(BigInt.asUintN(64, f.st[i]), Number(f.st[i] >> 64n))
      : 3) << physical * 2;
  }
  v.setWord(VCPU.ftw, tags);
  f.xmm.forEach((value, i) => {
    v.setQuad(VCPU.vector + i * 64, BigInt.asUintN(64, value));
    v.setQuad(VCPU.vector + i * 64 + 8, value >> 64n);
  });
}

function save(v: Vcpu, c: SiliconCase): SiliconState {
  const s = copyState(c.before);
  s.gpr = s.gpr.map((_, r) => v.gpr(r));
  s.rip = v.rip;
  s.rflags = v.rflags & ~Rflags.RF;
  s.selectors = s.selectors.map((_, i) => {
    const selector = v.segSelector(i);
    // Null selectors 1 to 3 become 0 in the recording when an interrupt came
    // and went (IRET clears null data selectors, SDM 2A IRET).
    return selector < 4 && c.after.selectors[i] === 0 ? 0 : selector;
  });
  s.fsBase = v.segBase(Seg.FS);
  s.gsBase = v.segBase(Seg.GS);
  const { fpu } = s;
  fpu.fcw = v.word(VCPU.fcw);
  fpu.fsw = v.word(VCPU.fsw);
  fpu.fop = v.word(VCPU.fop);
  fpu.fip = v.quad(VCPU.fip);
  fpu.fdp = v.quad(VCPU.fdp);
  fpu.mxcsr = v.word(VCPU.mxcsr);
  const ftw = v.word(VCPU.ftw), top = (fpu.fsw >> 11) & 7;
  fpu.ftw = 0;
  for (let i = 0; i < 8; i++) {
    if (((ftw >> i * 2) & 3) !== 3) fpu.ftw |= 1 << i;
    const at = VCPU.x87 + ((top + i) & 7) * 16;
    fpu.st[i] = v.quad(at) | (v.quad(at + 8) & 0xffffn) << 64n;
  }
  fpu.xmm = fpu.xmm.map((_, i) => {
    const at = VCPU.vector + i * 64;
    return v.quad(at) | v.quad(at + 8) << 64n;
  });
  return s;
}
