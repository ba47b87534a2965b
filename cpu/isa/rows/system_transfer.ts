/**
 * Rows of far transfers, interrupts, fast system calls and segment registers
 * (SDM vol. 1 §7.3.8, §7.3.15; SDM 3A ch. 5–7). All are procedures.
 */
import { Intercept } from "../../arch/intercepts.ts";
import { Seg } from "../../layout.ts";
import { mov } from "../../semantics/move.ts";
import * as far from "../../semantics/system/far.ts";
import * as fast from "../../semantics/system/fast_call.ts";
import * as interrupts from "../../semantics/system/interrupts.ts";
import * as quick from "../../semantics/quick.ts";
import { iret } from "../../semantics/system/iret.ts";
import * as segments from "../../semantics/system/segments.ts";
import type { Row } from "../row.ts";
import { WORDS } from "./names.ts";

const SUFFIX = { 16: "w", 32: "d", 64: "q" } as const;
/** iced's size pattern `r16_m1616`, `r32_m1632`, `r64_m1664`. */
const far16to64 = (name: string): string[] =>
  WORDS.map((n) => `${name}_r${n}_m16${n}`);

const LEGACY_SEGMENTS = ["ES", "CS", "SS", "DS"] as const;
const NEW_SEGMENTS = ["FS", "GS"] as const;

function pushRow(bits: 16 | 32 | 64): Row {
  const names = [...bits === 64 ? [] : LEGACY_SEGMENTS, ...NEW_SEGMENTS];
  return {
    name: "PUSH",
    variant: `segment ${bits}`,
    codes: names.map((s) => `Push${SUFFIX[bits]}_${s}`),
    call: segments.pushSegment(bits),
    manual: "SDM 2B PUSH",
  };
}

function popRow(bits: 16 | 32 | 64): Row {
  const legacy = LEGACY_SEGMENTS.filter((s) => s !== "CS");
  const names = [...bits === 64 ? [] : legacy, ...NEW_SEGMENTS];
  return {
    name: "POP",
    variant: `segment ${bits}`,
    codes: names.map((s) => `Pop${SUFFIX[bits]}_${s}`),
    call: segments.popSegment(bits),
    manual: "SDM 2B POP",
  };
}

function farPointer(name: string, segment: number, codes: string[]): Row {
  return {
    name,
    codes,
    call: segments.loadFarPointer(segment),
    manual: "SDM 2A LDS/LES/LFS/LGS/LSS",
  };
}

/** See the file header. */
export const SYSTEM_TRANSFER_ROWS: readonly Row[] = [
  {
    name: "JMP",
    variant: "far",
    codes: [
      "Jmp_ptr1616",
      "Jmp_ptr1632",
      ...WORDS.map((n) => `Jmp_m16${n}`),
    ],
    call: far.jmpFar,
    manual: "SDM 2A JMP",
  },
  {
    name: "CALL",
    variant: "far",
    codes: [
      "Call_ptr1616",
      "Call_ptr1632",
      ...WORDS.map((n) => `Call_m16${n}`),
    ],
    call: far.callFar,
    manual: "SDM 2A CALL",
  },
  {
    name: "RET",
    variant: "far",
    codes: WORDS.flatMap((
      n,
    ) => [`Retf${SUFFIX[n]}`, `Retf${SUFFIX[n]}_imm16`]),
    call: far.retFar,
    manual: "SDM 2B RET",
  },
  {
    name: "IRET",
    codes: WORDS.map((n) => `Iret${SUFFIX[n]}`),
    call: iret,
    quick: quick.iret,
    endsBlock: true,
    intercept: Intercept.Iret,
    manual: "SDM 2A IRET/IRETD/IRETQ",
  },
  {
    name: "INT",
    codes: ["Int_imm8"],
    call: interrupts.int,
    intercept: Intercept.SoftwareInterrupt,
    manual: "SDM 2A INT n",
  },
  {
    name: "INT3",
    codes: ["Int3"],
    call: interrupts.int3,
    manual: "SDM 2A INT3",
  },
  {
    name: "INTO",
    codes: ["Into"],
    call: interrupts.into,
    legacyOnly: true,
    manual: "SDM 2A INTO",
  },
  {
    name: "INT1",
    codes: ["Int1"],
    call: interrupts.int1,
    intercept: Intercept.Icebp,
    manual: "SDM 2A INT1",
  },
  {
    name: "SYSCALL",
    codes: ["Syscall"],
    call: fast.syscall,
    feature: "syscall",
    finalTrapFlag: true,
    manual: "SDM 2B SYSCALL; APM 3 SYSCALL",
  },
  {
    name: "SYSRET",
    codes: ["Sysretd"],
    variant: "32",
    call: fast.sysret(32),
    feature: "syscall",
    finalTrapFlag: true,
    manual: "SDM 2B SYSRET; APM 3 SYSRET",
  },
  {
    name: "SYSRET",
    codes: ["Sysretq"],
    variant: "64",
    call: fast.sysret(64),
    feature: "syscall",
    finalTrapFlag: true,
    manual: "SDM 2B SYSRET; APM 3 SYSRET",
  },
  {
    name: "SYSENTER",
    codes: ["Sysenter"],
    call: fast.sysenter,
    feature: "sep",
    manual: "SDM 2B SYSENTER",
  },
  {
    name: "SYSEXIT",
    codes: ["Sysexitd"],
    variant: "32",
    call: fast.sysexit(32),
    feature: "sep",
    manual: "SDM 2B SYSEXIT",
  },
  {
    name: "SYSEXIT",
    codes: ["Sysexitq"],
    variant: "64",
    call: fast.sysexit(64),
    feature: "sep",
    manual: "SDM 2B SYSEXIT",
  },
  {
    name: "MOV",
    variant: "from segment",
    codes: ["Mov_rm16_Sreg", "Mov_r32m16_Sreg", "Mov_r64m16_Sreg"],
    emit: mov,
    manual: "SDM 2B MOV",
  },
  {
    name: "MOV",
    variant: "to segment",
    codes: ["Mov_Sreg_rm16", "Mov_Sreg_r32m16", "Mov_Sreg_r64m16"],
    call: segments.movToSegment,
    manual: "SDM 2B MOV",
  },
  ...WORDS.map((n) => pushRow(n)),
  ...WORDS.map((n) => popRow(n)),
  farPointer("LES", Seg.ES, ["Les_r16_m1616", "Les_r32_m1632"]),
  farPointer("LDS", Seg.DS, ["Lds_r16_m1616", "Lds_r32_m1632"]),
  farPointer("LSS", Seg.SS, far16to64("Lss")),
  farPointer("LFS", Seg.FS, far16to64("Lfs")),
  farPointer("LGS", Seg.GS, far16to64("Lgs")),
  {
    name: "SWAPGS",
    codes: ["Swapgs"],
    call: segments.swapgs,
    privileged: true,
    longOnly: true,
    manual: "SDM 2B SWAPGS",
  },
  ...(["FS", "GS"] as const).flatMap((name): Row[] => {
    const lower = name.toLowerCase();
    return [
      {
        name: `RD${name}BASE`,
        codes: [`Rd${lower}base_r32`, `Rd${lower}base_r64`],
        call: segments.readBase(Seg[name]),
        feature: "fsgsbase",
        longOnly: true,
        manual: `SDM 2B RD${name}BASE`,
      },
      {
        name: `WR${name}BASE`,
        codes: [`Wr${lower}base_r32`, `Wr${lower}base_r64`],
        call: segments.writeBase(Seg[name]),
        feature: "fsgsbase",
        longOnly: true,
        manual: `SDM 2B WR${name}BASE`,
      },
    ];
  }),
];
