/**
 * T0's Emitter (design §7): runs an `emit` function once per form and records
 * what it does as statements over DAG nodes; codegen.ts makes code of them.
 *
 * Invariant: nothing here depends on register numbers, displacements,
 * immediates or addresses; they are read from the record when the code runs.
 */
import { ARITHMETIC_FLAGS, Rflags } from "../../arch/flags.ts";
import { Vector } from "../../arch/exceptions.ts";
import type { QuickEmitter, Size } from "../../isa/emitter.ts";
import type { Row } from "../../isa/row.ts";
import {
  type Insn,
  NO_REGISTER,
  OperandKind,
  RIP_RELATIVE,
} from "../../isa/insn.ts";
import { MsrSlot } from "../../arch/msr.ts";
import { Seg, SEGMENT, SEGMENT_SIZE, VCPU } from "../../layout.ts";
import { CELL } from "./area.ts";
import { type Node, NodeOps } from "./node.ts";
import { RECORD } from "./record.ts";
import type { Load, Statement, Target } from "./statement.ts";

const { CF, PF, AF, ZF, SF, OF } = Rflags;
const KEEP_FC = 0xbn; // AF and the SF and PF corrections
const MSB = 1n << 63n;
const CS_LIMIT = VCPU.segments + Seg.CS * SEGMENT_SIZE + SEGMENT.limit;

const operandSlot = (i: number): number => RECORD.operands + i * 2;

/** See the file header. */
export class FormEmitter extends NodeOps implements QuickEmitter<Node, Node> {
  readonly statements: Statement[] = [];
  private list = this.statements;
  private readonly loads: Load[] = [];

  constructor(public form: Insn, readonly wantFlags: boolean) {
    super();
  }

  /** Records what the form does. */
  run(): this {
    const { row } = this.form;
    if (row.emit !== undefined) row.emit<Node, Node>(this);
    else this.quick(row);
    return this;
  }

  /** A `call` row's plain case, after what the loop's admission would refuse. */
  private quick(row: Row): void {
    if (row.intercept !== undefined) this.slowUnlessZero(VCPU.guestMode);
    if (row.privileged) this.slowUnlessZero(VCPU.cpl);
    row.quick!<Node, Node>(this);
  }
  private slowUnlessZero(offset: number): void {
    this.slowIf(this.ne(this.field(offset, 32), this.k(0)));
  }

  protected get fr(): Node {
    return this.cell(CELL.fr);
  }
  protected get fc(): Node {
    return this.cell(CELL.fc);
  }

  // --- operands

  size(i: number): Size {
    return this.form.operands[i].size as Size;
  }

  ea(_i: number): Node {
    const { memory, addressSize } = this.form;
    if (memory === undefined) throw new Error(this.complaint("no memory"));
    let offset = this.recordQuad(RECORD.displacement, 64);
    if (memory.base !== NO_REGISTER && memory.base !== RIP_RELATIVE) {
      offset = this.add(this.recordRegister(RECORD.base, 64), offset);
    }
    if (memory.index !== NO_REGISTER) {
      const index = this.recordRegister(RECORD.index, 64);
      const scale = this.recordField(RECORD.scale, 8);
      offset = this.add(offset, this.shl(index, scale));
    }
    return this.zx(offset, addressSize);
  }

  rd(i: number): Node {
    const operand = this.form.operands[i];
    const size = operand.size as Size;
    switch (operand.kind) {
      case OperandKind.Gpr:
      case OperandKind.HighByte:
      case OperandKind.Segment:
        return this.recordRegister(operandSlot(i), size);
      case OperandKind.Memory:
        return this.ld(this.form.memory!.segment, this.ea(i), size);
      case OperandKind.Immediate:
        return this.recordQuad(RECORD.immediate, size);
      default:
        throw new Error(this.complaint(`operand ${i} of kind ${operand.kind}`));
    }
  }

  rdRw(i: number): Node {
    return this.form.operands[i].kind === OperandKind.Memory
      ? this.ldRw(this.form.memory!.segment, this.ea(i), this.size(i))
      : this.rd(i);
  }

  wr(i: number, value: Node): void {
    const operand = this.form.operands[i];
    if (operand.kind === OperandKind.Memory) {
      this.st(this.form.memory!.segment, this.ea(i), this.size(i), value);
    } else {
      this.commit(
        { place: this.registerOffset(operandSlot(i)), register: 0 },
        operand.size as Size,
        value,
      );
    }
  }

  // --- registers

  gpr(index: number, size: Size): Node {
    return this.fixedRegister(VCPU.gpr + index * 8, size);
  }

  setGpr(index: number, size: Size, value: Node): void {
    this.commit({ place: undefined, register: index }, size, value);
  }

  private commit(target: Target, size: Size, value: Node): void {
    const stored = size === 32 ? this.zx(value, 32) : value;
    this.list.push({ kind: "register", target, size, value: stored });
  }

  // --- system state

  field(offset: number, size: Size): Node {
    return this.fixedRegister(offset, size);
  }

  setField(offset: number, size: Size, value: Node): void {
    this.list.push({ kind: "field", offset, size, value });
  }

  tsc(): Node {
    const time = this.mul(this.step(), this.cell(CELL.pace));
    const adjust = this.field(VCPU.msrs + MsrSlot.TscAdjust * 8, 64);
    return this.add(this.add(time, this.cell(CELL.idle)), adjust);
  }

  /** Steps of the machine before this instruction. */
  private step(): Node {
    const unexecuted = this.sub(
      this.recordField(RECORD.length, 8),
      this.recordField(RECORD.position, 8),
    );
    const left = this.sx(this.cell(CELL.left), 32);
    return this.sub(this.cell(CELL.end), this.add(left, unexecuted));
  }

  holdInterrupts(condition: Node): void {
    const next = this.add(this.step(), this.k(1));
    const value = this.sel(condition, next, this.k(-1));
    this.list.push({ kind: "cell", offset: CELL.shadow, value });
  }

  peek(linear: Node, size: Size): Node {
    const value = this.loaded(size);
    this.list.push({ kind: "peek", linear, size: size / 8, value });
    return value;
  }

  // --- memory

  ld(segment: number, offset: Node, size: Size): Node {
    return this.load(segment, offset, size, false);
  }

  ldRw(segment: number, offset: Node, size: Size): Node {
    return this.load(segment, offset, size, true);
  }

  private load(
    segment: number,
    offset: Node,
    size: Size,
    write: boolean,
  ): Node {
    const value = this.loaded(size);
    const load: Load = {
      kind: "load",
      segment,
      offset,
      size: size / 8,
      value,
      write,
      reused: false,
    };
    this.list.push(load);
    if (write) this.loads.push(load);
    return value;
  }

  st(segment: number, offset: Node, size: Size, value: Node): void {
    const probe = this.loads.find((l) =>
      l.segment === segment && l.offset === offset && l.size === size / 8
    );
    if (probe) probe.reused = true;
    this.list.push({
      kind: "store",
      segment,
      offset,
      size: size / 8,
      value: this.zx(value, size),
      probe,
    });
  }

  // --- flags: see flags.ts

  private flags(fr: Node | undefined, fc: Node | undefined): void {
    if (this.wantFlags) this.list.push({ kind: "flags", fr, fc });
  }

  /** Carries out of every bit, with those of the top two bits moved to 63 and 62. */
  private carries(size: Size, c: Node): Node {
    if (size === 64) return this.and(c, this.k(~3n));
    return this.or(this.shl(c, this.k(64 - size)), this.and(c, this.k(8)));
  }

  fAdd(size: Size, a: Node, b: Node, res: Node): void {
    const either = this.and(this.or(a, b), this.not(res));
    this.flags(
      this.sx(res, size),
      this.carries(size, this.or(this.and(a, b), either)),
    );
  }

  fSub(size: Size, a: Node, b: Node, res: Node): void {
    const same = this.and(this.not(this.xor(a, b)), res);
    this.flags(
      this.sx(res, size),
      this.carries(size, this.or(this.and(this.not(a), b), same)),
    );
  }

  fLogic(size: Size, res: Node): void {
    this.flags(this.sx(res, size), this.k(0));
  }

  /** FC from CF, OF and the low bits as given. */
  private fcOf(cf: Node, of: Node, low: Node): Node {
    const top = this.shl(this.b2v(cf), this.k(63));
    const next = this.shl(this.b2v(this.xorB(cf, of)), this.k(62));
    return this.or(this.or(top, next), low);
  }

  fInc(size: Size, res: Node): void {
    const fr = this.sx(res, size);
    const low = this.and(
      this.and(this.sub(res, this.k(1)), this.not(res)),
      this.k(8),
    );
    const of = this.eq(fr, this.k(-(1n << BigInt(size - 1))));
    this.flags(fr, this.keepCarry(of, low));
  }

  fDec(size: Size, res: Node): void {
    const fr = this.sx(res, size);
    const before = this.add(res, this.k(1));
    const low = this.and(this.and(this.not(before), res), this.k(8));
    const of = this.eq(fr, this.k((1n << BigInt(size - 1)) - 1n));
    this.flags(fr, this.keepCarry(of, low));
  }

  private keepCarry(of: Node, low: Node): Node {
    const cf = this.and(this.fc, this.k(MSB));
    const next = this.xor(
      this.shr(cf, this.k(1)),
      this.shl(this.b2v(of), this.k(62)),
    );
    return this.or(this.or(cf, next), low);
  }

  fRes(size: Size, res: Node, cf: Node, of: Node): void {
    this.flags(this.sx(res, size), this.fcOf(cf, of, this.k(0)));
  }

  fCO(cf: Node, of: Node): void {
    this.flags(
      undefined,
      this.fcOf(cf, of, this.and(this.fc, this.k(KEEP_FC))),
    );
  }

  putFl(mask: number, value: Node): void {
    const wanted = mask & ARITHMETIC_FLAGS;
    const flag = (v: Node, bit: number): Node =>
      this.bit(v, this.k(31 - Math.clz32(bit)));
    if ((wanted & ~(CF | OF)) === 0) {
      const cf = wanted & CF ? flag(value, CF) : this.cf();
      const of = wanted & OF ? flag(value, OF) : this.of();
      this.fCO(cf, of);
      return;
    }
    const all = wanted === ARITHMETIC_FLAGS ? value : this.or(
      this.and(this.getFl(), this.k(ARITHMETIC_FLAGS & ~wanted)),
      this.and(value, this.k(wanted)),
    );
    const zf = flag(all, ZF);
    const pf = this.b2v(this.xorB(flag(all, PF), zf));
    const sf = this.and(this.shr(all, this.k(7)), this.k(1));
    const af = this.and(this.shr(all, this.k(1)), this.k(8));
    const low = this.or(this.or(sf, this.shl(pf, this.k(1))), af);
    this.flags(
      this.b2v(this.notB(zf)),
      this.fcOf(flag(all, CF), flag(all, OF), low),
    );
  }

  cf(): Node {
    return this.ltS(this.fc, this.k(0));
  }
  private of(): Node {
    return this.ltS(
      this.xor(this.fc, this.shl(this.fc, this.k(1))),
      this.k(0),
    );
  }
  protected zf(): Node {
    return this.eq(this.fr, this.k(0));
  }
  /** Value whose sign is SF. */
  protected signed(): Node {
    return this.xor(this.fr, this.shl(this.fc, this.k(63)));
  }
  protected pf(): Node {
    const ones = this.popcnt(this.and(this.fr, this.k(0xff)));
    const odd = this.xor(ones, this.shr(this.fc, this.k(1)));
    return this.notB(this.bit(odd, this.k(0)));
  }

  getFl(): Node {
    const put = (b: Node, flag: number): Node =>
      this.shl(this.b2v(b), this.k(31 - Math.clz32(flag)));
    let flags = put(this.cf(), CF);
    flags = this.or(flags, put(this.pf(), PF));
    flags = this.or(flags, put(this.bit(this.fc, this.k(3)), AF));
    flags = this.or(flags, put(this.zf(), ZF));
    flags = this.or(flags, put(this.ltS(this.signed(), this.k(0)), SF));
    return this.or(flags, put(this.of(), OF));
  }

  direction(): Node {
    const df = this.bit(this.fixedRegister(VCPU.rflags, 32), this.k(10));
    return this.sel(df, this.k(-1), this.k(1));
  }

  cond(cc: number): Node {
    const less = (): Node =>
      this.ltS(
        this.xor(
          this.signed(),
          this.xor(this.fc, this.shl(this.fc, this.k(1))),
        ),
        this.k(0),
      );
    let c: Node;
    switch (cc >> 1) {
      case 0:
        c = this.of();
        break;
      case 1:
        c = this.cf();
        break;
      case 2:
        c = this.zf();
        break;
      case 3:
        c = this.orB(this.cf(), this.zf());
        break;
      case 4:
        c = this.ltS(this.signed(), this.k(0));
        break;
      case 5:
        c = this.pf();
        break;
      case 6:
        c = less();
        break;
      default:
        c = this.orB(less(), this.zf());
    }
    return cc & 1 ? this.notB(c) : c;
  }

  // --- control

  if(condition: Node, then: () => void, otherwise?: () => void): void {
    const outer = this.list;
    const part = (body: (() => void) | undefined): Statement[] => {
      const list: Statement[] = [];
      this.list = list;
      body?.();
      return list;
    };
    // A place probed inside a branch is not known to be probed outside it.
    const probed = this.loads.length;
    const first = part(then);
    this.loads.length = probed;
    const second = part(otherwise);
    this.loads.length = probed;
    this.list = outer;
    outer.push({ kind: "if", condition, then: first, otherwise: second });
  }

  faultIf(condition: Node, vector: number, errorCode = -1): void {
    this.list.push({ kind: "fault", condition, vector, errorCode });
  }

  slowIf(condition: Node): void {
    this.list.push({ kind: "slow", condition });
  }

  nextRip(): Node {
    if (!this.form.row.endsBlock) {
      throw new Error(this.complaint("nextRip without endsBlock"));
    }
    return this.recordQuad(RECORD.nextRip, 64);
  }

  jcc(condition: Node): void {
    this.branch(condition, undefined);
  }
  jmpRel(): void {
    this.branch(undefined, undefined);
  }
  jmp(target: Node): void {
    if (this.form.codeSize === 64) {
      const shift = this.cell(CELL.canonicalShift);
      const back = this.sar(this.shl(target, shift), shift);
      this.faultIf(this.ne(back, target), Vector.GP, 0);
    } else {
      const limit = this.fixedRegister(CS_LIMIT, 32);
      this.faultIf(this.ltU(limit, target), Vector.GP, 0);
    }
    this.branch(undefined, target);
  }
  private branch(condition: Node | undefined, target: Node | undefined): void {
    if (!this.form.row.endsBlock) {
      throw new Error(this.complaint("a branch without endsBlock"));
    }
    this.list.push({ kind: "branch", condition, target });
  }

  repeatIf(again: Node): void {
    this.list.push({ kind: "repeat", again });
  }

  private complaint(what: string): string {
    return `make T0 form of ${this.form.row.name}: ${what}; correct its row`;
  }
}
