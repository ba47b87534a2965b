/**
 * REP MOVS and REP STOS in 64-bit code, forwards, inside granted pages: all
 * iterations but the last of a page at once (SDM 2B REP). The last one runs as
 * any iteration, so that faults, repetition and the end are seen to there.
 *
 * Invariant: what this does is what as many single iterations do: steps are
 * taken from CELL.left, elements are copied one by one in order (overlapping
 * operands repeat), and nothing here can fault.
 */
import { Rflags } from "../../arch/flags.ts";
import { type Insn, Rep } from "../../isa/insn.ts";
import { Gpr, PAGE_SIZE, Seg, VCPU } from "../../layout.ts";
import { I32, I64, Mem, Op, VOID } from "../wasm.ts";
import { AccessGenerator } from "./access_code.ts";
import { CELL } from "./area.ts";
import { loadOf, observes, storeOf } from "./generator.ts";

const { RAX, RCX, RSI, RDI } = Gpr;

/** See the file header. */
export class BulkGenerator extends AccessGenerator {
  /** Code in front of a form's own; nothing for other forms. */
  protected bulk(form: Insn): void {
    const { rep, row, codeSize, addressSize, segment, operands } = form;
    if (rep === Rep.None || row.variant !== "string") return;
    const copies = row.name.startsWith("MOVS");
    if (!copies && !row.name.startsWith("STOS")) return;
    if (codeSize !== 64 || addressSize !== 64 || segment >= Seg.FS) return;
    if (observes(this.target)) return;
    this.iterations(operands[0].size / 8, copies);
  }

  private iterations(bytes: number, copies: boolean): void {
    const { body, locals, target } = this;
    const left = target.area.cells + CELL.left;
    body.block();
    const out = body.level();
    body.i32(0).mem(Mem.i32_load, target.vcpu + VCPU.rflags);
    body.i32(Rflags.DF).op(Op.i32_and).brIf(body.level() - out);
    this.gpr(RCX);
    body.i64(2n).op(Op.i64_lt_u).brIf(body.level() - out);
    const n = locals.take(I32), to = locals.take(I64);
    this.gpr(RDI);
    body.set(to);
    const host = this.probe(to, bytes, true, out);
    this.elementsTo(to, bytes);
    body.set(n);
    let from = 0, source = 0;
    if (copies) {
      from = locals.take(I64);
      this.gpr(RSI);
      body.set(from);
      source = this.probe(from, bytes, false, out);
      this.atMost(n, () => this.elementsTo(from, bytes));
    }
    this.atMost(n, () => void body.i32(0).mem(Mem.i32_load, left));
    // At least the last iteration is left over.
    this.gpr(RCX);
    body.i64(BigInt(PAGE_SIZE + 1)).op(Op.i64_lt_u).if();
    this.atMost(n, () => {
      this.gpr(RCX);
      body.op(Op.i32_wrap_i64).i32(1).op(Op.i32_sub);
    });
    body.end();
    body.get(n).i32(1).op(Op.i32_lt_s).brIf(body.level() - out);
    this.advance(RDI, n, bytes);
    if (copies) this.advance(RSI, n, bytes);
    this.advance(RCX, n, -1);
    body.i32(0).i32(0).mem(Mem.i32_load, left).get(n).op(Op.i32_sub);
    body.mem(Mem.i32_store, left);
    body.loop(VOID);
    const next = body.level();
    body.get(host);
    if (copies) body.get(source).mem(loadOf(bytes), 0, true);
    else this.gpr(RAX);
    body.mem(storeOf(bytes), 0, true);
    body.get(host).i32(bytes).op(Op.i32_add).set(host);
    if (copies) body.get(source).i32(bytes).op(Op.i32_add).set(source);
    body.get(n).i32(1).op(Op.i32_sub).tee(n).brIf(body.level() - next);
    body.end();
    body.end();
    for (const local of copies ? [from, source] : []) locals.give(local);
    for (const local of [n, to, host]) locals.give(local);
  }

  /** Pushes how many elements lie between an address and the end of its page. */
  private elementsTo(address: number, bytes: number): void {
    const { body } = this;
    body.i32(PAGE_SIZE).get(address).op(Op.i32_wrap_i64).i32(PAGE_SIZE - 1);
    body.op(Op.i32_and).op(Op.i32_sub);
    body.i32(31 - Math.clz32(bytes)).op(Op.i32_shr_u);
  }

  /** Makes an i32 local the signed minimum of itself and what `push` pushes. */
  private atMost(local: number, push: () => void): void {
    const { body } = this;
    const other = this.locals.take(I32);
    push();
    body.tee(other).get(local).op(Op.i32_lt_s).if();
    body.get(other).set(local);
    body.end();
    this.locals.give(other);
  }

  /** Adds `n` × `by` to a general register. */
  private advance(register: number, n: number, by: number): void {
    const { body, target } = this;
    body.i32(0);
    this.gpr(register);
    body.get(n).op(Op.i64_extend_i32_u).i64(BigInt(by)).op(Op.i64_mul);
    body.op(Op.i64_add);
    body.mem(Mem.i64_store, target.vcpu + VCPU.gpr + register * 8);
  }
}
