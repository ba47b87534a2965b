/**
 * Acceptance of the assembler: for every non-EVEX code that iced-x86 lists, in
 * every mode it exists in, encoded instances are disassembled (NASM syntax),
 * assembled again and disassembled: same text, and no longer encoding.
 */
import { assert, assertEquals } from "@std/assert";
import {
  Code,
  CodeExt,
  CodeSize,
  Decoder,
  DecoderOptions,
  Encoder,
  EncodingKind,
  Formatter,
  FormatterSyntax,
  Register,
} from "iced-x86";
import { assemble } from "./mod.ts";
import { buildInstance, takesMemory, variants } from "./instances.ts";
import type { Bits } from "./types.ts";

const IP = 0x1000n;

/**
 * Codes that iced encodes but decodes under no decoder option, so "disassembled
 * again" has no meaning. Their text, formatted from the instance itself, must
 * assemble to the very bytes of iced's encoder.
 */
const NOT_DECODABLE: Readonly<Record<string, string>> = {
  Montmul_16: "iced decodes MONTMUL (VIA PadLock) with 32-bit addresses only",
  Montmul_64: "iced decodes MONTMUL (VIA PadLock) with 32-bit addresses only",
  Popw_CS: "POP CS existed on the 8086; 0F has been the escape byte since",
};

/** Codes whose text doesn't show the operand size, so a longer one may win. */
const SAME_TEXT: Readonly<Record<string, string>> = {
  Push_imm16: "outside 16-bit mode shown like PUSH imm32",
  Xbegin_rel16: "outside 16-bit mode shown like XBEGIN rel32",
};

/**
 * Decoder options under which all codes of a mnemonic decode: obsolete op-codes
 * such as LOADALL share one name and are told apart by the option only.
 */
const optionsOf = new Map<number, number>();

const formatter = new Formatter(FormatterSyntax.Nasm);
formatter.usePseudoOps = false;
formatter.hexPrefix = "0x";
formatter.hexSuffix = "";
formatter.branchLeadingZeros = false;
// iced 1.21.0 prints 0xffff800000000000 as 0 when this is on.
formatter.smallHexNumbersInDecimal = false;

function disassemble(bytes: Uint8Array, bits: Bits, options: number): string[] {
  const decoder = new Decoder(bits, bytes, options);
  decoder.ip = IP;
  const lines: string[] = [];
  while (decoder.canDecode) {
    const i = decoder.decode();
    lines.push(formatter.format(i));
    i.free();
  }
  decoder.free();
  return lines;
}

interface Outcome {
  readonly failures: string[];
  readonly covered: Set<string>;
  readonly all: Set<string>;
  instances: number;
}

function* codes(): Generator<[string, Code]> {
  for (const name of Object.keys(Code)) {
    const code = Code[name as keyof typeof Code];
    if (typeof code === "number") yield [name, code];
  }
}

function runAll(): Outcome {
  const outcome: Outcome = {
    failures: [],
    covered: new Set(),
    all: new Set(),
    instances: 0,
  };
  const encoders = {
    16: new Encoder(16),
    32: new Encoder(32),
    64: new Encoder(64),
  };
  for (const [, code] of codes()) {
    const info = CodeExt.opCode(code);
    const before = optionsOf.get(info.mnemonic) ?? 0;
    optionsOf.set(info.mnemonic, before | info.decoderOption);
    info.free();
  }
  for (const [name, code] of codes()) {
    const info = CodeExt.opCode(code);
    const skip = !info.isInstruction || info.encoding === EncodingKind.EVEX;
    const isKnc = info.encoding === EncodingKind.MVEX;
    const masked = info.requireOpMaskRegister;
    const modes = ([16, 32, 64] as const).filter((b) =>
      info.isAvailableInMode(b)
    );
    const amdOnly = !info.intelDecoder64 && info.amdDecoder64;
    const option = optionsOf.get(info.mnemonic) ?? 0;
    info.free();
    if (skip) continue;
    outcome.all.add(name);
    for (const bits of modes) {
      const options = option |
        (bits === 64 && amdOnly ? DecoderOptions.AMD : 0);
      for (const variant of variants(bits)) {
        if (variant.memory && !takesMemory(code)) continue;
        const instance = buildInstance(code, bits, variant, 0x1010n);
        if (masked) instance.opMask = Register.K3;
        let bytes: Uint8Array;
        try {
          encoders[bits].encode(instance, IP);
          bytes = encoders[bits].takeBuffer();
        } catch {
          encoders[bits].takeBuffer();
          instance.free();
          continue; // this variant doesn't exist; another must
        }
        instance.codeSize = bits === 16
          ? CodeSize.Code16
          : bits === 32
          ? CodeSize.Code32
          : CodeSize.Code64;
        const text = formatter.format(instance);
        instance.free();
        outcome.instances++;
        if (NOT_DECODABLE[name] !== undefined) {
          checkBytes(outcome, name, bits, text, bytes);
          continue;
        }
        const head = isKnc ? "cpu knc\n" : "";
        check(outcome, name, bits, variant.name, bytes, options, head);
      }
    }
  }
  return outcome;
}

function checkBytes(
  outcome: Outcome,
  name: string,
  bits: Bits,
  text: string,
  bytes: Uint8Array,
): void {
  const got = hex(assemble(text, { bits, origin: IP }).bytes);
  if (got !== hex(bytes)) {
    outcome.failures.push(`${name} ${bits} ${text}: ${hex(bytes)}, got ${got}`);
  }
}

function check(
  outcome: Outcome,
  name: string,
  bits: Bits,
  variant: string,
  bytes: Uint8Array,
  options: number,
  preamble: string,
): void {
  const before = disassemble(bytes, bits, options);
  if (before.some((l) => l === "(bad)")) return;
  outcome.covered.add(name);
  const head = `${name} ${bits} ${variant} [${hex(bytes)}] ${
    before.join("; ")
  }`;
  let again: Uint8Array;
  try {
    again = assemble(preamble + before.join("\n"), { bits, origin: IP }).bytes;
  } catch (error) {
    outcome.failures.push(
      `${head}: ${(error as Error).message.split("\n")[0]}`,
    );
    return;
  }
  const after = disassemble(again, bits, options);
  if (after.join("\n") !== before.join("\n")) {
    outcome.failures.push(
      `${head}: became [${hex(again)}] ${after.join("; ")}`,
    );
  } else if (again.length > bytes.length && SAME_TEXT[name] === undefined) {
    outcome.failures.push(`${head}: became longer [${hex(again)}]`);
  }
}

const hex = (bytes: Uint8Array): string =>
  Array.from(bytes, (b) => b.toString(16).padStart(2, "0")).join("");

Deno.test("every non-EVEX code survives disassemble → assemble → disassemble", () => {
  const { failures, covered, all, instances } = runAll();
  assert(all.size > 3100, `iced lists ${all.size} codes`);
  assert(instances > 20_000, `only ${instances} instances were encodable`);
  assertEquals(
    failures.slice(0, 40),
    [],
    `${failures.length} failures`,
  );
  const missing = [...all].filter((n) => !covered.has(n)).sort();
  assertEquals(missing, Object.keys(NOT_DECODABLE).sort());
});
