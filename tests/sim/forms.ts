/**
 * Which instruction a random program tries next: rows of the ISA table in
 * turn, each with its forms in turn, so that every row gets its share of tries
 * whatever the number of rows and however many forms its neighbours have.
 * MMX, XMM and x87 rows, of which there are hundreds, share a third.
 * Invariant: a function of the random stream.
 */
import { Code, CodeExt } from "iced-x86";
import type { RandomStream } from "../../core/mod.ts";
import type { CpuModel } from "../../cpu/arch/models.ts";
import type { Row } from "../../cpu/isa/row.ts";
import { ROWS } from "../../cpu/isa/table.ts";
import type { Bits } from "../../host/asm/types.ts";
import type { BodyMode } from "./runtime.ts";

/** One form to be tried. */
export interface Form {
  readonly row: Row;
  readonly code: Code;
  readonly name: string;
  /** Of MMX, XMM or x87 registers. */
  readonly vector: boolean;
}

/** Where instructions are wanted; "late": at the end of kernel code. */
export type Zone = "kernel" | "user" | "late";

/** Rows that end a program's usefulness when run on random state at CPL 0. */
function isDangerous(row: Row, mode: BodyMode): boolean {
  if (row.privileged) return true;
  if (
    /^(IRET|SYSRET|SYSEXIT|MWAIT|OUT|OUTS|INS|LIDT|LGDT|CLI)$/.test(row.name)
  ) {
    return true;
  }
  if (row.call && /^(JMP|CALL|RET)$/.test(row.name)) return true;
  return mode !== "long" &&
    /^(LEAVE|ENTER|LSS|POPF|SYSENTER|SYSCALL)$/.test(row.name);
}

/** Endless permutations of a list. */
export class Deck<T> {
  #left: T[] = [];
  #kept: T[] = [];
  constructor(
    private readonly all: readonly T[],
    private readonly random: RandomStream,
  ) {}
  draw(): T {
    if (this.#left.length === 0) {
      this.#left = [...this.all];
      for (let i = this.#left.length - 1; i > 0; i--) {
        const j = this.random.below(i + 1);
        [this.#left[i], this.#left[j]] = [this.#left[j], this.#left[i]];
      }
    }
    return this.#left.pop()!;
  }

  /**
   * The next that fits. What does not is kept until it does, but drawn
   * nevertheless one time in four.
   */
  drawFitting(fits: (item: T) => boolean): T {
    const kept = this.#kept.findIndex(fits);
    if (kept >= 0) return this.#kept.splice(kept, 1)[0];
    for (;;) {
      const item = this.draw();
      if (fits(item) || this.random.below(4) === 0) return item;
      if (!this.#kept.includes(item)) this.#kept.push(item);
    }
  }
}

/** One row with its forms in a mode. */
class RowForms {
  readonly #forms: Deck<Form>;
  constructor(readonly row: Row, forms: readonly Form[], random: RandomStream) {
    this.#forms = new Deck(forms, random);
  }
  draw(): Form {
    return this.#forms.draw();
  }
}

const codeNumber = Code as unknown as Readonly<Record<string, Code>>;
const VECTOR = /_(x?mm|sti?|m32fp|m64fp|m80fp)|^F[a-z0-9]+(_|$)/;

/** Is the code valid in the mode? */
export function validIn(code: Code, bits: Bits): boolean {
  const info = CodeExt.opCode(code);
  const valid = bits === 64
    ? info.mode64
    : bits === 32
    ? info.mode32
    : info.mode16;
  info.free();
  return valid;
}

/** The forms of one mode; see the file header. */
export class FormChoice {
  readonly #decks: Readonly<Record<Zone, readonly Deck<RowForms>[]>>;

  constructor(
    mode: BodyMode,
    bits: Bits,
    private readonly random: RandomStream,
  ) {
    const scalar: RowForms[] = [], vector: RowForms[] = [];
    for (const row of ROWS) {
      const forms = row.codes
        .map((name) => ({
          row,
          code: codeNumber[name],
          name,
          vector: VECTOR.test(name),
        }))
        .filter(({ code }) => validIn(code, bits));
      if (forms.length === 0) continue;
      const list = forms.some((form) => form.vector) ? vector : scalar;
      list.push(new RowForms(row, forms, random));
    }
    const dangerous = (all: RowForms[], is: boolean): RowForms[] =>
      all.filter(({ row }) => isDangerous(row, mode) === is);
    this.#decks = {
      kernel: [
        new Deck(dangerous(scalar, false), random),
        new Deck(dangerous(vector, false), random),
      ],
      user: [new Deck(scalar, random), new Deck(vector, random)],
      late: [
        new Deck(dangerous(scalar, true), random),
        new Deck(scalar, random),
      ],
    };
  }

  /**
   * The next form for the zone, mostly one that the model has.
   * @param again one of the same kind as a vector form before it
   */
  draw(zone: Zone, model: CpuModel, again: boolean): Form {
    const [often, seldom] = this.#decks[zone];
    const deck = again || this.random.below(3) === 0 ? seldom : often;
    return deck.drawFitting(({ row: { feature } }) =>
      feature === undefined || model.has(feature)
    ).draw();
  }
}
