/**
 * Values of one form as a DAG of WebAssembly operations: PureOps over nodes,
 * with constants folded and equal nodes shared.
 *
 * Nodes are pure: register and flag nodes mean the state before the
 * instruction, because all commits come at its end. `V` nodes are i64 and know
 * an upper bound of their significant bits; `B` nodes are i32, 0 or 1.
 */
import { I32, I64, Op, type ValueType } from "../wasm.ts";
import type { PureOps, Size } from "../../isa/emitter.ts";

/** What a node is. */
export const Kind = {
  /** `value` of its type. */
  Const: 0,
  /** Opcode over args. */
  Op: 1,
  /** General register of `code` bits at the byte offset that is its arg. */
  RecordRegister: 2,
  /** Register of `code` bits at offset `value` of the vCPU page. */
  FixedRegister: 3,
  /** i64 of the record at offset `value`. */
  RecordQuad: 4,
  /** i64 control cell at offset `value`. */
  Cell: 6,
  /** Result of a load: set by its statement. */
  Loaded: 7,
  /** Helper: high half of the product; `code` 0 unsigned, 1 signed. */
  MulHigh: 8,
} as const;

/** One value; see the file header. */
export interface Node {
  readonly id: number;
  readonly kind: number;
  readonly type: ValueType;
  readonly code: number;
  readonly args: readonly Node[];
  readonly value: bigint;
  /** Significant low bits at most; the rest are zero. */
  readonly bits: number;
  /** References from statements and nodes, counted by the code generator. */
  uses: number;
  /** Those of them whose code is still to come. */
  left: number;
}

const M64 = (1n << 64n) - 1n;
const MASK: Readonly<Record<Size, bigint>> = {
  8: 0xffn,
  16: 0xffffn,
  32: 0xffff_ffffn,
  64: M64,
};
const SIGN_EXTEND = {
  8: Op.i64_extend8_s,
  16: Op.i64_extend16_s,
  32: Op.i64_extend32_s,
  64: Op.nop,
} as const;
const INVERSE: ReadonlyMap<number, number> = new Map<number, number>([
  [Op.i64_eq, Op.i64_ne],
  [Op.i64_ne, Op.i64_eq],
  [Op.i64_lt_u, Op.i64_ge_u],
  [Op.i64_ge_u, Op.i64_lt_u],
  [Op.i64_lt_s, Op.i64_ge_s],
  [Op.i64_ge_s, Op.i64_lt_s],
]);

const isConst = (n: Node): boolean => n.kind === Kind.Const;
const signed = (n: bigint): bigint => BigInt.asIntN(64, n);
const widthOf = (n: bigint): number =>
  n <= 0xffff_ffffn
    ? 32 - Math.clz32(Number(n))
    : 64 - Math.clz32(Number(n >> 32n));
/** More than a form has nodes, and than a code, kind and type have values. */
const IDS = 1 << 16;

/** See the file header. One instance per form. */
export class NodeOps implements PureOps<Node, Node> {
  private readonly known = new Map<number | string, Node>();
  private readonly constants = new Map<bigint, Node>();
  private count = 0;

  protected node(
    kind: number,
    type: ValueType,
    code: number,
    args: readonly Node[],
    value: bigint,
    bits: number,
  ): Node {
    // Nearly all are told apart by a number, which is found much faster.
    let key: number | string;
    if (value === 0n && args.length <= 2) {
      key = code << 5 | kind << 1 | (type === I64 ? 1 : 0);
      let place = IDS;
      for (const { id } of args) {
        key += (id + 1) * place;
        place *= IDS;
      }
    } else key = `${kind},${code},${value},${type},${args.map((a) => a.id)}`;
    const known = this.known.get(key);
    if (known !== undefined && kind !== Kind.Loaded) return known;
    const id = this.count++;
    const made: Node = {
      id,
      kind,
      type,
      code,
      args,
      value,
      bits,
      uses: 0,
      left: 0,
    };
    this.known.set(key, made);
    return made;
  }

  private op(code: number, args: readonly Node[], bits = 64): Node {
    return this.node(Kind.Op, I64, code, args, 0n, bits);
  }
  private test(code: number, args: readonly Node[]): Node {
    return this.node(Kind.Op, I32, code, args, 0n, 1);
  }
  private truth(b: boolean): Node {
    return this.node(Kind.Const, I32, 0, [], b ? 1n : 0n, 1);
  }

  /** An i64 of the control cells. */
  cell(offset: number): Node {
    return this.node(Kind.Cell, I64, 0, [], BigInt(offset), 64);
  }
  /** An i64 of the record. */
  recordQuad(offset: number, bits: number): Node {
    return this.node(Kind.RecordQuad, I64, 0, [], BigInt(offset), bits);
  }
  /** `bits` bits at byte `offset` of the record, from the quad they lie in. */
  recordField(offset: number, bits: number): Node {
    const quad = this.recordQuad(offset & ~7, 64);
    const field = this.shr(quad, this.k((offset & 7) * 8));
    return this.and(field, this.k((1n << BigInt(bits)) - 1n));
  }
  /** Byte offset of the register that the record names at `offset`: an i32. */
  registerOffset(offset: number): Node {
    return this.test(Op.i32_wrap_i64, [this.recordField(offset, 16)]);
  }
  /**
   * Register named by the record. 32 bits are cut from 64: a later write of the
   * whole register then shares the host's bounds check.
   */
  recordRegister(offset: number, size: number): Node {
    if (size === 32) return this.zx(this.recordRegister(offset, 64), 32);
    const place = this.registerOffset(offset);
    return this.node(Kind.RecordRegister, I64, size, [place], 0n, size);
  }
  /** Field of the vCPU page. */
  fixedRegister(offset: number, size: number): Node {
    return this.node(Kind.FixedRegister, I64, size, [], BigInt(offset), size);
  }
  /** What a load statement yields. */
  loaded(size: number): Node {
    return this.node(
      Kind.Loaded,
      I64,
      size,
      [],
      BigInt(this.count),
      size,
    );
  }

  k(n: bigint | number): Node {
    const value = BigInt.asUintN(64, BigInt(n));
    let known = this.constants.get(value);
    if (known === undefined) {
      known = this.node(Kind.Const, I64, 0, [], value, widthOf(value));
      this.constants.set(value, known);
    }
    return known;
  }
  add(a: Node, b: Node): Node {
    if (isConst(a) && isConst(b)) return this.k(a.value + b.value);
    if (isConst(b) && b.value === 0n) return a;
    if (isConst(a) && a.value === 0n) return b;
    return this.op(
      Op.i64_add,
      [a, b],
      Math.min(64, Math.max(a.bits, b.bits) + 1),
    );
  }
  sub(a: Node, b: Node): Node {
    if (isConst(a) && isConst(b)) return this.k(a.value - b.value);
    if (isConst(b) && b.value === 0n) return a;
    return this.op(Op.i64_sub, [a, b]);
  }
  mul(a: Node, b: Node): Node {
    if (isConst(a) && isConst(b)) return this.k(a.value * b.value);
    if (isConst(b) && b.value === 1n) return a;
    return this.op(Op.i64_mul, [a, b], Math.min(64, a.bits + b.bits));
  }
  mulHighU(a: Node, b: Node): Node {
    return this.node(Kind.MulHigh, I64, 0, [a, b], 0n, 64);
  }
  mulHighS(a: Node, b: Node): Node {
    return this.node(Kind.MulHigh, I64, 1, [a, b], 0n, 64);
  }
  and(a: Node, b: Node): Node {
    if (isConst(a) && isConst(b)) return this.k(a.value & b.value);
    if (isConst(a)) return this.and(b, a);
    if (isConst(b)) {
      if (b.value === 0n) return b;
      const mask = (1n << BigInt(a.bits)) - 1n;
      if ((b.value & mask) === mask) return a;
    }
    return this.op(Op.i64_and, [a, b], Math.min(a.bits, b.bits));
  }
  or(a: Node, b: Node): Node {
    if (isConst(a) && isConst(b)) return this.k(a.value | b.value);
    if (isConst(b) && b.value === 0n) return a;
    if (isConst(a) && a.value === 0n) return b;
    return this.op(Op.i64_or, [a, b], Math.max(a.bits, b.bits));
  }
  xor(a: Node, b: Node): Node {
    if (isConst(a) && isConst(b)) return this.k(a.value ^ b.value);
    if (isConst(b) && b.value === 0n) return a;
    return this.op(Op.i64_xor, [a, b], Math.max(a.bits, b.bits));
  }
  not(a: Node): Node {
    return this.xor(a, this.k(M64));
  }
  shl(a: Node, n: Node): Node {
    if (isConst(n)) {
      const by = n.value & 63n;
      if (by === 0n) return a;
      if (isConst(a)) return this.k(a.value << by);
      const bits = Math.min(64, a.bits + Number(by));
      return this.op(Op.i64_shl, [a, this.k(by)], bits);
    }
    return this.op(Op.i64_shl, [a, n]);
  }
  shr(a: Node, n: Node): Node {
    if (isConst(n)) {
      const by = n.value & 63n;
      if (by === 0n) return a;
      if (isConst(a)) return this.k(a.value >> by);
      const bits = Math.max(0, a.bits - Number(by));
      return bits === 0
        ? this.k(0)
        : this.op(Op.i64_shr_u, [a, this.k(by)], bits);
    }
    return this.op(Op.i64_shr_u, [a, n], a.bits);
  }
  sar(a: Node, n: Node): Node {
    if (a.bits < 64) return this.shr(a, n);
    if (isConst(n)) {
      if ((n.value & 63n) === 0n) return a;
      if (isConst(a)) return this.k(signed(a.value) >> (n.value & 63n));
    }
    return this.op(Op.i64_shr_s, [a, n]);
  }
  rotl(a: Node, n: Node): Node {
    return this.op(Op.i64_rotl, [a, n]);
  }
  divU(a: Node, b: Node): Node {
    return this.op(Op.i64_div_u, [a, b], a.bits);
  }
  divS(a: Node, b: Node): Node {
    return this.op(Op.i64_div_s, [a, b]);
  }
  remU(a: Node, b: Node): Node {
    return this.op(Op.i64_rem_u, [a, b], Math.min(a.bits, b.bits));
  }
  remS(a: Node, b: Node): Node {
    return this.op(Op.i64_rem_s, [a, b]);
  }
  clz(a: Node): Node {
    return this.op(Op.i64_clz, [a], 7);
  }
  ctz(a: Node): Node {
    return this.op(Op.i64_ctz, [a], 7);
  }
  popcnt(a: Node): Node {
    return this.op(Op.i64_popcnt, [a], 7);
  }
  zx(a: Node, size: Size): Node {
    if (a.bits <= size) return a;
    return this.and(a, this.k(MASK[size]));
  }
  sx(a: Node, size: Size): Node {
    if (size === 64 || a.bits < size) return a;
    if (isConst(a)) return this.k(BigInt.asIntN(size, a.value));
    return this.op(SIGN_EXTEND[size], [a]);
  }
  eq(a: Node, b: Node): Node {
    if (isConst(a) && isConst(b)) return this.truth(a.value === b.value);
    if (isConst(b) && b.value === 0n) return this.test(Op.i64_eqz, [a]);
    return this.test(Op.i64_eq, [a, b]);
  }
  ne(a: Node, b: Node): Node {
    if (isConst(a) && isConst(b)) return this.truth(a.value !== b.value);
    return this.test(Op.i64_ne, [a, b]);
  }
  ltU(a: Node, b: Node): Node {
    if (isConst(a) && isConst(b)) return this.truth(a.value < b.value);
    return this.test(Op.i64_lt_u, [a, b]);
  }
  ltS(a: Node, b: Node): Node {
    if (isConst(a) && isConst(b)) {
      return this.truth(signed(a.value) < signed(b.value));
    }
    return this.test(Op.i64_lt_s, [a, b]);
  }
  true(): Node {
    return this.truth(true);
  }
  false(): Node {
    return this.truth(false);
  }
  notB(a: Node): Node {
    if (isConst(a)) return this.truth(a.value === 0n);
    if (a.kind === Kind.Op) {
      const inverse = INVERSE.get(a.code);
      if (inverse !== undefined) return this.test(inverse, a.args);
      if (a.code === Op.i64_eqz) return this.ne(a.args[0], this.k(0));
      if (a.code === Op.i32_eqz) return a.args[0];
    }
    return this.test(Op.i32_eqz, [a]);
  }
  andB(a: Node, b: Node): Node {
    if (isConst(a)) return a.value ? b : a;
    if (isConst(b)) return b.value ? a : b;
    return this.test(Op.i32_and, [a, b]);
  }
  orB(a: Node, b: Node): Node {
    if (isConst(a)) return a.value ? a : b;
    if (isConst(b)) return b.value ? b : a;
    return this.test(Op.i32_or, [a, b]);
  }
  xorB(a: Node, b: Node): Node {
    if (a === b) return this.truth(false);
    if (isConst(a)) return a.value ? this.notB(b) : b;
    if (isConst(b)) return b.value ? this.notB(a) : a;
    return this.test(Op.i32_xor, [a, b]);
  }
  b2v(a: Node): Node {
    if (isConst(a)) return this.k(a.value);
    return this.op(Op.i64_extend_i32_u, [a], 1);
  }
  sel(c: Node, a: Node, b: Node): Node {
    if (isConst(c)) return c.value ? a : b;
    if (a === b) return a;
    return this.op(Op.select, [a, b, c], Math.max(a.bits, b.bits));
  }
  bit(a: Node, n: Node): Node {
    if (isConst(n)) {
      const at = n.value & 63n;
      if (isConst(a)) return this.truth(((a.value >> at) & 1n) === 1n);
      if (at === 63n) return this.ltS(a, this.k(0));
    }
    return this.test(Op.i32_wrap_i64, [
      this.and(this.shr(a, n), this.k(1)),
    ]);
  }
}
