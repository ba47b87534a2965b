/**
 * The decoder and the ISA table over every op-code that iced-x86 lists: each
 * row's codes exist and decode to that row, and what has no row is of a feature
 * that no model shows, or on the list of what is still to come.
 */
import { assert, assertEquals } from "@std/assert";
import {
  Code,
  CodeExt,
  CpuidFeature,
  Encoder,
  EncodingKind,
  Instruction,
} from "iced-x86";
import {
  CPU_MODELS,
  type CpuModel,
  parseModel,
} from "../../cpu/arch/models.ts";
import { DecodeFailure } from "../../cpu/isa/decoder.ts";
import { OperandKind } from "../../cpu/isa/insn.ts";
import { rowIndexOf, ROWS } from "../../cpu/isa/table.ts";
import { rowLabel } from "../../cpu/isa/validate.ts";
import { buildInstance, variants } from "../../host/asm/instances.ts";
import { createDecoder } from "../../plugins/decoder/decode.ts";

const IP = 0x1000n;
const names = Object.keys(Code).filter((name) => isNaN(Number(name)));
const codeOf = new Map(
  Object.entries(Code).filter((e) => typeof e[1] === "number"),
);
const base = parseModel("max-intel");
const everything: CpuModel = { ...base, has: () => true };
const bare: CpuModel = {
  ...base,
  has: (f) => ["fpu", "lm", "mmx", "sse", "sse2", "fxsr"].includes(f),
};

function encode(code: number, bits: 16 | 32 | 64): Uint8Array[] {
  const out: Uint8Array[] = [];
  for (const variant of variants(bits)) {
    const instance = buildInstance(code, bits, variant, IP);
    if (instance === undefined) continue;
    const encoder = new Encoder(bits);
    try {
      encoder.encode(instance, IP);
      out.push(encoder.takeBuffer());
    } catch { /* that variant has no encoding */ }
    encoder.free();
  }
  return out;
}

Deno.test("every code named by a row exists", () => {
  const unknown = ROWS.flatMap((row) =>
    row.codes.filter((code) => !codeOf.has(code)).map((code) =>
      `${rowLabel(row)}: ${code}`
    )
  );
  assertEquals(unknown, []);
});

/** Encodes only, decoded as another code, or given up by later processors. */
const NEVER_DECODED = new Set([
  // 9B D9 … is WAIT and then the no-wait form.
  ...["Fstcw_m2byte", "Fstenv_m14byte", "Fclex", "Finit"],
]);

Deno.test("every row's codes decode to the row, with coherent operands", () => {
  const decoders = [
    createDecoder(everything),
    // Some forms exist on AMD's processors only (UD0 without ModR/M …).
    createDecoder({ ...everything, vendor: "AuthenticAMD" }),
  ];
  const missed: string[] = [];
  for (const row of ROWS) {
    for (const name of row.codes) {
      const code = Number(codeOf.get(name));
      let seen = NEVER_DECODED.has(name);
      for (const bits of [16, 32, 64] as const) {
        const opCode = CodeExt.opCode(code);
        const available = opCode.isAvailableInMode(bits);
        opCode.free();
        if (!available) continue;
        for (const bytes of encode(code, bits)) {
          const insn = decoders
            .map((d) => d.decode(bytes, bytes.length, bits, IP, bits, false))
            .find((got) => typeof got === "object" && got.code === code);
          if (typeof insn !== "object") continue;
          seen = true;
          assertEquals(insn.row, row);
          assertEquals(ROWS[insn.rowIndex], row);
          assertEquals(insn.length, bytes.length);
          assertEquals(insn.rip, IP);
          const memory = insn.operands.filter((o) =>
            o.kind === OperandKind.Memory
          );
          assertEquals(memory.length, insn.memory === undefined ? 0 : 1, name);
          assert([8, 16, 32, 64].includes(insn.operandSize), name);
          for (const operand of insn.operands) {
            if (row.emit === undefined) continue;
            const sizes = row.name === "LEA" || row.name === "BOUND" ||
                operand.kind === OperandKind.NearBranch
              ? [0, 16, 32, 64]
              : [8, 16, 32, 64];
            assert(sizes.includes(operand.size), `${name} ${operand.size}`);
          }
        }
      }
      if (!seen) missed.push(name);
    }
  }
  assertEquals(missed, []);
});

Deno.test("a model without a feature has none of its rows", () => {
  const decoder = createDecoder(bare);
  let checked = 0;
  for (const row of ROWS) {
    if (row.feature === undefined || bare.has(row.feature)) continue;
    for (const name of row.codes) {
      for (const bytes of encode(Number(codeOf.get(name)), 64)) {
        const got = decoder.decode(bytes, bytes.length, 64, IP, 64, false);
        // TZCNT, LZCNT and WBNOINVD become BSF, BSR and WBINVD.
        if (typeof got === "object") assert(got.row !== row, name);
        else assertEquals(got, DecodeFailure.Invalid, name);
        checked++;
      }
    }
  }
  assert(checked > 100);
});

/**
 * What some CPU model shows and we do not model yet: iced-x86's feature and which
 * of its codes. Everything else that a model shows must have a row. Delete a
 * line when its last code has a row; the test complains until you do.
 */
const TO_COME: Readonly<Record<string, RegExp>> = {};

Deno.test("what has no row is of a feature not shown, or on the list", () => {
  const shown = Object.keys(CPU_MODELS).map((name) =>
    createDecoder(parseModel(name))
  );
  const unexpected = new Set<string>();
  const used = new Set<string>();
  for (const name of names) {
    if (rowIndexOf(name) >= 0 || name.startsWith("Declare")) continue;
    // POP CS was the 8086's; 0F has been the escape byte since.
    if (["INVALID", "Popw_CS", "Zero_bytes"].includes(name)) continue;
    const code = Number(codeOf.get(name));
    const instruction = Instruction.create(code);
    const legacy = instruction.encoding === EncodingKind.Legacy;
    // The instance builder knows no EVEX; decode.txt has one.
    if (instruction.encoding === EncodingKind.EVEX) continue;
    // Of other makers' and early processors: decoded under an option only.
    const opCode = CodeExt.opCode(code);
    if (opCode.decoderOption !== 0) continue;
    const feature = [...instruction.cpuidFeatures()]
      .map((f) => CpuidFeature[f]).sort().join("+");
    for (const bits of [16, 32, 64] as const) {
      for (const bytes of encode(code, bits)) {
        for (const decoder of shown) {
          const got = decoder.decode(
            bytes,
            bytes.length,
            bits,
            IP,
            bits,
            false,
          );
          if (got === DecodeFailure.Invalid) continue;
          if (typeof got === "object") continue; // decoded as another code
          assertEquals(got, DecodeFailure.NotModelled, name);
          assert(legacy, `${name} is not legacy and no model shows it`);
          if (TO_COME[feature]?.test(name)) used.add(feature);
          else unexpected.add(`${feature} ${name}`);
        }
      }
    }
    instruction.free();
  }
  assertEquals([...unexpected], []);
  assertEquals(
    [...used].sort(),
    Object.keys(TO_COME).sort(),
    "delete stale entries",
  );
});
