/**
 * Forms: instructions that share one piece of T0 code. The key leaves out
 * register numbers, scale, displacement, immediates and addresses, which the
 * record holds; it has everything that may steer an `emit` function.
 */
import type { Insn, MemoryOperand } from "../../isa/insn.ts";
import { NO_REGISTER, OperandKind, Rep, RIP_RELATIVE } from "../../isa/insn.ts";
import type { Row } from "../../isa/row.ts";
import { Gpr, Seg } from "../../layout.ts";
import { FormEmitter } from "./emit.ts";
import { FusedEmitter } from "./fused.ts";
import { type FlagUse, flagUse } from "./liveness.ts";
import { FIRST_FORM } from "./record.ts";

/** In 64-bit code: the segment (DS or SS, bases zero) of the memory operand, whichever it is. */
export const OPERAND_SEGMENT = 6;

/** Whether compiled code executes a row, or its plain case. */
export function hasForm({ emit, quick }: Row): boolean {
  return emit !== undefined || quick !== undefined;
}

/** One form. */
export interface Form {
  /** Dispatch index. */
  readonly id: number;
  readonly key: string;
  /** An instruction of the form, with its segment normalised. */
  readonly sample: Insn;
  /** Ends a block. */
  readonly terminator: boolean;
  /** Static successors lie in the block's page. */
  readonly local: boolean;
  /** Of a fused form: its second instruction, a conditional branch. */
  readonly second: Insn | undefined;
  /** Leaves the arithmetic flags alone. */
  readonly dead: boolean;
  /** Two forms run one after the other without a dispatch between them. */
  readonly pair: readonly [Form, Form] | undefined;
  /** Of a fused, dead or paired form: what its first instruction alone runs as. */
  readonly plain: number | undefined;
  /** Times the reference stood in for want of code. */
  misses: number;
}

/** Key of an instruction's form. @param local see Form.local */
export function formKey(insn: Insn, local: boolean): string {
  let key = `${insn.rowIndex}.${insn.codeSize}.${insn.addressSize}.` +
    `${insn.stackSize}.${insn.operandSize}.${insn.rep}`;
  if (local) key += "l";
  for (const { kind, size } of insn.operands) {
    key += `.${kind === OperandKind.HighByte ? OperandKind.Gpr : kind}:${size}`;
    if (kind === OperandKind.Other) key += `s${insn.segment}`;
  }
  const { memory } = insn;
  if (memory !== undefined) {
    key += `.${segmentOf(insn, memory)}`;
    if (memory.base !== NO_REGISTER && memory.base !== RIP_RELATIVE) key += "b";
    if (memory.index !== NO_REGISTER) key += "i";
    // POP's address depends on whether its base is rSP (SDM 2B POP).
    if (insn.row.name === "POP" && memory.base === Gpr.RSP) key += "p";
  }
  return key;
}

function segmentOf(insn: Insn, memory: MemoryOperand): number {
  return insn.codeSize === 64 && memory.segment < Seg.FS
    ? OPERAND_SEGMENT
    : memory.segment;
}

function normalised(insn: Insn): Insn {
  const { memory } = insn;
  if (memory === undefined) return insn;
  const segment = segmentOf(insn, memory);
  return Object.assign(Object.create(insn) as Insn, {
    memory: { ...memory, segment },
  });
}

/** All forms met so far; shared by vCPUs and variants. */
export class Forms {
  private readonly byKey = new Map<string, Form>();
  private readonly list: Form[] = [];
  private readonly uses: FlagUse[] = [];
  private readonly pairs = new Map<number, number>();
  private readonly fusedForms = new Map<number, Form>();
  private readonly dead: (Form | undefined)[] = [];

  /** The form of an `emit` instruction. */
  of(insn: Insn, local: boolean): Form {
    const key = formKey(insn, local);
    return this.byKey.get(key) ?? this.add({
      key,
      sample: normalised(insn),
      terminator: insn.row.endsBlock === true,
      local,
      second: undefined,
      dead: false,
      pair: undefined,
      plain: undefined,
    });
  }

  /** The fused form of two forms, if it has been made. */
  findFused(first: Form, second: Form): Form | undefined {
    return this.fusedForms.get(first.id * 0x10000 + second.id);
  }

  /** Makes the fused form of two instructions for which `canFuse`. */
  fuse(first: Insn, second: Insn, local: boolean): Form {
    const plain = this.of(first, false), branch = this.of(second, local);
    let form = this.findFused(plain, branch);
    if (form === undefined) {
      form = this.add({
        key: `${plain.key}+${branch.key}`,
        sample: normalised(first),
        terminator: true,
        local,
        second,
        dead: false,
        pair: undefined,
        plain: plain.id,
      });
      this.fusedForms.set(plain.id * 0x10000 + branch.id, form);
    }
    return form;
  }

  /** The form that leaves the flags alone, if it has been made. */
  findDead(form: Form): Form | undefined {
    return this.dead[form.id];
  }

  /** Makes the form that leaves the flags alone; undefined if there is none. */
  makeDead(form: Form): Form | undefined {
    const { writes, exits } = this.use(form);
    if (writes === 0 || exits) return undefined;
    return this.dead[form.id] ??= this.add({
      ...form,
      ...{ key: form.key + DEAD, dead: true, plain: form.id },
    });
  }

  /** The form of two forms in a row, by their numbers, if it has been made. */
  findPair(first: number, then: number): number | undefined {
    return this.pairs.get(first * 0x10000 + then);
  }

  /** Makes the form of two forms in a row; undefined if the first can't be one. */
  makePair(first: Form, then: Form): Form | undefined {
    if (first.terminator || first.pair || then.pair) return undefined;
    if (first.sample.rep !== Rep.None) return undefined;
    const key = `${first.key}~${then.key}`;
    let form = this.byKey.get(key);
    if (form === undefined) {
      const { terminator, local } = then;
      const parts = { terminator, local, second: undefined, dead: false };
      form = this.add({
        key,
        sample: first.sample,
        ...parts,
        pair: [first, then],
        plain: first.id,
      });
      this.pairs.set(first.id * 0x10000 + then.id, form.id);
    }
    return form;
  }

  /** What a form means to the flags. */
  use(form: Form): FlagUse {
    let use = this.uses[form.id];
    if (use === undefined) {
      use = accesses(form) ? EXITS : flagUse(emitForm(form).statements);
      this.uses[form.id] = use;
    }
    return use;
  }

  private add(form: Omit<Form, "id" | "misses">): Form {
    const made = { ...form, id: FIRST_FORM + this.list.length, misses: 0 };
    this.byKey.set(form.key, made);
    this.list.push(made);
    return made;
  }

  /** By dispatch index. */
  byId(id: number): Form {
    return this.list[id - FIRST_FORM];
  }
  get count(): number {
    return this.list.length;
  }
}

const DEAD = "!";
/** A memory operand that is not accessed. */
const ADDRESS_ONLY: ReadonlySet<string> = new Set(["LEA", "NOP"]);
const EXITS: FlagUse = { writes: 0, reads: 0, dataReads: 0, exits: true };

/** Whether a form has a memory operand that may fault, as can be told at sight. */
function accesses({ sample: { memory, row } }: Form): boolean {
  return memory !== undefined && !ADDRESS_ONLY.has(row.name);
}

/** Runs the form's semantics. */
export function emitForm({ sample, second, dead }: Form): FormEmitter {
  return second === undefined
    ? new FormEmitter(sample, !dead).run()
    : new FusedEmitter(sample, second).run();
}
