/**
 * Random bytes as instructions: whatever the decoder makes of them (prefixes,
 * displacements, scales, masks no table-driven instance has) must survive
 * disassemble → assemble → disassemble too.
 */
import { assert, assertEquals } from "@std/assert";
import {
  Decoder,
  DecoderOptions,
  EncodingKind,
  Formatter,
  FormatterSyntax,
} from "iced-x86";
import { assemble } from "./mod.ts";
import type { Bits } from "./types.ts";

const INSTANCES = 12_000;
const IP = 0x10_0000n;

/** xorshift32: the same instructions in every run. */
function* randomBytes(seed: number): Generator<number> {
  let x = seed;
  for (;;) {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    yield (x >>> 11) & 0xff;
  }
}

const formatter = new Formatter(FormatterSyntax.Nasm);
formatter.hexPrefix = "0x";
formatter.hexSuffix = "";
formatter.branchLeadingZeros = false;
formatter.smallHexNumbersInDecimal = false;

interface Decoded {
  readonly text: string;
  readonly length: number;
  readonly encoding: EncodingKind;
  readonly isValid: boolean;
}

function decode(bytes: Uint8Array, bits: Bits): Decoded {
  const decoder = new Decoder(bits, bytes, DecoderOptions.None);
  decoder.ip = IP;
  const i = decoder.decode();
  const result: Decoded = {
    text: formatter.format(i),
    length: i.length,
    encoding: i.encoding,
    isValid: !i.isInvalid,
  };
  i.free();
  decoder.free();
  return result;
}

/** Prefixes, REX, VEX, XOP and the escape to the larger op-code maps. */
const FIRST = [
  [0x0f],
  [0x66],
  [0x67],
  [0xf2],
  [0xf3],
  [0x48],
  [0x4d],
  [0x64],
  [0xc4],
  [0xc5],
  [0x8f],
  [0x66, 0x0f],
  [0xf3, 0x0f],
  [0xf2, 0x0f, 0x38],
  [0x66, 0x0f, 0x3a],
];

/**
 * Text that doesn't say all: an unneeded prefix in front of a short branch is
 * not shown, and without it the target may be just out of reach.
 */
function isLost(text: string, message: string): boolean {
  return /short|loop|cxz/.test(text) && message.includes("too far");
}

for (const bits of [16, 32, 64] as const) {
  Deno.test(`random instructions survive the round trip in ${bits}-bit mode`, () => {
    const random = randomBytes(0x1234_5678 + bits);
    const failures: string[] = [];
    let tried = 0;
    let draws = 0;
    while (tried < INSTANCES) {
      const bytes = Uint8Array.from({ length: 15 }, () => random.next().value!);
      if (draws++ % 3 !== 0) bytes.set(FIRST[draws % FIRST.length]);
      const { text, length, isValid, encoding } = decode(bytes, bits);
      if (!isValid || encoding === EncodingKind.EVEX) continue;
      tried++;
      let again: string;
      try {
        const made = assemble(text, { bits, origin: IP }).bytes;
        again = decode(made, bits).text;
      } catch (error) {
        again = (error as Error).message.split("\n")[0];
        if (isLost(text, again)) continue;
      }
      if (again !== text) {
        const hex = Array.from(
          bytes.subarray(0, length),
          (b) => b.toString(16).padStart(2, "0"),
        ).join("");
        failures.push(`[${hex}] ${text} → ${again}`);
      }
    }
    assert(draws > INSTANCES);
    assertEquals(failures.slice(0, 60), [], `${failures.length} failures`);
  });
}
