/**
 * Decode assists (APM 2 §15.8.4, §15.33): the bytes of the instruction at CS:RIP
 * for data page faults, and the general register of MOV CR and MOV DR.
 */
import type { CpuContext } from "../../cpu/context.ts";
import { type Insn, OperandKind } from "../../cpu/isa/insn.ts";
import { Seg } from "../../cpu/layout.ts";
import { Access } from "../../cpu/port.ts";
import { in64 } from "../../cpu/semantics/system/common.ts";

const MAX_BYTES = 15;

/** Up to 15 bytes at CS:RIP, fewer where the fetch would fault; without effect. */
export function instructionBytes(cpu: CpuContext): number[] {
  const { v, access } = cpu;
  const long = in64(v);
  const base = long ? 0n : v.segBase(Seg.CS);
  const { pending, stage2 } = v;
  const { outcome } = access;
  const bytes: number[] = [];
  while (bytes.length < MAX_BYTES) {
    const offset = v.rip + BigInt(bytes.length);
    const at = BigInt.asUintN(long ? 64 : 32, base + offset);
    // One walk serves the bytes of a page: by eights, then what is left.
    const left = Math.min(MAX_BYTES - bytes.length, 4096 - Number(at & 0xfffn));
    const size = left >= 8 ? 8 : left >= 4 ? 4 : left >= 2 ? 2 : 1;
    let value = access.read(at, size, Access.Silent | Access.Fetch);
    if (access.outcome !== 0) break;
    for (let i = 0; i < size; i++, value >>= 8n) {
      bytes.push(Number(value & 0xffn));
    }
  }
  v.pending = pending;
  v.stage2 = stage2;
  access.outcome = outcome;
  return bytes;
}

/** Registers of MOV CR or MOV DR. */
export interface SpecialMove {
  /** Control or debug register. */
  readonly register: number;
  readonly gpr: number;
  /** Into the control or debug register. */
  readonly write: boolean;
}

/** Operands of MOV CR and MOV DR. */
export function specialMove(insn: Insn): SpecialMove {
  const write = insn.operands[0].kind !== OperandKind.Gpr;
  return {
    register: insn.operands[write ? 0 : 1].reg,
    gpr: insn.operands[write ? 1 : 0].reg,
    write,
  };
}
