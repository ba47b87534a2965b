/**
 * Code of one form from its statements, in four parts: effects in order (with
 * every committed value computed into locals), commits, hot facts, and how
 * execution goes on.
 *
 * Invariant: until the last possible fault nothing of the instruction but its
 * stores is visible; then all of it is.
 */
import { VCPU } from "../../layout.ts";
import { type FunctionBody, I32, I64, Mem, Op } from "../wasm.ts";
import { BulkGenerator } from "./bulk.ts";
import { CELL, JUMP_ENTRIES, Leave } from "./area.ts";
import { emitForm, type Form } from "./form.ts";
import type { Node } from "./node.ts";
import { observes, ringNearlyFull, storeOf } from "./generator.ts";
import { FETCH_ENTRIES } from "./links.ts";
import { RECORD, RECORD_BYTES, SLOT } from "./record.ts";
import {
  type Branch,
  commits,
  type If,
  type SetFlags,
  type SetRegister,
  type Statement,
  walk,
} from "./statement.ts";

/** Page numbers are folded onto offsets: functions start at multiples of 16. */
const JUMP_FOLD = 8;

/** See the file header. */
export class FormGenerator extends BulkGenerator {
  /** Locals of committed values, by statement. */
  private readonly held = new Map<Statement, number>();
  private readonly heldFc = new Map<Statement, number>();
  private lateFlags: Statement | undefined;
  private again: number | undefined;
  /** The next record's form follows in the code. */
  private paired = false;
  private branch: Branch | undefined;
  /** Where slow cases go: a `call` row's to its procedure. */
  private slowWay: number = Leave.Reference;

  /** Writes the form's code; it ends by one of the flow's ways. */
  form(shape: Form): void {
    if (shape.pair !== undefined) {
      const [first, then] = shape.pair;
      this.paired = true;
      this.form(first);
      this.paired = false;
      this.form(then);
      return;
    }
    const { statements, form } = emitForm(shape);
    this.long = form.codeSize === 64;
    this.slowWay = form.row.call !== undefined ? Leave.Call : Leave.Reference;
    this.bulk(form);
    this.begin(statements);
    this.scope(() => {
      this.effects(statements);
      const finish = this.registersBefore(statements);
      if (this.lateFlags !== undefined) this.flagsLate(this.lateFlags);
      this.commits(statements);
      finish();
      if (this.target.retired) {
        this.body.get(this.record).call(this.functions.helpers.retired());
      }
      this.goOn(shape);
    });
    this.locals.release();
  }

  private begin(statements: readonly Statement[]): void {
    this.forget();
    this.held.clear();
    this.heldFc.clear();
    this.again = undefined;
    this.branch = undefined;
    const flags: Statement[] = [];
    for (const s of walk(statements)) {
      switch (s.kind) {
        case "load":
          this.mark(s.offset);
          break;
        case "store":
          this.mark(s.offset);
          this.mark(s.value);
          break;
        case "fault":
        case "slow":
        case "if":
          this.mark(s.condition);
          break;
        case "field":
        case "cell":
          this.mark(s.value);
          break;
        case "peek":
          this.mark(s.linear);
          break;
        case "register":
          this.mark(s.value);
          if (s.target.place) this.mark(s.target.place);
          break;
        case "flags":
          flags.push(s);
          if (s.fr) this.mark(s.fr);
          if (s.fc) this.mark(s.fc);
          break;
        case "repeat":
          this.mark(s.again);
          this.again = this.locals.take(I32);
          this.body.i32(0).set(this.again);
          break;
        case "branch":
          if (s.condition) this.mark(s.condition);
          if (s.target) this.mark(s.target);
          this.branch = s;
      }
    }
    this.lateFlags = flags.length !== 1
      ? undefined
      : statements.find((s) =>
        s === flags[0] ||
        (s.kind === "if" && s.then[0] === flags[0] && s.then.length === 1 &&
          s.otherwise.length === 0)
      );
    // Without other conditions no node is computed twice.
    this.frugal = !observes(this.target) &&
      statements.every((s) => s.kind !== "if" || s === this.lateFlags);
  }

  // --- effects

  private effects(list: readonly Statement[]): void {
    const { body } = this;
    for (const s of list) {
      if (s === this.lateFlags) continue;
      switch (s.kind) {
        case "load":
          this.load(s);
          break;
        case "store":
          this.store(s);
          break;
        case "fault":
          this.eval(s.condition);
          body.if();
          this.setCell(CELL.detail, s.vector);
          this.setCell(CELL.errorCode, s.errorCode);
          this.leaveFor(Leave.Raise);
          body.end();
          break;
        case "slow":
          this.eval(s.condition);
          body.if();
          this.leaveFor(this.slowWay);
          body.end();
          break;
        case "peek":
          this.peek(s, () => this.leaveFor(this.slowWay));
          break;
        case "if":
          this.ifEffects(s);
          break;
        case "register":
        case "field":
        case "cell":
          this.keep(this.held, s, s.value);
          break;
        case "flags":
          if (s.fr) this.keep(this.held, s, s.fr);
          if (s.fc) this.keep(this.heldFc, s, s.fc);
          break;
        case "repeat":
          this.eval(s.again);
          body.set(this.again!);
          break;
        case "branch": {
          const node = s.condition ?? s.target;
          if (node) this.settle(node);
        }
      }
    }
  }

  /** Computes what will be committed, into the local set aside for it or any. */
  private keep(held: Map<Statement, number>, s: Statement, node: Node): void {
    const aside = held.get(s);
    if (aside === undefined) this.settle(node);
    else {
      this.eval(node);
      this.body.set(aside);
    }
  }

  /** Sets locals aside for what is committed under a condition. */
  private setAside(list: readonly Statement[]): void {
    for (const s of walk(list)) {
      const aside = (map: Map<Statement, number>, type: number): void => {
        if (!map.has(s)) map.set(s, this.locals.zeroed(type));
      };
      if (s.kind === "register" || s.kind === "field" || s.kind === "cell") {
        aside(this.held, I64);
      } else if (s.kind === "if") aside(this.held, I32);
      else if (s.kind === "flags") {
        if (s.fr) aside(this.held, I64);
        if (s.fc) aside(this.heldFc, I64);
      }
    }
  }

  private ifEffects(s: If): void {
    const { body } = this;
    if (commits(s.then) || commits(s.otherwise)) {
      this.held.set(s, this.hold(s.condition));
      this.setAside(s.then);
      this.setAside(s.otherwise);
    }
    this.eval(s.condition);
    body.if();
    this.scope(() => this.effects(s.then));
    if (s.otherwise.length > 0) {
      body.else();
      this.scope(() => this.effects(s.otherwise));
    }
    body.end();
  }

  // --- commits

  /** The only flags statement: nothing else reads FR or FC from now on. */
  private flagsLate(s: Statement): void {
    const { body } = this;
    if (s.kind === "if") {
      this.eval(s.condition);
      body.if();
      this.scope(() => this.setFlags(s.then[0] as SetFlags));
      body.end();
    } else this.setFlags(s as SetFlags);
  }

  /** Both are computed before either is stored; FR may depend on the old FC. */
  private setFlags(s: SetFlags): void {
    if (s.fc && s.fr) this.settle(s.fc);
    if (s.fr) this.storeFlag(CELL.fr, () => this.eval(s.fr!));
    if (s.fc) this.storeFlag(CELL.fc, () => this.eval(s.fc!));
  }

  private storeFlag(cell: number, push: () => void): void {
    const { body, target: { area } } = this;
    body.i32(0);
    push();
    body.mem(Mem.i64_store, area.cells + cell);
  }

  /** Pushes what `keep` computed. */
  private kept(held: Map<Statement, number>, s: Statement, node: Node): void {
    const local = held.get(s);
    if (local === undefined) this.push(node);
    else this.body.get(local);
    this.consume(node);
  }

  private commits(list: readonly Statement[]): void {
    const { body } = this;
    for (const s of list) {
      if (s === this.lateFlags) continue;
      switch (s.kind) {
        case "register":
          this.setRegister(s);
          break;
        case "field":
          body.i32(0);
          this.kept(this.held, s, s.value);
          body.mem(storeOf(s.size / 8), this.target.vcpu + s.offset);
          break;
        case "cell":
          body.i32(0);
          this.kept(this.held, s, s.value);
          body.mem(Mem.i64_store, this.target.area.cells + s.offset);
          break;
        case "flags":
          if (s.fr) {
            this.storeFlag(CELL.fr, () => this.kept(this.held, s, s.fr!));
          }
          if (s.fc) {
            this.storeFlag(CELL.fc, () => this.kept(this.heldFc, s, s.fc!));
          }
          break;
        case "if": {
          const condition = this.held.get(s);
          if (condition === undefined) break;
          body.get(condition).if();
          this.commits(s.then);
          if (commits(s.otherwise)) {
            body.else();
            this.commits(s.otherwise);
          }
          body.end();
        }
      }
    }
  }

  private setRegister(s: SetRegister): void {
    const { body } = this;
    const { target, size } = s;
    let at = this.target.vcpu;
    if (target.place === undefined) {
      body.i32(0);
      at += VCPU.gpr + target.register * 8;
    } else this.eval(target.place);
    this.kept(this.held, s, s.value);
    // A 32-bit value is zero-extended: all 64 bits are written.
    body.mem(storeOf(size === 32 ? 8 : size / 8), at, true);
  }

  // --- hot facts

  /**
   * Keeps the old values of registers that the form may write; the function
   * returned states what changed, in ascending register number.
   */
  private registersBefore(list: readonly Statement[]): () => void {
    const { body } = this;
    if (!this.target.registers) return () => {};
    const places = new Map<string, number>(); // place → local of byte offset
    for (const s of walk(list)) {
      if (s.kind !== "register") continue;
      const { place, register } = s.target;
      const key = place === undefined ? `r${register}` : `@${place.id}`;
      if (places.has(key)) continue;
      const offset = this.locals.take(I32);
      if (place === undefined) body.i32(register * 8).set(offset);
      else {
        this.eval(place);
        body.i32(0x78).op(Op.i32_and).set(offset);
      }
      places.set(key, offset);
    }
    const fixed = [...places].filter(([key]) => key[0] === "r")
      .sort(([a], [b]) => Number(a.slice(1)) - Number(b.slice(1)));
    const named = [...places].filter(([key]) => key[0] === "@");
    if (named.length > 2 || (named.length > 0 && fixed.length > 1)) {
      throw new Error("generate T0 code: too many named registers to order");
    }
    const order = [...fixed, ...named].map(([, offset]) => ({
      offset,
      old: this.locals.take(I64),
    }));
    for (const { offset, old } of order) {
      body.get(offset).mem(Mem.i64_load, this.target.vcpu + VCPU.gpr);
      body.set(old);
    }
    const state = (i: number): void => {
      const { offset, old } = order[i];
      body.get(offset).get(old).call(this.functions.helpers.register());
    };
    if (named.length === 0 || order.length < 2) {
      return () => order.forEach((_, i) => state(i));
    }
    return () => {
      body.get(order[0].offset).get(order[1].offset).op(Op.i32_lt_u).if();
      state(0);
      state(1);
      body.else();
      state(1);
      body.get(order[0].offset).get(order[1].offset).op(Op.i32_ne).if();
      state(0);
      body.end();
      body.end();
    };
  }

  // --- going on

  private goOn(shape: Form): void {
    const { body, branch } = this;
    if (shape.second !== undefined) { // the branch has its own record
      body.get(this.record).i32(RECORD_BYTES).op(Op.i32_add);
      body.set(this.record);
    }
    if (this.again !== undefined) {
      body.get(this.again).if();
      this.repeat();
      body.end();
    }
    if (branch === undefined) {
      if (shape.terminator) this.chain(RECORD.next, shape.local);
      else if (this.paired) {
        body.get(this.record).i32(RECORD_BYTES).op(Op.i32_add).tee(this.record);
        body.mem(Mem.i64_load, 0).set(this.head);
        this.unlessStopped();
      } else this.flow.advance();
      return;
    }
    if (branch.target !== undefined) {
      this.jump(this.hold(branch.target));
    } else if (branch.condition !== undefined) {
      this.eval(branch.condition);
      body.if();
      this.chain(RECORD.taken, shape.local);
      body.else();
      this.chain(RECORD.next, shape.local);
      body.end();
      body.op(Op.unreachable);
    } else this.chain(RECORD.taken, shape.local);
  }

  /** Another iteration is another step. */
  private repeat(): void {
    const { body, target } = this;
    const { area } = target;
    const left = this.locals.take(I32);
    body.i32(0).mem(Mem.i32_load, area.cells + CELL.left);
    body.i32(1).op(Op.i32_sub).tee(left).i32(0).op(Op.i32_lt_s).if();
    this.leaveFor(Leave.Again);
    body.end();
    if (observes(target)) {
      ringNearlyFull(body, target.ring);
      body.if();
      this.leaveFor(Leave.Again);
      body.end();
    }
    body.i32(0).get(left).mem(Mem.i32_store, area.cells + CELL.left);
    this.flow.again();
  }

  /** A `call` row: goes on after its procedure if nothing else is to be done. */
  procedure(): void {
    this.body.get(this.record).call(this.functions.procedure).if();
    this.flow.leave();
    this.body.end();
    this.chain(RECORD.next, false);
  }

  /** Goes to the block that a chain slot names. */
  chain(slot: number, local: boolean): void {
    const { body } = this;
    const next = this.locals.take(I32);
    body.get(this.record).mem(Mem.i32_load, slot).set(next);
    if (local) body.get(next).op(Op.i32_eqz);
    else {
      body.get(this.record).mem(Mem.i32_load, slot + SLOT.number);
      body.get(this.record).mem(Mem.i32_load, slot + SLOT.place);
      body.mem(Mem.i32_load, 0);
      body.op(Op.i32_ne);
    }
    body.if();
    this.setCell(CELL.detail, slot);
    this.leaveFor(Leave.Miss);
    body.end();
    this.flow.enter(next);
    this.locals.give(next);
  }

  /** Goes to the block at the RIP in a local, through the jump cache. */
  private jump(rip: number): void {
    const { body, target: { area } } = this;
    const entry = this.locals.take(I32), next = this.locals.take(I32);
    jumpEntry(body, rip).set(entry);
    body.get(entry).mem(Mem.i64_load, area.jump).get(rip).op(Op.i64_ne);
    body.get(entry).mem(Mem.i32_load, area.jump + 12);
    body.get(rip).i64(10n).op(Op.i64_shr_u).op(Op.i32_wrap_i64);
    body.i32((FETCH_ENTRIES - 1) * 4).op(Op.i32_and);
    body.i32(0).mem(Mem.i32_load, area.cells + CELL.fetch).op(Op.i32_add);
    body.mem(Mem.i32_load, 0).op(Op.i32_ne).op(Op.i32_or).if();
    body.i32(0).get(rip).mem(Mem.i64_store, area.cells + CELL.address);
    this.leaveFor(Leave.Jump);
    body.end();
    body.get(entry).mem(Mem.i32_load, area.jump + 8).set(next);
    this.flow.enter(next);
  }
}

/** Byte offset of a RIP's entry in the jump cache, like `jumpIndex`. */
function jumpEntry(body: FunctionBody, rip: number): FunctionBody {
  body.get(rip).op(Op.i32_wrap_i64).i32(4).op(Op.i32_shl);
  body.get(rip).op(Op.i32_wrap_i64).i32(JUMP_FOLD).op(Op.i32_shr_u);
  body.op(Op.i32_xor);
  return body.i32((JUMP_ENTRIES - 1) * 16).op(Op.i32_and);
}

/** As the generated code computes it, from the low half of RIP. */
export function jumpIndex(ripLow: number): number {
  return (ripLow << 4 ^ ripLow >>> JUMP_FOLD) & (JUMP_ENTRIES - 1) * 16;
}
