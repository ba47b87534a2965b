/**
 * Small functions that generated code calls inside its own module: high
 * products, and appending hot facts to the event ring (cpu/ring.ts gives the
 * format). Each is added to the module when first asked for.
 */
import { RING_CURSOR, RingKind } from "../../ring.ts";
import { VCPU } from "../../layout.ts";
import {
  FunctionBody,
  I32,
  I64,
  Mem,
  Op,
  type ValueType,
  type WasmModule,
} from "../wasm.ts";
import type { Target } from "./generator.ts";

/** See the file header. */
export class Helpers {
  private readonly made = new Map<string, number>();

  constructor(
    private readonly module: WasmModule,
    private readonly target: Target,
  ) {}

  private make(
    name: string,
    params: readonly ValueType[],
    results: readonly ValueType[],
    write: (body: FunctionBody) => void,
  ): number {
    let index = this.made.get(name);
    if (index === undefined) {
      const body = new FunctionBody(params);
      write(body);
      index = this.module.function(body, results);
      this.made.set(name, index);
    }
    return index;
  }

  /** (i64, i64) → high half of the unsigned product, from four 32-bit ones. */
  mulHighU(): number {
    return this.make("mulHighU", [I64, I64], [I64], (body) => {
      const [a, b] = [0, 1];
      const low = 0xffff_ffffn;
      const middle = body.local(I64), other = body.local(I64);
      const half = (v: number, high: boolean): void => {
        body.get(v);
        if (high) body.i64(32n).op(Op.i64_shr_u);
        else body.i64(low).op(Op.i64_and);
      };
      const product = (aHigh: boolean, bHigh: boolean): void => {
        half(a, aHigh);
        half(b, bHigh);
        body.op(Op.i64_mul);
      };
      // middle = ah·bl + (al·bl >> 32); other = al·bh + low half of middle
      product(true, false);
      product(false, false);
      body.i64(32n).op(Op.i64_shr_u).op(Op.i64_add).set(middle);
      product(false, true);
      body.get(middle).i64(low).op(Op.i64_and).op(Op.i64_add).set(other);
      product(true, true);
      body.get(middle).i64(32n).op(Op.i64_shr_u).op(Op.i64_add);
      body.get(other).i64(32n).op(Op.i64_shr_u).op(Op.i64_add);
    });
  }

  /** (i64, i64) → high half of the signed product. */
  mulHighS(): number {
    const unsigned = this.mulHighU();
    return this.make("mulHighS", [I64, I64], [I64], (body) => {
      const correction = (sign: number, other: number): void => {
        body.get(sign).i64(63n).op(Op.i64_shr_s).get(other).op(Op.i64_and);
        body.op(Op.i64_sub);
      };
      body.get(0).get(1).call(unsigned);
      correction(0, 1);
      correction(1, 0);
    });
  }

  /** Leaves the record's start in local `at` and moves the cursor; stores the kind and vCPU words. */
  private append(body: FunctionBody, kind: number, bytes: number): number {
    const { ring, cpu } = this.target;
    const at = body.local(I32);
    body.i32(0).i32(0).mem(Mem.i32_load, ring - RING_CURSOR).tee(at);
    body.i32(bytes).op(Op.i32_add).mem(Mem.i32_store, ring - RING_CURSOR);
    body.get(at).i32(kind).mem(Mem.i32_store, ring);
    body.get(at).i32(cpu).mem(Mem.i32_store, ring + 4);
    return at;
  }

  /** (record): appends `cpu.retired`. */
  retired(): number {
    return this.make("retired", [I32], [], (body) => {
      const { area, ring } = this.target;
      const at = this.append(body, RingKind.Retired, 16);
      body.get(at).get(0).i32(2).op(Op.i32_shr_u);
      body.mem(Mem.i64_load, area.rips - area.pool / 4);
      body.mem(Mem.i64_store, ring + 8, true);
    });
  }

  /** (byte offset of a register, its old value): appends `reg.wrote` if it changed. */
  register(): number {
    return this.make("register", [I32, I64], [], (body) => {
      const { vcpu, ring } = this.target;
      const value = body.local(I64);
      body.get(0).i32(0x78).op(Op.i32_and).tee(0);
      body.mem(Mem.i64_load, vcpu + VCPU.gpr).tee(value);
      body.get(1).op(Op.i64_ne).if();
      const at = this.append(body, RingKind.Register, 20);
      body.get(at).get(0).i32(3).op(Op.i32_shr_u);
      body.mem(Mem.i32_store, ring + 8);
      body.get(at).get(value).mem(Mem.i64_store, ring + 12, true);
      body.end();
    });
  }

  /** (linear, host offset, size, value, old): appends `mem.wrote`. */
  memory(): number {
    return this.make("memory", [I64, I32, I32, I64, I64], [], (body) => {
      const { ring, ram } = this.target;
      const at = this.append(body, RingKind.Memory, 44);
      body.get(at).get(2).mem(Mem.i32_store, ring + 8);
      body.get(at).get(0).mem(Mem.i64_store, ring + 12, true);
      body.get(at).get(1).i32(ram).op(Op.i32_sub).op(Op.i64_extend_i32_u);
      body.mem(Mem.i64_store, ring + 20, true);
      body.get(at).get(3).mem(Mem.i64_store, ring + 28, true);
      body.get(at).get(4).mem(Mem.i64_store, ring + 36, true);
    });
  }
}
