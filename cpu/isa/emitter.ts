/**
 * The vocabulary in which every ordinary instruction is written once (design §7).
 *
 * A row's `emit` function calls these operations; three back ends implement
 * them: the reference evaluates at once with BigInt, T0 emits a Wasm function
 * per form, T1 will emit Wasm regions. Invariants every back end keeps: loads,
 * stores and faults happen in the order called; register, flag and RIP changes
 * are committed together at the instruction's end, and not at all if it faults.
 *
 * `V` is a 64-bit value, `B` a truth value. All V arithmetic is modulo 2^64;
 * `size` is an operand size in bits (8, 16, 32, 64) known when the form is
 * made. Operand reads are zero-extended to 64 bits.
 */
import type { Insn } from "./insn.ts";

/** Condition codes as the low nibble of Jcc/SETcc/CMOVcc (SDM vol. 2 appendix B.1.4). */
export type ConditionCode = number;

/** Operand size in bits. */
export type Size = 8 | 16 | 32 | 64;

/** Pure value operations: no side effect, may be evaluated in any order. */
export interface PureOps<V, B> {
  /** Constant, modulo 2^64. */
  k(n: bigint | number): V;
  add(a: V, b: V): V;
  sub(a: V, b: V): V;
  mul(a: V, b: V): V;
  /** High 64 bits of the unsigned product. */
  mulHighU(a: V, b: V): V;
  /** High 64 bits of the signed product. */
  mulHighS(a: V, b: V): V;
  and(a: V, b: V): V;
  or(a: V, b: V): V;
  xor(a: V, b: V): V;
  not(a: V): V;
  /** Shift counts are taken modulo 64. */
  shl(a: V, n: V): V;
  shr(a: V, n: V): V;
  sar(a: V, n: V): V;
  rotl(a: V, n: V): V;
  /** Unsigned and signed 64-bit division; the caller has excluded zero and overflow. */
  divU(a: V, b: V): V;
  divS(a: V, b: V): V;
  remU(a: V, b: V): V;
  remS(a: V, b: V): V;
  /** 64 for zero. */
  clz(a: V): V;
  /** 64 for zero. */
  ctz(a: V): V;
  popcnt(a: V): V;
  /** Keeps the low `size` bits. */
  zx(a: V, size: Size): V;
  /** Sign-extends the low `size` bits to 64. */
  sx(a: V, size: Size): V;
  eq(a: V, b: V): B;
  ne(a: V, b: V): B;
  ltU(a: V, b: V): B;
  ltS(a: V, b: V): B;
  true(): B;
  false(): B;
  notB(a: B): B;
  andB(a: B, b: B): B;
  orB(a: B, b: B): B;
  xorB(a: B, b: B): B;
  /** 1 or 0. */
  b2v(a: B): V;
  /** Both sides are evaluated: neither may have an effect. */
  sel(c: B, a: V, b: V): V;
  /** Bit `n` (mod 64) of `a`. */
  bit(a: V, n: V): B;
}

/** One instruction's view of the machine. */
export interface Emitter<V, B> extends PureOps<V, B> {
  /**
   * The instruction's form: operand kinds, sizes, prefixes, mode. Only fields
   * that are part of its form key may steer control flow of an emit function;
   * displacement, immediates and RIP differ between instances of a form.
   */
  readonly form: Insn;
  /** False when no later instruction can see the arithmetic flags written here (a hint). */
  readonly wantFlags: boolean;

  // --- operands, by their index in the manual's operand list
  /** Size of operand `i`. */
  size(i: number): Size;
  /** Reads operand `i`, zero-extended. Immediates come as the manual extends them to the operand size. */
  rd(i: number): V;
  /** Like `rd`, for an operand that will be written: a memory operand is probed once for the write before the read. */
  rdRw(i: number): V;
  /** Writes the low bits. A 32-bit write to a register clears the upper half. */
  wr(i: number, v: V): void;
  /** Effective address (offset) of memory operand `i`, truncated to the address size. */
  ea(i: number): V;

  // --- registers (0..15 in the manual's encoding order; high-byte registers are reached only by rd/wr)
  gpr(index: number, size: Size): V;
  setGpr(index: number, size: Size, v: V): void;

  // --- memory: segment register index (ES 0, CS 1, SS 2, DS 3, FS 4, GS 5) and offset
  ld(segment: number, offset: V, size: Size): V;
  st(segment: number, offset: V, size: Size, v: V): void;
  /** A load whose address will be stored to by this instruction: rights are checked as for a write. */
  ldRw(segment: number, offset: V, size: Size): V;

  // --- arithmetic flags, as what happened. Of `res` only the low `size` bits
  // count; `a` and `b` are zero-extended operand reads.
  /** `res` = a + b (+ carry) at `size`: all six flags. */
  fAdd(size: Size, a: V, b: V, res: V, carryIn?: B): void;
  /** `res` = a − b (− borrow) at `size`: all six flags. */
  fSub(size: Size, a: V, b: V, res: V, borrowIn?: B): void;
  /** CF = OF = AF = 0; SF, ZF, PF from `res`. */
  fLogic(size: Size, res: V): void;
  /** `res` = a + 1: all but CF. */
  fInc(size: Size, res: V): void;
  /** `res` = a − 1: all but CF. */
  fDec(size: Size, res: V): void;
  /** SF, ZF, PF from `res`; AF = 0; CF and OF as given. */
  fRes(size: Size, res: V, cf: B, of: B): void;
  /** CF and OF as given, the others unchanged. */
  fCO(cf: B, of: B): void;
  /** Flags of RFLAGS under `mask` (arithmetic flags only, constant) from `v`, in RFLAGS positions. */
  putFl(mask: number, v: V): void;
  /** CF, PF, AF, ZF, SF, OF in RFLAGS positions; other bits zero. Flags as before this instruction. */
  getFl(): V;
  /** CF as before this instruction. */
  cf(): B;
  /** DF as before this instruction: +1 or −1, as a V. */
  direction(): V;
  /** Condition code on the flags as before this instruction. */
  cond(cc: ConditionCode): B;

  // --- control
  /** Statement-level condition; effects inside count only when it holds. */
  if(c: B, then: () => void, otherwise?: () => void): void;
  /** Raises exception `vector` (error code if given) when `c`, dropping all commits. */
  faultIf(c: B, vector: number, errorCode?: number): void;
  /** When `c`, this one instance is executed by the reference instead (rare paths). */
  slowIf(c: B): void;
  /** RIP of the next instruction, at the operand size of a near branch. */
  nextRip(): V;
  /** Near relative branch to operand 0 when `c`. */
  jcc(c: B): void;
  /** Near relative branch to operand 0. */
  jmpRel(): void;
  /** Near branch to `target`; checked (canonical, CS limit) before anything is committed. */
  jmp(target: V): void;
  /** REP: this iteration is one step; RIP stays on the instruction while `again`. */
  repeatIf(again: B): void;
}

/** A row's semantics. Generic in the back end's representations. */
export type EmitFunction = <V, B>(e: Emitter<V, B>) => void;

/**
 * What `quick` functions of `call` rows may use beside: system state, as it is
 * before the instruction; changes are committed at its end.
 */
export interface QuickEmitter<V, B> extends Emitter<V, B> {
  /** Field of the vCPU page at an offset of VCPU (layout.ts), zero-extended. */
  field(offset: number, size: Size): V;
  setField(offset: number, size: Size, v: V): void;
  /** TSC that software outside a guest sees. */
  tsc(): V;
  /**
   * Load by linear address as the processor's own; where that is not known to
   * pass without a fault or walk, the case is not plain.
   */
  peek(linear: V, size: Size): V;
  /** When `c`, maskable interrupts are held until the next instruction is over (STI). */
  holdInterrupts(c: B): void;
}

/** A `call` row's plain case. */
export type QuickFunction = <V, B>(e: QuickEmitter<V, B>) => void;
