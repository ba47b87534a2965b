/**
 * Records whose form number is another for the time of one run: to stop before
 * an instruction, or to run the first of two fused instructions alone.
 */
import type { Forms } from "./form.ts";
import { FIRST_FORM, RECORD_BYTES } from "./record.ts";

/** See the file header. */
export class Patches {
  private readonly u16: Uint16Array;
  private readonly list: [record: number, form: number][] = [];

  constructor(memory: WebAssembly.Memory, private readonly forms: Forms) {
    this.u16 = new Uint16Array(memory.buffer);
  }

  /** Gives a record another form until `undo`. */
  put(record: number, form: number): void {
    this.list.push([record, this.u16[record >>> 1]]);
    this.u16[record >>> 1] = form;
  }

  /** If the record has a fused form, its first instruction runs alone until `undo`. */
  unfuse(record: number): void {
    const plain = this.plainOf(record);
    if (plain !== undefined) this.put(record, plain);
  }

  /** The plain form of a record that has a fused one. */
  plainOf(record: number): number | undefined {
    const id = this.u16[record >>> 1];
    return id < FIRST_FORM ? undefined : this.forms.byId(id).plain;
  }

  /** Whether a record's form has a branch in it too, which nothing may come between. */
  isFused(record: number): boolean {
    const id = this.u16[record >>> 1];
    return id >= FIRST_FORM && this.forms.byId(id).second !== undefined;
  }

  /** Records from `first` up to `end` run one by one, and with all their flags. */
  revive(first: number, end: number): void {
    for (let at = first; at < end; at += RECORD_BYTES) {
      const id = this.u16[at >>> 1];
      if (id < FIRST_FORM) continue;
      let form = this.forms.byId(id);
      while (form.dead || form.pair) form = this.forms.byId(form.plain!);
      if (form.id !== id) this.put(at, form.id);
    }
  }

  /** Gives every record its own form back. */
  undo(): void {
    while (this.list.length > 0) {
      const [record, form] = this.list.pop()!;
      this.u16[record >>> 1] = form;
    }
  }
}
