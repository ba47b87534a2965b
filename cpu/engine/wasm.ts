/**
 * A WebAssembly binary encoder (WebAssembly Core Specification 2.0, §5): just
 * what the compiled engines need. Code is written instruction by instruction
 * into a function body; the module encodes its sections when all bodies are
 * done. Structured control is checked as it is written (verify.ts explains a
 * module that V8 refuses).
 */

/** Value types (§5.3.1). */
export const I32 = 0x7f;
export const I64 = 0x7e;
export const F64 = 0x7c;
/** The empty block type. */
export const VOID = 0x40;
const FUNCREF = 0x70;
/** A value or block type. */
export type ValueType = number;

/** Growable bytes with LEB128. */
class Bytes {
  private data = new Uint8Array(256);
  length = 0;

  byte(b: number): void {
    if (this.length === this.data.length) this.grow(1);
    this.data[this.length++] = b;
  }
  append(bytes: Uint8Array): void {
    this.grow(bytes.length);
    this.data.set(bytes, this.length);
    this.length += bytes.length;
  }
  u32(n: number): void {
    n = n >>> 0;
    while (n >= 0x80) {
      this.byte(n & 0x7f | 0x80);
      n >>>= 7;
    }
    this.byte(n);
  }
  s32(n: number): void {
    n = n | 0;
    for (;;) {
      const low = n & 0x7f;
      n >>= 7;
      if ((n === 0 && !(low & 0x40)) || (n === -1 && low & 0x40)) {
        this.byte(low);
        return;
      }
      this.byte(low | 0x80);
    }
  }
  s64(n: bigint): void {
    n = BigInt.asIntN(64, n);
    if (n === BigInt.asIntN(32, n)) return this.s32(Number(n));
    for (;;) {
      const low = Number(n & 0x7fn);
      n >>= 7n;
      if ((n === 0n && !(low & 0x40)) || (n === -1n && low & 0x40)) {
        this.byte(low);
        return;
      }
      this.byte(low | 0x80);
    }
  }
  text(s: string): void {
    const bytes = new TextEncoder().encode(s);
    this.u32(bytes.length);
    this.append(bytes);
  }
  view(): Uint8Array {
    return this.data.subarray(0, this.length);
  }
  private grow(by: number): void {
    if (this.length + by <= this.data.length) return;
    let size = this.data.length * 2;
    while (size < this.length + by) size *= 2;
    const bigger = new Uint8Array(size);
    bigger.set(this.data.subarray(0, this.length));
    this.data = bigger;
  }
}

/** Opcodes without immediates (§5.4), by their names in the specification with `_` for `.`. */
export const Op = {
  unreachable: 0x00,
  nop: 0x01,
  return: 0x0f,
  drop: 0x1a,
  select: 0x1b,
  i32_eqz: 0x45,
  i32_eq: 0x46,
  i32_ne: 0x47,
  i32_lt_s: 0x48,
  i32_lt_u: 0x49,
  i32_gt_s: 0x4a,
  i32_gt_u: 0x4b,
  i32_le_s: 0x4c,
  i32_le_u: 0x4d,
  i32_ge_s: 0x4e,
  i32_ge_u: 0x4f,
  i64_eqz: 0x50,
  i64_eq: 0x51,
  i64_ne: 0x52,
  i64_lt_s: 0x53,
  i64_lt_u: 0x54,
  i64_gt_s: 0x55,
  i64_gt_u: 0x56,
  i64_le_s: 0x57,
  i64_le_u: 0x58,
  i64_ge_s: 0x59,
  i64_ge_u: 0x5a,
  i32_clz: 0x67,
  i32_ctz: 0x68,
  i32_popcnt: 0x69,
  i32_add: 0x6a,
  i32_sub: 0x6b,
  i32_mul: 0x6c,
  i32_and: 0x71,
  i32_or: 0x72,
  i32_xor: 0x73,
  i32_shl: 0x74,
  i32_shr_s: 0x75,
  i32_shr_u: 0x76,
  i64_clz: 0x79,
  i64_ctz: 0x7a,
  i64_popcnt: 0x7b,
  i64_add: 0x7c,
  i64_sub: 0x7d,
  i64_mul: 0x7e,
  i64_div_s: 0x7f,
  i64_div_u: 0x80,
  i64_rem_s: 0x81,
  i64_rem_u: 0x82,
  i64_and: 0x83,
  i64_or: 0x84,
  i64_xor: 0x85,
  i64_shl: 0x86,
  i64_shr_s: 0x87,
  i64_shr_u: 0x88,
  i64_rotl: 0x89,
  i64_rotr: 0x8a,
  i32_wrap_i64: 0xa7,
  i64_extend_i32_s: 0xac,
  i64_extend_i32_u: 0xad,
  f64_convert_i64_u: 0xba,
  i32_extend8_s: 0xc0,
  i32_extend16_s: 0xc1,
  i64_extend8_s: 0xc2,
  i64_extend16_s: 0xc3,
  i64_extend32_s: 0xc4,
} as const;

/** Loads and stores: opcode and natural alignment (log2). */
export const Mem = {
  i32_load: [0x28, 2],
  i64_load: [0x29, 3],
  i32_load8_s: [0x2c, 0],
  i32_load8_u: [0x2d, 0],
  i32_load16_s: [0x2e, 1],
  i32_load16_u: [0x2f, 1],
  i64_load8_u: [0x31, 0],
  i64_load16_u: [0x33, 1],
  i64_load32_s: [0x34, 2],
  i64_load32_u: [0x35, 2],
  i32_store: [0x36, 2],
  i64_store: [0x37, 3],
  f64_store: [0x39, 3],
  i32_store8: [0x3a, 0],
  i32_store16: [0x3b, 1],
  i64_store8: [0x3c, 0],
  i64_store16: [0x3d, 1],
  i64_store32: [0x3e, 2],
} as const;
/** One of `Mem`. */
export type MemOp = typeof Mem[keyof typeof Mem];

/** One function's code while it is written. */
export class FunctionBody {
  private readonly code = new Bytes();
  private readonly locals: ValueType[] = [];
  private depth = 0;

  /** @param params types of the parameters, which are the first locals */
  constructor(readonly params: readonly ValueType[]) {}

  /** A new local; returns its index. */
  local(type: ValueType): number {
    this.locals.push(type);
    return this.params.length + this.locals.length - 1;
  }
  op(opcode: number): this {
    this.code.byte(opcode);
    return this;
  }
  i32(n: number): this {
    this.code.byte(0x41);
    this.code.s32(n);
    return this;
  }
  i64(n: bigint): this {
    this.code.byte(0x42);
    this.code.s64(n);
    return this;
  }
  get(local: number): this {
    this.code.byte(0x20);
    this.code.u32(local);
    return this;
  }
  set(local: number): this {
    this.code.byte(0x21);
    this.code.u32(local);
    return this;
  }
  tee(local: number): this {
    this.code.byte(0x22);
    this.code.u32(local);
    return this;
  }
  getGlobal(index: number): this {
    this.code.byte(0x23);
    this.code.u32(index);
    return this;
  }
  setGlobal(index: number): this {
    this.code.byte(0x24);
    this.code.u32(index);
    return this;
  }
  /** Load or store at the popped address plus `offset`; alignment is a hint of 1 byte unless natural. */
  mem([opcode, align]: MemOp, offset: number, unaligned = false): this {
    this.code.byte(opcode);
    this.code.u32(unaligned ? 0 : align);
    this.code.u32(offset);
    return this;
  }
  block(type: ValueType = VOID): this {
    return this.open(0x02, type);
  }
  loop(type: ValueType = VOID): this {
    return this.open(0x03, type);
  }
  if(type: ValueType = VOID): this {
    return this.open(0x04, type);
  }
  else(): this {
    return this.op(0x05);
  }
  end(): this {
    this.depth--;
    return this.op(0x0b);
  }
  /** Number of open blocks: `level() - x` is the branch depth to a block opened when level() was x. */
  level(): number {
    return this.depth;
  }
  br(depth: number): this {
    this.code.byte(0x0c);
    this.code.u32(depth);
    return this;
  }
  brIf(depth: number): this {
    this.code.byte(0x0d);
    this.code.u32(depth);
    return this;
  }
  brTable(depths: readonly number[], otherwise: number): this {
    this.code.byte(0x0e);
    this.code.u32(depths.length);
    for (const d of depths) this.code.u32(d);
    this.code.u32(otherwise);
    return this;
  }
  call(index: number): this {
    this.code.byte(0x10);
    this.code.u32(index);
    return this;
  }
  callIndirect(type: number, table = 0): this {
    this.code.byte(0x11);
    this.code.u32(type);
    this.code.u32(table);
    return this;
  }
  /** Bytes written so far. */
  get size(): number {
    return this.code.length;
  }

  private open(opcode: number, type: ValueType): this {
    this.depth++;
    this.code.byte(opcode);
    this.code.byte(type);
    return this;
  }

  /** @throws Error when a block is still open */
  encode(): Uint8Array {
    if (this.depth !== 0) {
      throw new Error(`end function body: ${this.depth} blocks are still open`);
    }
    const out = new Bytes();
    const runs: [number, ValueType][] = [];
    for (const type of this.locals) {
      const last = runs[runs.length - 1];
      if (last && last[1] === type) last[0]++;
      else runs.push([1, type]);
    }
    out.u32(runs.length);
    for (const [n, type] of runs) {
      out.u32(n);
      out.byte(type);
    }
    out.append(this.code.view());
    out.byte(0x0b);
    return out.view();
  }
}

interface Import {
  readonly module: string;
  readonly name: string;
  readonly kind: number;
  readonly body: Uint8Array;
}

/** A module being built. Functions are numbered imports first. */
export class WasmModule {
  private readonly types: string[] = [];
  private readonly typeBytes: Uint8Array[] = [];
  private readonly imports: Import[] = [];
  private importedFunctions = 0;
  private importedGlobals = 0;
  private readonly functions: { type: number; body: FunctionBody }[] = [];
  private readonly globals: {
    type: ValueType;
    mutable: boolean;
    value: bigint;
  }[] = [];
  private readonly exports: { name: string; kind: number; index: number }[] =
    [];
  private readonly elements: {
    offset: number;
    functions: readonly number[];
  }[] = [];

  /** Index of a function type. */
  type(params: readonly ValueType[], results: readonly ValueType[]): number {
    const key = `${params}>${results}`;
    const known = this.types.indexOf(key);
    if (known >= 0) return known;
    const out = new Bytes();
    out.byte(0x60);
    out.u32(params.length);
    for (const p of params) out.byte(p);
    out.u32(results.length);
    for (const r of results) out.byte(r);
    this.types.push(key);
    this.typeBytes.push(out.view());
    return this.types.length - 1;
  }
  importFunction(
    module: string,
    name: string,
    params: readonly ValueType[],
    results: readonly ValueType[],
  ): number {
    const body = new Bytes();
    body.u32(this.type(params, results));
    this.imports.push({ module, name, kind: 0, body: body.view() });
    return this.importedFunctions++;
  }
  /** @param pages minimum in 64-KiB pages; @param maximum omitted when undefined */
  importMemory(
    module: string,
    name: string,
    pages: number,
    maximum?: number,
  ): void {
    const body = new Bytes();
    body.byte(maximum === undefined ? 0 : 1);
    body.u32(pages);
    if (maximum !== undefined) body.u32(maximum);
    this.imports.push({ module, name, kind: 2, body: body.view() });
  }
  importTable(module: string, name: string, minimum: number): void {
    const body = new Bytes();
    body.byte(FUNCREF);
    body.byte(0);
    body.u32(minimum);
    this.imports.push({ module, name, kind: 1, body: body.view() });
  }
  importGlobal(
    module: string,
    name: string,
    type: ValueType,
    mutable: boolean,
  ): number {
    const body = new Bytes();
    body.byte(type);
    body.byte(mutable ? 1 : 0);
    this.imports.push({ module, name, kind: 3, body: body.view() });
    return this.importedGlobals++;
  }
  /** A module-owned global; returns its index. */
  global(type: ValueType, mutable: boolean, value = 0n): number {
    this.globals.push({ type, mutable, value });
    return this.importedGlobals + this.globals.length - 1;
  }
  /** Adds a function; imports must all be declared before. */
  function(body: FunctionBody, results: readonly ValueType[]): number {
    this.functions.push({ type: this.type(body.params, results), body });
    return this.importedFunctions + this.functions.length - 1;
  }
  exportFunction(name: string, index: number): void {
    this.exports.push({ name, kind: 0, index });
  }
  exportGlobal(name: string, index: number): void {
    this.exports.push({ name, kind: 3, index });
  }
  /** Fills table 0 from `offset` at instantiation. */
  element(offset: number, functions: readonly number[]): void {
    this.elements.push({ offset, functions });
  }

  /** The module's bytes. */
  encode(): Uint8Array<ArrayBuffer> {
    const out = new Bytes();
    out.append(new Uint8Array([0, 0x61, 0x73, 0x6d, 1, 0, 0, 0]));
    const section = (
      id: number,
      count: number,
      write: (b: Bytes) => void,
    ): void => {
      if (count === 0) return;
      const body = new Bytes();
      body.u32(count);
      write(body);
      out.byte(id);
      out.u32(body.length);
      out.append(body.view());
    };
    section(1, this.typeBytes.length, (b) => {
      for (const t of this.typeBytes) b.append(t);
    });
    section(2, this.imports.length, (b) => {
      for (const i of this.imports) {
        b.text(i.module);
        b.text(i.name);
        b.byte(i.kind);
        b.append(i.body);
      }
    });
    section(3, this.functions.length, (b) => {
      for (const f of this.functions) b.u32(f.type);
    });
    section(6, this.globals.length, (b) => {
      for (const g of this.globals) {
        b.byte(g.type);
        b.byte(g.mutable ? 1 : 0);
        if (g.type === I64) {
          b.byte(0x42);
          b.s64(g.value);
        } else {
          b.byte(0x41);
          b.s32(Number(g.value));
        }
        b.byte(0x0b);
      }
    });
    section(7, this.exports.length, (b) => {
      for (const e of this.exports) {
        b.text(e.name);
        b.byte(e.kind);
        b.u32(e.index);
      }
    });
    section(9, this.elements.length, (b) => {
      for (const e of this.elements) {
        b.u32(0);
        b.byte(0x41);
        b.s32(e.offset);
        b.byte(0x0b);
        b.u32(e.functions.length);
        for (const f of e.functions) b.u32(f);
      }
    });
    section(10, this.functions.length, (b) => {
      for (const f of this.functions) {
        const code = f.body.encode();
        b.u32(code.length);
        b.append(code);
      }
    });
    return out.view().slice();
  }
}
