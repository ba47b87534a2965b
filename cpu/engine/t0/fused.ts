/**
 * A flag-writing instruction and the conditional branch after it as one form:
 * the branch sees the first one's operands and result instead of its flags.
 *
 * Both keep their records, so that execution may stop between them or enter at
 * the second; the first record's form number says whether they run as one.
 */
import type { Size } from "../../isa/emitter.ts";
import type { Insn } from "../../isa/insn.ts";
import { FormEmitter } from "./emit.ts";
import type { Node } from "./node.ts";
import type { SetFlags } from "./statement.ts";

/** Mnemonics that may come first: all flags or all but CF, always written. */
const FIRST: ReadonlySet<string> = new Set([
  ...["CMP", "TEST", "ADD", "SUB", "AND", "OR", "XOR", "INC", "DEC"],
]);

/** Whether `first` and `second` may be one form. */
export function canFuse(first: Insn, second: Insn): boolean {
  const { name, variant } = second.row;
  return FIRST.has(first.row.name) && name[0] === "J" &&
    variant === "near" && name !== "JRCXZ";
}

/** See the file header. */
export class FusedEmitter extends FormEmitter {
  private subtracted: { size: Size; a: Node; b: Node } | undefined;
  private logical = false;
  private flagsOfFirst: SetFlags | undefined;

  constructor(first: Insn, private readonly second: Insn) {
    super(first, true);
  }

  override run(): this {
    super.run();
    const flags = this.statements.filter((s) => s.kind === "flags");
    if (flags.length !== 1) {
      throw new Error(`fuse ${this.form.row.name}: it sets flags not once`);
    }
    this.flagsOfFirst = flags[0];
    this.form = this.second;
    return super.run();
  }

  override fSub(
    size: Size,
    a: Node,
    b: Node,
    res: Node,
    borrowIn?: Node,
  ): void {
    if (borrowIn === undefined) this.subtracted = { size, a, b };
    super.fSub(size, a, b, res);
  }
  override fLogic(size: Size, res: Node): void {
    this.logical = true;
    super.fLogic(size, res);
  }

  protected override get fr(): Node {
    return this.flagsOfFirst?.fr ?? super.fr;
  }
  protected override get fc(): Node {
    return this.flagsOfFirst?.fc ?? super.fc;
  }
  /** The first one's FC has no corrections of SF and PF. */
  protected override signed(): Node {
    return this.fr;
  }

  override cond(cc: number): Node {
    const direct = this.direct(cc >> 1);
    if (direct === undefined) return super.cond(cc);
    return cc & 1 ? this.notB(direct) : direct;
  }

  /** The condition without its lowest bit, from operands, where that is simpler. */
  private direct(condition: number): Node | undefined {
    const { subtracted } = this;
    if (subtracted !== undefined) {
      const { size, a, b } = subtracted;
      const less = (x: Node, y: Node): Node =>
        this.ltS(this.sx(x, size), this.sx(y, size));
      switch (condition) {
        case 1:
          return this.ltU(a, b);
        case 2:
          return this.eq(a, b);
        case 3:
          return this.notB(this.ltU(b, a));
        case 6:
          return less(a, b);
        case 7:
          return this.notB(less(b, a));
      }
    }
    if (this.logical) {
      switch (condition) {
        case 0:
        case 1:
          return this.false();
        case 3:
          return this.zf();
        case 6:
          return this.ltS(this.fr, this.k(0));
        case 7:
          return this.orB(this.ltS(this.fr, this.k(0)), this.zf());
      }
    }
    return undefined;
  }
}
