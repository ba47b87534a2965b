/**
 * What all T0 code generation shares: the function being written, temporary
 * locals, constant addresses, leaving, and the evaluation of nodes.
 *
 * Invariant: a node's local is visible only in the scope that computed it and
 * in scopes inside; pure nodes may be computed again elsewhere.
 */
import type { CpuContext } from "../../context.ts";
import { RING_BYTES, VCPU } from "../../layout.ts";
import { RING_CURSOR, RING_RESERVE } from "../../ring.ts";
import { type FunctionBody, I32, Mem, Op, type ValueType } from "../wasm.ts";
import { type Area, CELL, Leave } from "./area.ts";
import { Kind, type Node } from "./node.ts";
import type { Helpers } from "./helpers.ts";
import { RECORD } from "./record.ts";

/** Constant facts of one vCPU and variant that code is made for. */
export interface Target {
  readonly cpu: number;
  /** Absolute offset of the register page. */
  readonly vcpu: number;
  readonly area: Area;
  /** Absolute offset of RAM and of the event ring. */
  readonly ram: number;
  readonly ring: number;
  /** Hot facts to append. */
  readonly retired: boolean;
  readonly memory: boolean;
  readonly registers: boolean;
}

/** @param facts bits: 1 retired, 2 memory, 4 registers */
export function targetOf(
  { index, layout }: CpuContext,
  area: Area,
  facts: number,
): Target {
  return {
    cpu: index,
    vcpu: layout.vcpu(index),
    area,
    ram: layout.ram,
    ring: layout.ring,
    retired: (facts & 1) !== 0,
    memory: (facts & 2) !== 0,
    registers: (facts & 4) !== 0,
  };
}

/** How a form's code goes on; main and single functions differ. */
export interface Flow {
  /** To the record after this one. */
  advance(): void;
  /** To this record again. */
  again(): void;
  /** To the block whose first record is in local `next`. */
  enter(next: number): void;
  /** Returns to TypeScript; reason and record are stored. */
  leave(): void;
}

/** Imported and helper functions by index in the module being built. */
export interface Functions {
  readonly load: number;
  readonly store: number;
  readonly procedure: number;
  readonly helpers: Helpers;
}

/**
 * Temporary locals of a body, reused as soon as they are dead.
 *
 * Main is one loop, and the host carries every local that is assigned in it
 * from iteration to iteration, in a register while there are few. So forms must
 * do with few, and read none that they have not written on every path.
 */
export class Locals {
  private readonly free = new Map<ValueType, number[]>();
  private readonly used = new Map<number, ValueType>();
  /** Locals made so far. */
  made = 0;

  constructor(readonly body: FunctionBody) {}

  take(type: ValueType): number {
    let local = this.free.get(type)?.pop();
    if (local === undefined) {
      local = this.body.local(type);
      this.made++;
    }
    this.used.set(local, type);
    return local;
  }
  /** A local that holds zero until it is written. */
  zeroed(type: ValueType): number {
    const local = this.take(type);
    if (type === I32) this.body.i32(0);
    else this.body.i64(0n);
    this.body.set(local);
    return local;
  }
  /** The local's value is needed no more. */
  give(local: number): void {
    const type = this.used.get(local);
    if (type === undefined) return;
    this.used.delete(local);
    const list = this.free.get(type);
    if (list === undefined) this.free.set(type, [local]);
    else list.push(local);
  }
  /** All taken locals may be taken again. */
  release(): void {
    for (const local of [...this.used.keys()]) this.give(local);
  }
}

/** See the file header. Local 0 of the body is the record. */
export class Generator {
  protected readonly body: FunctionBody;
  private scopes: Map<Node, number>[] = [new Map()];
  /** Each node is computed once: its local is given back after the last use. */
  protected frugal = false;

  constructor(
    protected readonly locals: Locals,
    protected readonly target: Target,
    protected readonly functions: Functions,
    protected readonly flow: Flow,
    /** Local that holds the record's first eight bytes. */
    protected readonly head: number,
    protected readonly record = 0,
  ) {
    this.body = locals.body;
  }

  /** Counts references to a node and what it needs. */
  protected mark(node: Node): void {
    node.left = ++node.uses;
    if (node.uses > 1) return;
    for (const a of node.args) this.mark(a);
  }

  /** One of the counted uses is over. */
  protected consume(node: Node): void {
    if (!this.frugal || node.kind === Kind.Const) return;
    if (--node.left > 0) return;
    for (const scope of this.scopes) {
      const local = scope.get(node);
      if (local === undefined) continue;
      scope.delete(node);
      this.locals.give(local);
    }
  }

  protected scope(inside: () => void): void {
    this.scopes.push(new Map());
    inside();
    this.scopes.pop();
  }

  private localOf(node: Node): number | undefined {
    for (let i = this.scopes.length - 1; i >= 0; i--) {
      const local = this.scopes[i].get(node);
      if (local !== undefined) return local;
    }
    return undefined;
  }

  /** Declares that `local` holds `node` in this scope. */
  protected bind(node: Node, local: number): void {
    this.scopes[this.scopes.length - 1].set(node, local);
  }

  /** Pushes a node's value, for one of its counted uses. */
  protected eval(node: Node): void {
    this.push(node);
    this.consume(node);
  }

  /** Pushes a node's value, without ending a use. */
  protected push(node: Node): void {
    if (node.kind === Kind.Const) return this.constant(node);
    const known = this.localOf(node);
    if (known !== undefined) {
      this.body.get(known);
      return;
    }
    this.compute(node);
    if (node.uses > 1) {
      const local = this.locals.take(node.type);
      this.body.tee(local);
      this.bind(node, local);
    }
  }

  /** Makes sure that a node needs no more computing in this scope. */
  protected settle(node: Node): void {
    if (node.kind === Kind.Const || this.localOf(node) !== undefined) return;
    this.compute(node);
    const local = this.locals.take(node.type);
    this.body.set(local);
    this.bind(node, local);
  }

  /** Like settle, into a local that is known by number. */
  protected hold(node: Node): number {
    const known = this.localOf(node);
    if (known !== undefined) return known;
    if (node.kind === Kind.Const) this.constant(node);
    else this.compute(node);
    const local = this.locals.take(node.type);
    this.body.set(local);
    this.bind(node, local);
    return local;
  }

  private constant(node: Node): void {
    if (node.type === I32) this.body.i32(Number(node.value));
    else this.body.i64(node.value);
  }

  private compute(node: Node): void {
    const { body, target } = this;
    switch (node.kind) {
      case Kind.Op:
        for (const a of node.args) this.eval(a);
        body.op(node.code);
        return;
      case Kind.RecordRegister:
        this.eval(node.args[0]);
        this.register(node.code, target.vcpu);
        return;
      case Kind.FixedRegister:
        body.i32(0);
        this.register(node.code, target.vcpu + Number(node.value));
        return;
      case Kind.RecordQuad:
        if (node.value === 0n) body.get(this.head);
        else body.get(this.record).mem(Mem.i64_load, Number(node.value));
        return;
      case Kind.Cell:
        body.i32(0).mem(
          Mem.i64_load,
          target.area.cells + Number(node.value),
        );
        return;
      case Kind.MulHigh:
        for (const a of node.args) this.eval(a);
        body.call(
          node.code === 0
            ? this.functions.helpers.mulHighU()
            : this.functions.helpers.mulHighS(),
        );
        return;
      default:
        throw new Error("generate T0 code: a load is used outside its scope");
    }
  }

  private register(size: number, at: number): void {
    this.body.mem(loadOf(size / 8), at, true);
  }

  /** Stores a constant into an i32 cell. */
  protected setCell(cell: number, value: number): void {
    this.body.i32(0).i32(value).mem(
      Mem.i32_store,
      this.target.area.cells + cell,
    );
  }

  /** Leaves for `reason` about this record. */
  leaveFor(reason: number): void {
    this.setCell(CELL.reason, reason);
    this.body.i32(0).get(this.record).mem(
      Mem.i32_store,
      this.target.area.cells + CELL.record,
    );
    this.flow.leave();
  }

  /** Pushes general register number `r`, 64 bits. */
  protected gpr(r: number): void {
    this.body.i32(0).mem(Mem.i64_load, this.target.vcpu + VCPU.gpr + r * 8);
  }
}

/** Zero-extending load of 1, 2, 4 or 8 bytes. */
export function loadOf(bytes: number): typeof Mem[keyof typeof Mem] {
  switch (bytes) {
    case 1:
      return Mem.i64_load8_u;
    case 2:
      return Mem.i64_load16_u;
    case 4:
      return Mem.i64_load32_u;
    default:
      return Mem.i64_load;
  }
}

/** Store of the low 1, 2, 4 or 8 bytes of an i64. */
export function storeOf(bytes: number): typeof Mem[keyof typeof Mem] {
  switch (bytes) {
    case 1:
      return Mem.i64_store8;
    case 2:
      return Mem.i64_store16;
    case 4:
      return Mem.i64_store32;
    default:
      return Mem.i64_store;
  }
}

/** Pushes whether fewer than RING_RESERVE bytes of the ring are free. */
export function ringNearlyFull(body: FunctionBody, ring: number): void {
  body.i32(0).mem(Mem.i32_load, ring - RING_CURSOR);
  body.i32(RING_BYTES - RING_RESERVE).op(Op.i32_gt_u);
}

/**
 * Entry of the block at the record in local `next`: ring and step budget.
 * Leaves by `leave` when it may not be entered now.
 */
export function enterBlock(
  body: FunctionBody,
  target: Target,
  next: number,
  left: number,
  leave: () => void,
): void {
  const { cells } = target.area;
  const out = (reason: number): void => {
    body.i32(0).i32(reason).mem(Mem.i32_store, cells + CELL.reason);
    body.i32(0).get(next).mem(Mem.i32_store, cells + CELL.record);
    leave();
  };
  if (observes(target)) {
    ringNearlyFull(body, target.ring);
    body.if();
    out(Leave.Ring);
    body.end();
  }
  body.i32(0).mem(Mem.i32_load, cells + CELL.left);
  body.get(next).mem(Mem.i32_load8_u, RECORD.length).op(Op.i32_sub).tee(left);
  body.i32(0).op(Op.i32_lt_s).if();
  out(Leave.Enter);
  body.end();
  body.i32(0).get(left).mem(Mem.i32_store, cells + CELL.left);
}

/** Whether any hot fact is appended. */
export function observes(target: Target): boolean {
  return target.retired || target.memory || target.registers;
}
