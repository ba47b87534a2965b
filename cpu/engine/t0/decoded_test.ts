/**
 * The cache of decoded instructions against the decoder: the codes of all
 * silicon vectors, in every mode, at changing places and with changed bytes.
 */
import { assert, assertEquals } from "@std/assert";
import { createDecoder } from "../../../plugins/decoder/decode.ts";
import { siliconModel } from "../../../tests/silicon/bare_run.ts";
import { readVectors, vectorFiles } from "../../../tests/silicon/corpus.ts";
import type { Insn } from "../../isa/insn.ts";
import { DecodeCache } from "./decoded.ts";
import type { Mode } from "./mode.ts";
import { Wild, wildValue } from "./wild_bytes.ts";

const decoder = createDecoder(siliconModel());
const MAX_LENGTH = 15;

/** What a record is made of, the wild number left out. */
function shape(insn: Insn, kind: number): string {
  const { row, length, operands, memory, operandSize, rep, lock } = insn;
  const last = operands.length - 1;
  const list = operands.map(({ imm, ...operand }, i) => [
    operand,
    kind === Wild.Branch || (kind === Wild.Immediate && i === last) ? 0n : imm,
  ]);
  const { displacementLow: _low, displacementHigh: _high, ...place } = memory ??
    { displacement: 0n, displacementLow: 0, displacementHigh: 0 };
  const wild = kind === Wild.Relative || kind === Wild.Displacement;
  const displacement = wild ? 0n : place.displacement;
  return JSON.stringify(
    { row, length, list, ...place, displacement, operandSize, rep, lock },
    (_, value) => typeof value === "bigint" ? `${value}` : value,
  );
}

const LIMIT = (1n << 32n) - 1n;
const MODES: readonly Mode[] = ([64, 32, 16] as const).map((size, id) => ({
  ...{ id, user: false, codeSize: size, stackSize: size, real: size === 16 },
  ...{ base: 0n, limit: size === 64 ? (1n << 64n) - 1n : LIMIT },
}));

Deno.test("what the cache finds is what the decoder decodes, wherever it is", () => {
  const cache = new DecodeCache(decoder);
  const bytes = new Uint8Array(64);
  let noise = 1;
  const next = (): number => noise = Math.imul(noise, 0x41c64e6d) + 12345 | 0;
  let found = 0, decoded = 0;
  const kinds = new Map<number, number>();
  const compare = (at: number, room: number, mode: Mode): void => {
    const ripLow = next() >>> 0;
    const ripHigh = mode.codeSize === 64 ? next() >>> 0 : 0;
    const rip = BigInt(ripHigh) << 32n | BigInt(ripLow);
    const { codeSize, stackSize, real } = mode;
    const data = bytes.slice(at, at + room);
    const fresh = decoder.decode(data, room, codeSize, rip, stackSize, real);
    const known = cache.find(bytes, at, room, ripLow, ripHigh, mode);
    if (typeof known === "number" || typeof fresh === "number") {
      assertEquals<unknown>(known, fresh);
      return;
    }
    decoded++;
    if (known.insn.rip !== rip) found++;
    const { kind } = known.wild;
    kinds.set(kind, (kinds.get(kind) ?? 0) + 1);
    assertEquals(shape(known.insn, kind), shape(fresh, kind));
    if (kind !== Wild.None) assertEquals(cache.value, wildValue(fresh, kind));
  };
  for (const file of vectorFiles()) {
    for (const { code } of readVectors(file)) {
      for (const mode of MODES) {
        // At the end of what there is, too.
        const at = next() & 1 ? 10 : bytes.length - MAX_LENGTH;
        for (let i = 0; i < bytes.length; i++) bytes[i] = next() >> 16;
        bytes.set(code.subarray(0, MAX_LENGTH), at);
        compare(at, MAX_LENGTH, mode);
        bytes[at + (next() >>> 16) % code.length] ^= 1 << (next() >>> 29);
        compare(at, MAX_LENGTH, mode);
        compare(at, 1 + (next() >>> 16) % MAX_LENGTH, mode);
      }
    }
  }
  assert(found * 2 > decoded, `${found} of ${decoded} were found`);
  for (const kind of Object.values(Wild)) assert((kinds.get(kind) ?? 0) > 1000);
});
