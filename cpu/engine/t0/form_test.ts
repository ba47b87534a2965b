/**
 * T0's forms: that nothing outside the form key steers an `emit` function, that
 * the flag pair holds every combination, and that the hot list is sound.
 */
import { assert, assertEquals } from "@std/assert";
import { readVectors, vectorFiles } from "../../../tests/silicon/corpus.ts";
import { createDecoder } from "../../../plugins/decoder/decode.ts";
import { siliconModel } from "../../../tests/silicon/bare_run.ts";
import type { Insn } from "../../isa/insn.ts";
import { flagsFromPair, pairFromFlags } from "./flags.ts";
import { emitForm, type Form, formKey, Forms, hasForm } from "./form.ts";
import { canFuse } from "./fused.ts";
import { HOT } from "./hot_forms.ts";
import { LEAN, temporariesOf } from "./module.ts";
import type { Node } from "./node.ts";

const decoder = createDecoder(siliconModel());

function decode(bytes: Uint8Array, size: 16 | 32 | 64): Insn | undefined {
  const insn = decoder.decode(bytes, bytes.length, size, 0n, size, false);
  return typeof insn === "number" ? undefined : insn;
}

/** What a form does, as text: equal texts make equal code. */
function semantics(insn: Insn): string {
  const form: Form = { ...new Forms().of(insn, false) };
  const seen = new Set<Node>();
  return JSON.stringify(emitForm(form).statements, (_key, value) => {
    if (typeof value === "bigint") return value.toString();
    if (value !== null && typeof value === "object" && "args" in value) {
      if (seen.has(value)) return value.id;
      seen.add(value);
    }
    return value;
  });
}

const INSTANCES = 5;

Deno.test("instructions of one form key have one semantics", () => {
  const known = new Map<string, { text: string; count: number }>();
  for (const file of vectorFiles()) {
    for (const { code } of readVectors(file)) {
      const insn = decode(code, 64);
      if (insn?.row.emit === undefined) continue;
      const key = formKey(insn, false);
      const before = known.get(key);
      if (before === undefined) {
        known.set(key, { text: semantics(insn), count: 1 });
      } else if (before.count++ < INSTANCES) {
        assertEquals(semantics(insn), before.text, `${insn.row.name}: ${key}`);
      }
    }
  }
  assert(known.size > 900, `only ${known.size} forms were compared`);
});

Deno.test("POP's address depends on rSP as its base, and its key says so", () => {
  const pop = (modrm: number[]): Insn =>
    decode(Uint8Array.of(0x8f, ...modrm), 64)!;
  const onStack = pop([0x44, 0x24, 8]), other = pop([0x43, 8]);
  assert(semantics(onStack) !== semantics(other));
  assert(formKey(onStack, false) !== formKey(other, false));
});

Deno.test("the flag pair holds all 64 combinations of arithmetic flags", () => {
  const bits = [0x1, 0x4, 0x10, 0x40, 0x80, 0x800];
  for (let n = 0; n < 64; n++) {
    const flags = bits.reduce((f, b, i) => n >> i & 1 ? f | b : f, 0);
    const { fr, fcLow, fcHigh } = pairFromFlags(flags);
    assertEquals(flagsFromPair(fr, 0, fcLow, fcHigh), flags);
  }
});

Deno.test("hot forms decode, are lean, and none is there twice", () => {
  const keys = new Set<string>();
  const forms = new Forms();
  const pairs: string[] = [];
  for (const text of HOT) {
    const [size, row] = text.split(":");
    const codes = row.split("~");
    assert(codes.length <= 2, text);
    if (codes.length === 2) pairs.push(`${size}:${codes[0]}`);
    const code = codes.at(-1)!;
    const local = code.endsWith("l");
    const insns = (local ? code.slice(0, -1) : code).split("+").map((hex) => {
      const bytes = hex.match(/../g)!.map((b) => parseInt(b, 16));
      return decode(Uint8Array.from(bytes), Number(size) as 16 | 32 | 64);
    });
    const [first, second] = insns;
    assert(first !== undefined && hasForm(first.row), text);
    let form = forms.of(first, second === undefined && local);
    if (insns.length === 2) {
      assert(second !== undefined && canFuse(first, second), text);
      form = forms.fuse(first, second, local);
    }
    assert(temporariesOf(form) <= LEAN, text);
    const key = codes.length === 2 ? text : form.key;
    assert(!keys.has(key), `${text} again`);
    keys.add(key);
  }
  assert(pairs.length > 0);
});
