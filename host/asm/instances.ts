/**
 * Test support: builds encodable instances of any op-code of iced-x86's
 * tables, from the operand kinds alone. Used by roundtrip_test.ts.
 * Invariant: knows nothing of the assembler under test.
 */
import {
  type Code,
  CodeExt,
  EncodingKind,
  Instruction,
  MvexRegMemConv,
  OpCodeOperandKind as Kind,
  OpKind,
  Register as R,
} from "iced-x86";
import type { Bits } from "./types.ts";

/** Which operands an instance shows. */
export interface Variant {
  readonly name: string;
  /** Memory where register or memory may stand. */
  readonly memory: boolean;
  /** Registers 8–15 where they exist. */
  readonly high?: boolean;
  /** How memory is addressed. */
  readonly address?: "absolute" | "rip" | "index" | "other-size" | "segment";
}

/** All variants that make sense in a mode. */
export function variants(bits: Bits): readonly Variant[] {
  const list: Variant[] = [
    { name: "registers", memory: false },
    { name: "memory", memory: true },
    { name: "absolute", memory: true, address: "absolute" },
    { name: "segment", memory: true, address: "segment" },
    { name: "other address size", memory: true, address: "other-size" },
  ];
  if (bits !== 16) list.push({ name: "index", memory: true, address: "index" });
  if (bits === 64) {
    list.push({ name: "high registers", memory: false, high: true });
    list.push({ name: "high memory", memory: true, high: true });
    list.push({ name: "rip", memory: true, address: "rip" });
  }
  return list;
}

const REGISTERS: Readonly<Record<string, readonly [R, R]>> = {
  r8_or_mem: [R.CL, R.R9L],
  r8_reg: [R.DL, R.R10L],
  r8_opcode: [R.BL, R.R11L],
  r16_or_mem: [R.CX, R.R9W],
  r16_reg: [R.DX, R.R10W],
  r16_opcode: [R.BX, R.R11W],
  r16_rm: [R.SI, R.R12W],
  r16_reg_mem: [R.DX, R.R10W],
  r32_or_mem: [R.ECX, R.R9D],
  r32_or_mem_mpx: [R.ECX, R.R9D],
  r32_reg: [R.EDX, R.R10D],
  r32_opcode: [R.EBX, R.R11D],
  r32_rm: [R.ESI, R.R12D],
  r32_reg_mem: [R.EDX, R.R10D],
  r32_vvvv: [R.EBX, R.R11D],
  r64_or_mem: [R.RCX, R.R9],
  r64_or_mem_mpx: [R.RCX, R.R9],
  r64_reg: [R.RDX, R.R10],
  r64_opcode: [R.RBX, R.R11],
  r64_rm: [R.RSI, R.R12],
  r64_reg_mem: [R.RDX, R.R10],
  r64_vvvv: [R.RBX, R.R11],
  mm_or_mem: [R.MM1, R.MM1],
  mm_reg: [R.MM2, R.MM2],
  mm_rm: [R.MM3, R.MM3],
  xmm_or_mem: [R.XMM1, R.XMM9],
  xmm_reg: [R.XMM2, R.XMM10],
  xmm_rm: [R.XMM3, R.XMM11],
  xmm_vvvv: [R.XMM4, R.XMM12],
  xmm_is4: [R.XMM5, R.XMM13],
  xmm_is5: [R.XMM6, R.XMM14],
  ymm_or_mem: [R.YMM1, R.YMM9],
  ymm_reg: [R.YMM2, R.YMM10],
  ymm_rm: [R.YMM3, R.YMM11],
  ymm_vvvv: [R.YMM4, R.YMM12],
  ymm_is4: [R.YMM5, R.YMM13],
  ymm_is5: [R.YMM6, R.YMM14],
  zmm_or_mem: [R.ZMM1, R.ZMM9],
  zmm_reg: [R.ZMM2, R.ZMM10],
  zmm_rm: [R.ZMM3, R.ZMM11],
  zmm_vvvv: [R.ZMM4, R.ZMM12],
  k_or_mem: [R.K1, R.K1],
  k_reg: [R.K2, R.K2],
  k_rm: [R.K3, R.K3],
  k_vvvv: [R.K4, R.K4],
  bnd_or_mem_mpx: [R.BND1, R.BND1],
  bnd_reg: [R.BND2, R.BND2],
  tmm_reg: [R.TMM1, R.TMM1],
  tmm_rm: [R.TMM2, R.TMM2],
  tmm_vvvv: [R.TMM3, R.TMM3],
  cr_reg: [R.CR3, R.CR8],
  dr_reg: [R.DR3, R.DR3],
  tr_reg: [R.TR3, R.TR3],
  seg_reg: [R.DS, R.FS],
  sti_opcode: [R.ST3, R.ST3],
};

const FIXED: Readonly<Record<string, R>> = {
  es: R.ES,
  cs: R.CS,
  ss: R.SS,
  ds: R.DS,
  fs: R.FS,
  gs: R.GS,
  al: R.AL,
  cl: R.CL,
  ax: R.AX,
  dx: R.DX,
  eax: R.EAX,
  rax: R.RAX,
  st0: R.ST0,
};

/** Does any operand of the code take memory as an alternative? */
export function takesMemory(code: Code): boolean {
  const info = CodeExt.opCode(code);
  let found = false;
  for (let k = 0; k < info.opCount; k++) {
    const name = Kind[info.opKind(k)];
    if (/mem/.test(name) && !/_reg_mem$/.test(name)) found = true;
  }
  info.free();
  return found;
}

/** Builds an instance; the caller frees it. */
export function buildInstance(
  code: Code,
  bits: Bits,
  variant: Variant,
  target: bigint,
): Instruction {
  const i = new Instruction();
  i.code = code;
  const info = CodeExt.opCode(code);
  const kinds = Array.from(
    { length: info.opCount },
    (_, k) => Kind[info.opKind(k)],
  );
  const operandSize = info.operandSize;
  const isMvex = info.encoding === EncodingKind.MVEX;
  let address = info.addressSize as 0 | Bits;
  info.free();
  if (address === 0) {
    address = variant.address === "other-size" ? (bits === 32 ? 16 : 32) : bits;
  }
  if (variant.address === "segment") i.segmentPrefix = R.FS;
  kinds.forEach((name, k) => {
    const registers = REGISTERS[name];
    const isMemory = /mem/.test(name) && !/_reg_mem$/.test(name);
    if (isMemory && (variant.memory || registers === undefined)) {
      setMemory(i, k, name, address as Bits, variant);
    } else if (registers !== undefined) {
      i.setOpKind(k, OpKind.Register);
      i.setOpRegister(k, registers[variant.high ? 1 : 0]);
    } else if (FIXED[name] !== undefined) {
      i.setOpKind(k, OpKind.Register);
      i.setOpRegister(k, FIXED[name]);
    } else setOther(i, k, kinds, bits, address as Bits, operandSize, target);
  });
  if (isMvex) {
    const hasMemory = kinds.some((_, k) => i.opKind(k) === OpKind.Memory);
    i.mvexRegMemConv = hasMemory
      ? MvexRegMemConv.MemConvNone
      : MvexRegMemConv.RegSwizzleNone;
  }
  return i;
}

function setMemory(
  i: Instruction,
  k: number,
  name: string,
  address: Bits,
  variant: Variant,
): void {
  i.setOpKind(k, OpKind.Memory);
  if (name === "mem_offs") {
    i.memoryDisplSize = address / 8;
    i.memoryDisplacement = 0x1234n;
    return;
  }
  const step = address === 16 ? 0 : address === 32 ? 1 : 2;
  const vsib = /^mem_vsib(?:32|64)([xyz])$/.exec(name);
  const base = variant.high ? [R.BX, R.R13D, R.R13] : [R.BX, R.EBX, R.RBX];
  const index = variant.high ? [R.SI, R.R14D, R.R14] : [R.SI, R.ESI, R.RSI];
  i.memoryDisplSize = 1;
  i.memoryDisplacement = 0x10n;
  if (vsib !== null) {
    i.memoryBase = base[step];
    i.memoryIndex = { x: R.XMM7, y: R.YMM7, z: R.ZMM7 }[vsib[1]]!;
    i.memoryIndexScale = 4;
    return;
  }
  const isSib = name === "sibmem" || name === "mem_mib";
  if (variant.address === "absolute" && !isSib) {
    i.memoryDisplSize = address / 8;
    i.memoryDisplacement = 0x1234n;
    return;
  }
  if (variant.address === "rip" && !isSib && address !== 16) {
    i.memoryBase = address === 64 ? R.RIP : R.EIP;
    i.memoryDisplSize = address / 8;
    i.memoryDisplacement = 0x123456n;
    return;
  }
  if (variant.address === "index" && name !== "mem_mib" && address !== 16) {
    i.memoryIndex = index[step];
    i.memoryIndexScale = 8;
    i.memoryDisplSize = address / 8;
    i.memoryDisplacement = -0x80000n;
    return;
  }
  i.memoryBase = base[step];
  i.memoryIndex = index[step];
  i.memoryIndexScale = address === 16 || name === "mem_mib" ? 1 : 4;
}

function setOther(
  i: Instruction,
  k: number,
  kinds: readonly string[],
  bits: Bits,
  address: Bits,
  operandSize: number,
  target: bigint,
): void {
  const step = address === 16 ? 0 : address === 32 ? 1 : 2;
  const name = kinds[k];
  switch (name) {
    case "imm8":
      if (k > 0 && /^imm(8|16)$/.test(kinds[k - 1])) {
        i.setOpKind(k, OpKind.Immediate8_2nd);
        i.immediate8_2nd = 0x13;
      } else {
        i.setOpKind(k, OpKind.Immediate8);
        i.immediate8 = 0x92;
      }
      return;
    case "imm4_m2z":
    case "imm8_const_1":
      i.setOpKind(k, OpKind.Immediate8);
      i.immediate8 = 1;
      return;
    case "imm8sex16":
      i.setOpKind(k, OpKind.Immediate8to16);
      i.immediate8to16 = -5;
      return;
    case "imm8sex32":
      i.setOpKind(k, OpKind.Immediate8to32);
      i.immediate8to32 = -5;
      return;
    case "imm8sex64":
      i.setOpKind(k, OpKind.Immediate8to64);
      i.immediate8to64 = -5n;
      return;
    case "imm16":
      i.setOpKind(k, OpKind.Immediate16);
      i.immediate16 = 0x9234;
      return;
    case "imm32":
      i.setOpKind(k, OpKind.Immediate32);
      i.immediate32 = 0x92345678;
      return;
    case "imm32sex64":
      i.setOpKind(k, OpKind.Immediate32to64);
      i.immediate32to64 = -0x12345678n;
      return;
    case "imm64":
      i.setOpKind(k, OpKind.Immediate64);
      i.immediate64 = 0xffff800000000000n;
      return;
    case "farbr2_2":
      i.setOpKind(k, OpKind.FarBranch16);
      i.farBranchSelector = 0x8;
      i.farBranch16 = 0x1234;
      return;
    case "farbr4_2":
      i.setOpKind(k, OpKind.FarBranch32);
      i.farBranchSelector = 0x8;
      i.farBranch32 = 0x12345678;
      return;
    case "seg_rSI":
      i.setOpKind(k, OpKind.MemorySegSI + step);
      return;
    case "es_rDI":
      i.setOpKind(k, OpKind.MemoryESDI + step);
      return;
    case "seg_rDI":
      i.setOpKind(k, OpKind.MemorySegDI + step);
      return;
    case "seg_rBX_al":
      i.setOpKind(k, OpKind.Memory);
      i.memoryBase = [R.BX, R.EBX, R.RBX][step];
      i.memoryIndex = R.AL;
      return;
  }
  const branch = /^(?:br(16|32|64)_|xbegin_|brdisp_)/.exec(name);
  if (branch === null) throw new Error(`no instance for operand kind ${name}`);
  // Near branches get a target that no short one reaches.
  const to = name.endsWith("_1") ? target : target + 0x4000n;
  const width = branch[1] !== undefined
    ? Number(branch[1])
    : name.startsWith("brdisp")
    ? operandSize
    : bits === 64
    ? 64
    : 32;
  if (width === 64) {
    i.setOpKind(k, OpKind.NearBranch64);
    i.nearBranch64 = to;
  } else if (width === 32) {
    i.setOpKind(k, OpKind.NearBranch32);
    i.nearBranch32 = Number(to);
  } else {
    i.setOpKind(k, OpKind.NearBranch16);
    i.nearBranch16 = Number(to);
  }
}
