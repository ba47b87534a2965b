/**
 * Rows of data movement, conversion, stack, flag, no-operation and hint
 * instructions (SDM vol. 1 §7.3.1, §7.3.3, §7.3.13–7.3.16).
 */
import { Intercept } from "../../arch/intercepts.ts";
import * as move from "../../semantics/move.ts";
import * as procedures from "../../semantics/procedures.ts";
import * as quick from "../../semantics/quick.ts";
import * as stack from "../../semantics/stack.ts";
import type { Feature } from "../../arch/cpuid.ts";
import type { EmitFunction } from "../emitter.ts";
import type { Row } from "../row.ts";
import { CONDITIONS, sized, WIDE, WORDS } from "./names.ts";

function simple(
  name: string,
  codes: readonly string[],
  emit: EmitFunction,
  feature?: Feature,
): Row {
  return { name, codes, emit, feature, manual: `SDM 2 ${name}` };
}

const RESERVED_NOPS = ["0D", "18", "19", "1A", "1B", "1C", "1D", "1E", "1F"];

/** See the file header. */
export const MOVE_ROWS: readonly Row[] = [
  simple("MOV", [
    ...sized("Mov_rm{}_r{}"),
    ...sized("Mov_r{}_rm{}"),
    ...sized("Mov_r{}_imm{}"),
    "Mov_rm8_imm8",
    "Mov_rm16_imm16",
    "Mov_rm32_imm32",
    "Mov_rm64_imm32",
    "Mov_AL_moffs8",
    "Mov_AX_moffs16",
    "Mov_EAX_moffs32",
    "Mov_RAX_moffs64",
    "Mov_moffs8_AL",
    "Mov_moffs16_AX",
    "Mov_moffs32_EAX",
    "Mov_moffs64_RAX",
  ], move.mov),
  simple("MOVZX", [
    ...sized("Movzx_r{}_rm8", WORDS),
    ...sized("Movzx_r{}_rm16", WORDS),
  ], move.mov),
  simple("MOVSX", [
    ...sized("Movsx_r{}_rm8", WORDS),
    ...sized("Movsx_r{}_rm16", WORDS),
  ], move.movsx),
  simple("MOVSXD", [
    "Movsxd_r16_rm16",
    "Movsxd_r32_rm32",
    "Movsxd_r64_rm32",
  ], move.movsx),
  {
    name: "XCHG",
    codes: [
      ...sized("Xchg_rm{}_r{}"),
      "Xchg_r16_AX",
      "Xchg_r32_EAX",
      "Xchg_r64_RAX",
    ],
    emit: move.xchg,
    lockable: true,
    manual: "SDM 2D XCHG",
  },
  simple("LEA", sized("Lea_r{}_m", WORDS), move.lea),
  ...CONDITIONS.map((cc, i): Row =>
    simple(
      `CMOV${cc.toUpperCase()}`,
      sized(`Cmov${cc}_r{}_rm{}`, WORDS),
      move.cmov(i),
      "cmov",
    )
  ),
  ...CONDITIONS.map((cc, i): Row =>
    simple(`SET${cc.toUpperCase()}`, [`Set${cc}_rm8`], move.set(i))
  ),
  simple("BSWAP", sized("Bswap_r{}", WORDS), move.bswap),
  simple(
    "MOVBE",
    [
      ...sized("Movbe_r{}_m{}", WORDS),
      ...sized("Movbe_m{}_r{}", WORDS),
    ],
    move.movbe,
    "movbe",
  ),
  simple("MOVNTI", sized("Movnti_m{}_r{}", WIDE), move.mov, "sse2"),
  simple("XLAT", ["Xlat_m8"], move.xlat),
  simple("CBW", ["Cbw"], move.extendAccumulator(16)),
  simple("CWDE", ["Cwde"], move.extendAccumulator(32)),
  simple("CDQE", ["Cdqe"], move.extendAccumulator(64)),
  simple("CWD", ["Cwd"], move.signToRdx(16)),
  simple("CDQ", ["Cdq"], move.signToRdx(32)),
  simple("CQO", ["Cqo"], move.signToRdx(64)),
  simple("LAHF", ["Lahf"], move.lahf),
  simple("SAHF", ["Sahf"], move.sahf),
  simple("CLC", ["Clc"], move.clc),
  simple("STC", ["Stc"], move.stc),
  simple("CMC", ["Cmc"], move.cmc),
  {
    name: "CLD",
    codes: ["Cld"],
    call: procedures.cld,
    quick: quick.setDirection(false),
    manual: "SDM 2A CLD",
  },
  {
    name: "STD",
    codes: ["Std"],
    call: procedures.std,
    quick: quick.setDirection(true),
    manual: "SDM 2B STD",
  },
  { ...simple("SALC", ["Salc"], move.salc), legacyOnly: true },
  simple("PUSH", [
    ...sized("Push_r{}", WORDS),
    ...sized("Push_rm{}", WORDS),
    "Push_imm16",
    "Pushd_imm32",
    "Pushq_imm32",
    "Pushw_imm8",
    "Pushd_imm8",
    "Pushq_imm8",
  ], stack.push),
  simple("POP", [
    ...sized("Pop_r{}", WORDS),
    ...sized("Pop_rm{}", WORDS),
  ], stack.pop),
  { ...simple("PUSHA", ["Pushaw"], stack.pusha(16)), legacyOnly: true },
  { ...simple("PUSHAD", ["Pushad"], stack.pusha(32)), legacyOnly: true },
  { ...simple("POPA", ["Popaw"], stack.popa(16)), legacyOnly: true },
  { ...simple("POPAD", ["Popad"], stack.popa(32)), legacyOnly: true },
  {
    name: "ENTER",
    codes: ["Enterw_imm16_imm8", "Enterd_imm16_imm8", "Enterq_imm16_imm8"],
    call: procedures.enter,
    manual: "SDM 2A ENTER",
  },
  { ...simple("LEAVE", ["Leavew"], stack.leave(16)), variant: "16" },
  {
    ...simple("LEAVE", ["Leaved"], stack.leave(32)),
    variant: "32",
    legacyOnly: true,
  },
  { ...simple("LEAVE", ["Leaveq"], stack.leave(64)), variant: "64" },
  {
    name: "CMPXCHG16B",
    codes: ["Cmpxchg16b_m128"],
    call: procedures.cmpxchg16b,
    quick: quick.cmpxchg16b,
    lockable: true,
    longOnly: true,
    feature: "cx16",
    manual: "SDM 2A CMPXCHG8B/CMPXCHG16B",
  },
  simple("NOP", [
    "Nopw",
    "Nopd",
    "Nopq",
    ...sized("Nop_rm{}", WORDS),
    ...RESERVED_NOPS.flatMap((op) =>
      sized(`Reservednop_rm{}_r{}_0F${op}`, WORDS)
    ),
  ], move.nop),
  simple("ENDBR", ["Endbr64", "Endbr32"], move.nop),
  // Without CET, RDSSP is a no-operation (SDM vol. 1 §17.2.3).
  simple("RDSSP", ["Rdsspd_r32", "Rdsspq_r64"], move.nop),
  simple("PREFETCH", [
    "Prefetch_m8",
    "Prefetchw_m8",
    "Prefetchwt1_m8",
    "Prefetchnta_m8",
    "Prefetcht0_m8",
    "Prefetcht1_m8",
    "Prefetcht2_m8",
    ...[3, 4, 5, 6, 7].map((n) => `Prefetchreserved${n}_m8`),
    "Prefetchit0_m8",
    "Prefetchit1_m8",
    "Cldemote_m8",
  ], move.nop),
  {
    name: "PAUSE",
    codes: ["Pause"],
    call: procedures.pause,
    quick: quick.pause,
    yields: true,
    intercept: Intercept.Pause,
    manual: "SDM 2B PAUSE",
  },
  simple("LFENCE", fences("Lfence", "E", 9), move.nop, "sse2"),
  simple("MFENCE", fences("Mfence", "F", 1, 7), move.nop, "sse2"),
  simple("SFENCE", fences("Sfence", "F", 9), move.nop, "sse"),
  simple("CLFLUSH", ["Clflush_m8"], move.cacheLine, "clflush"),
  simple("CLFLUSHOPT", ["Clflushopt_m8"], move.cacheLine, "clflushopt"),
  simple("CLWB", ["Clwb_m8"], move.cacheLine, "clwb"),
  {
    name: "UD",
    codes: [
      "Ud2",
      "Ud0",
      ...sized("Ud0_r{}_rm{}", WORDS),
      ...sized("Ud1_r{}_rm{}", WORDS),
    ],
    emit: move.undefinedOpcode,
    manual: "SDM 2B UD",
  },
];

/** A fence and its undocumented ModR/M aliases: `digit` then `from` to `to`. */
function fences(
  name: string,
  digit: string,
  from: number,
  to = 15,
): string[] {
  const codes = [name];
  for (let i = from; i <= to; i++) {
    codes.push(`${name}_${digit}${i.toString(16).toUpperCase()}`);
  }
  return codes;
}
