/**
 * Looks into an x86 machine that stands still: registers, page walks, code,
 * memory, for `seek`, `back`, `events --disasm` and programs.
 * Invariant: reads only what the layout, the MMU's effect-free walk and the
 * decoder's disassembler show; no flag, TLB entry or fact comes of it.
 */
import { Decoder, DecoderOptions, Formatter, FormatterSyntax } from "iced-x86";
import { Cr0, Cr4, Efer, Rflags, SegmentRights } from "../cpu/arch/flags.ts";
import { MSRS } from "../cpu/arch/msr.ts";
import type { CpuContext } from "../cpu/context.ts";
import type { Hardware } from "../cpu/hardware.ts";
import {
  ActivityState,
  Gpr,
  GuestMode,
  Interruptibility,
  PAGE_SIZE,
  Seg,
  VCPU,
} from "../cpu/layout.ts";
import { Access } from "../cpu/port.ts";
import type { MmuService, Walk, WalkStep } from "../plugins/mmu/api.ts";
import {
  Attribute,
  Entry,
  EptEntry,
  Format,
  LEVEL_NAMES,
} from "../plugins/mmu/formats.ts";
import { readKallsyms } from "./loader/kallsyms.ts";
import { SymbolTable } from "./loader/symbols.ts";
import type {
  CodeRow,
  GuestSymbol,
  Inspector,
  RegisterRow,
  WalkRow,
} from "./machines.ts";

/** Longest instruction (SDM 2A §2.3.11). */
const MAX_INSTRUCTION = 15;
/** Walks look no further than this many pages for code bytes. */
const CODE_PAGES = 2;

const hex = (value: number | bigint): string => `0x${value.toString(16)}`;
const hex64 = (value: bigint): string =>
  `0x${value.toString(16).padStart(16, "0")}`;

/** Names of the set bits of `value`; fields of several bits show their value. */
function bits(value: number, names: Readonly<Record<string, number>>): string {
  return Object.entries(names).flatMap(([name, mask]) => {
    const field = (value & mask) >>> 0;
    if (field === 0 || name === "Fixed1") return [];
    const low = mask & -mask;
    return [
      mask === low || mask >>> 0 === low >>> 0
        ? name
        : `${name}=${field / (low >>> 0)}`,
    ];
  }).join(" ");
}

/** The name of a constant's value. */
function nameOf(
  names: Readonly<Record<string, number>>,
  value: number,
): string {
  return Object.entries(names).find(([, v]) => v === value)?.[0] ?? hex(value);
}

/** Bits of code at CS:RIP: 16, 32 or 64 (SDM 3A §3.4.5, §5.2.1). */
function codeBits({ v }: CpuContext): 16 | 32 | 64 {
  const rights = v.segAttributes(Seg.CS);
  if ((v.efer & Efer.LMA) !== 0 && (rights & SegmentRights.Long) !== 0) {
    return 64;
  }
  const protectedMode = (v.cr0 & Cr0.PE) !== 0;
  return protectedMode && (rights & SegmentRights.DefaultBig) !== 0 ? 32 : 16;
}

function segmentText(rights: number): string {
  if ((rights & SegmentRights.Unusable) !== 0) return "unusable";
  const system = (rights & SegmentRights.CodeData) === 0;
  const code = (rights & SegmentRights.Code) !== 0;
  const kind = system
    ? `system type ${rights & SegmentRights.TypeMask}`
    : code
    ? "code"
    : "data";
  const width = (rights & SegmentRights.Long) !== 0
    ? " 64-bit"
    : (rights & SegmentRights.DefaultBig) !== 0
    ? " 32-bit"
    : "";
  const dpl = (rights & SegmentRights.Dpl) >> SegmentRights.DplShift;
  return `${kind}${width} DPL ${dpl}${
    (rights & SegmentRights.Present) === 0 ? " not present" : ""
  }`;
}

function registerRows(cpu: CpuContext): RegisterRow[] {
  const { v } = cpu;
  const rows: RegisterRow[] = [
    {
      name: "rip",
      value: hex64(v.rip),
      meaning: `CPL ${v.cpl}, ${codeBits(cpu)}-bit`,
    },
    { name: "rflags", value: hex(v.rflags), meaning: bits(v.rflags, Rflags) },
  ];
  for (const [name, number] of Object.entries(Gpr)) {
    rows.push({ name: name.toLowerCase(), value: hex64(v.gpr(number)) });
  }
  for (const [name, number] of Object.entries(Seg)) {
    const { selector, base, limit, attributes } = v.segment(number);
    rows.push({
      name: name.toLowerCase(),
      value: hex(selector),
      meaning: `base ${hex(base)} limit ${hex(limit)} ${
        segmentText(attributes)
      }`,
    });
  }
  rows.push(
    {
      name: "gdtr",
      value: hex(v.gdtrBase),
      meaning: `limit ${hex(v.gdtrLimit)}`,
    },
    {
      name: "idtr",
      value: hex(v.idtrBase),
      meaning: `limit ${hex(v.idtrLimit)}`,
    },
    { name: "cr0", value: hex(v.cr0), meaning: bits(v.cr0, Cr0) },
    { name: "cr2", value: hex64(v.cr2) },
    { name: "cr3", value: hex64(v.quad(VCPU.cr3)) },
    { name: "cr4", value: hex(v.cr4), meaning: bits(v.cr4, Cr4) },
    { name: "cr8", value: hex(v.word(VCPU.cr8)) },
    { name: "efer", value: hex(v.efer), meaning: bits(v.efer, Efer) },
    { name: "dr6", value: hex(v.dr(6)) },
    { name: "dr7", value: hex(v.dr(7)) },
    {
      name: "activity",
      value: hex(v.activity),
      meaning: nameOf(ActivityState, v.activity),
    },
  );
  if (v.interruptibility !== 0) {
    rows.push({
      name: "interruptibility",
      value: hex(v.interruptibility),
      meaning: bits(v.interruptibility, Interruptibility),
    });
  }
  if (v.guestMode !== GuestMode.None) {
    rows.push(
      {
        name: "guest mode",
        value: hex(v.guestMode),
        meaning: nameOf(GuestMode, v.guestMode),
      },
      {
        name: "stage-2 root",
        value: hex(v.quad(VCPU.stage2Root)),
        meaning: `tag ${v.word(VCPU.tlbTag)}`,
      },
    );
  }
  for (const { name, slot, reset } of MSRS) {
    if (slot < 0) continue;
    const value = v.msr(slot);
    if (value !== reset && value !== 0n) rows.push({ name, value: hex(value) });
  }
  return rows;
}

/** Rights and flags of one entry in words. */
function entryText({ format, value }: WalkStep): string {
  const low = Number(value & 0xffff_ffffn);
  if (format === Format.Ept) {
    const rights = [["R", EptEntry.R], ["W", EptEntry.W], ["X", EptEntry.X], [
      "XU",
      EptEntry.XU,
    ]] as const;
    const set = rights.filter(([, bit]) => (low & bit) !== 0).map(([name]) =>
      name
    );
    const flags = [[" A", EptEntry.A], [" D", EptEntry.D], [
      " leaf",
      EptEntry.Leaf,
    ]] as const;
    return (set.join("") || "no access") +
      flags.filter(([, bit]) => (low & bit) !== 0).map(([name]) => name).join(
        "",
      );
  }
  if ((low & Entry.P) === 0) return "not present";
  const noExecute = value >> 63n === 1n;
  const flags = [[" A", Entry.A], [" D", Entry.D], [" PS", Entry.PS], [
    " G",
    Entry.G,
  ]] as const;
  return `${(low & Entry.RW) !== 0 ? "RW" : "R"} ${
    (low & Entry.US) !== 0 ? "user" : "supervisor"
  }${noExecute ? " NX" : ""}` +
    flags.filter(([, bit]) => (low & bit) !== 0).map(([name]) => name).join("");
}

/** Whose table an entry lies in. */
function tableOwner({ stage, format }: WalkStep): string {
  if (stage === 1) return "guest";
  return format === Format.Ept ? "EPT" : "nested";
}

/** What a whole walk came to. */
function walkResult(walk: Walk): string {
  if (walk.outcome === 1) return `#PF, error code ${hex(walk.errorCode)}`;
  if (walk.outcome === 2) {
    return `stage-2 fault, qualification ${hex(walk.qualification)}`;
  }
  const a = walk.attributes;
  const rights = `${(a & Attribute.W) !== 0 ? "RW" : "R"}${
    (a & Attribute.NX) !== 0 ? "" : "X"
  } ${(a & Attribute.U) !== 0 ? "user" : "supervisor"}`;
  const through =
    walk.guestPhysical !== undefined && walk.guestPhysical !== walk.physical
      ? `, guest-physical ${hex(walk.guestPhysical)}`
      : "";
  return `${hex(walk.physical ?? 0)} (${rights}${through})`;
}

/** An {@link Inspector} of x86 machines. */
export class HardwareInspector implements Inspector {
  #symbols: SymbolTable = SymbolTable.empty;

  constructor(
    private readonly hardware: Hardware,
    private readonly mmu: Pick<MmuService, "explain">,
    symbols: readonly GuestSymbol[] = [],
  ) {
    this.name(symbols);
  }

  get cpus(): number {
    return this.hardware.cpus.length;
  }

  get turn(): number {
    return this.hardware.nextTurn();
  }

  registers(cpu: number): readonly RegisterRow[] {
    return registerRows(this.hardware.cpus[cpu]);
  }

  walk(
    cpu: number,
    linear: bigint,
  ): { rows: readonly WalkRow[]; result: string } {
    const walk = this.mmu.explain(
      this.hardware.cpus[cpu],
      linear,
      Access.Read | Access.System,
    );
    return {
      rows: walk.steps.map((step) => ({
        level: `${tableOwner(step)} ${LEVEL_NAMES[step.level] ?? step.level}`,
        address: hex(step.address),
        entry: hex64(step.value),
        meaning: entryText(step),
      })),
      result: walkResult(walk),
    };
  }

  disassemble(cpu: number, count: number, linear?: bigint): readonly CodeRow[] {
    const context = this.hardware.cpus[cpu];
    const { v } = context;
    const size = codeBits(context);
    const base = size === 64 ? 0n : v.segBase(Seg.CS);
    const formatter = new Formatter(FormatterSyntax.Intel);
    formatter.firstOperandCharIndex = 8;
    formatter.hexPrefix = "0x";
    formatter.hexSuffix = "";
    formatter.spaceAfterOperandSeparator = true;
    const rows: CodeRow[] = [];
    let at = linear ?? base + v.rip;
    try {
      while (rows.length < count) {
        const bytes = this.#linearBytes(context, at, MAX_INSTRUCTION);
        if (bytes.length === 0) break;
        const decoder = new Decoder(size, bytes, DecoderOptions.None);
        decoder.ip = at - base;
        const instruction = decoder.decode();
        const length = instruction.isInvalid ? 1 : instruction.length;
        const symbol = this.#symbolAt(at);
        rows.push({
          address: hex(at),
          bytes: [...bytes.subarray(0, length)].map((b) =>
            b.toString(16).padStart(2, "0")
          ).join(""),
          text: instruction.isInvalid
            ? "(bad)"
            : formatter.format(instruction) +
              this.#target(instruction.nearBranchTarget, base),
          ...(symbol === undefined ? {} : { symbol }),
        });
        instruction.free();
        decoder.free();
        at += BigInt(length);
      }
    } finally {
      formatter.free();
    }
    return rows;
  }

  memory(physical: number, length: number): Uint8Array {
    const { ramBytes } = this.hardware.layout;
    const end = Math.min(physical + length, ramBytes);
    if (physical >= end) return new Uint8Array(0);
    return this.hardware.physical.readBytes(physical, end - physical);
  }

  guestSymbols(): readonly GuestSymbol[] {
    return readKallsyms(this.memory(0, this.hardware.layout.ramBytes));
  }

  name(symbols: readonly GuestSymbol[]): void {
    this.#symbols = new SymbolTable(symbols.map((s) => ({ size: 0, ...s })));
  }

  #symbolAt(linear: bigint): string | undefined {
    const place = this.#symbols.lookup(linear);
    if (place === undefined) return undefined;
    return place.offset === 0n
      ? place.name
      : `${place.name}+${hex(place.offset)}`;
  }

  /** ` <symbol>` of a branch's target. */
  #target(target: bigint, base: bigint): string {
    if (target === 0n) return "";
    const symbol = this.#symbolAt(base + target);
    return symbol === undefined ? "" : ` <${symbol}>`;
  }

  /** Up to `length` bytes as an instruction fetch would see them. */
  #linearBytes(
    context: CpuContext,
    linear: bigint,
    length: number,
  ): Uint8Array {
    const parts: number[] = [];
    for (let i = 0; i < CODE_PAGES && parts.length < length; i++) {
      const at = BigInt.asUintN(64, linear + BigInt(parts.length));
      const walk = this.mmu.explain(context, at, Access.Read | Access.System);
      if (walk.physical === undefined) break;
      const left = PAGE_SIZE - walk.physical % PAGE_SIZE;
      const bytes = this.memory(
        walk.physical,
        Math.min(length - parts.length, left),
      );
      parts.push(...bytes);
      if (bytes.length === 0) break;
    }
    return Uint8Array.from(parts);
  }
}
