/**
 * Rows of x87 data instructions (SDM vol. 1 §8.3.3–8.3.7): transfer, arithmetic,
 * comparison, transcendental functions. Control instructions: fpu_control.ts.
 */
import * as arithmetic from "../../semantics/fpu_arithmetic.ts";
import type {
  MemoryKind,
  OperationName,
} from "../../semantics/fpu_arithmetic.ts";
import * as transcendental from "../../semantics/fpu_transcendental.ts";
import * as transfer from "../../semantics/fpu_transfer.ts";
import { MOVE_FLAGS } from "../../semantics/fpu_transfer.ts";
import type { CallFunction, Row } from "../row.ts";

function row(
  name: string,
  codes: readonly string[],
  call: CallFunction,
  variant?: string,
): Row {
  return {
    name,
    variant,
    codes,
    call,
    feature: "fpu",
    manual: `SDM 2A ${name}`,
  };
}

/** `FADD` as iced spells it. */
const spelled = (name: string): string => name[0] + name.slice(1).toLowerCase();

const REALS = [32, 64] as const;
const INTEGERS = [16, 32] as const;
const MEMORY: readonly MemoryKind[] = ["m32fp", "m64fp"];
const OPERATIONS: readonly OperationName[] = [
  "ADD",
  "MUL",
  "SUB",
  "SUBR",
  "DIV",
  "DIVR",
];

const ARITHMETIC = OPERATIONS.flatMap((name): Row[] => {
  const f = spelled(`F${name}`), fi = spelled(`FI${name}`);
  const { withMemory, withRegister } = arithmetic;
  return [
    ...MEMORY.map((kind) =>
      row(`F${name}`, [`${f}_${kind}`], withMemory(name, kind), kind)
    ),
    ...INTEGERS.map((bits) =>
      row(
        `FI${name}`,
        [`${fi}_m${bits}int`],
        withMemory(name, `m${bits}int`),
        `m${bits}`,
      )
    ),
    row(`F${name}`, [`${f}_st0_sti`], withRegister(name, false, false), "st0"),
    row(`F${name}`, [`${f}_sti_st0`], withRegister(name, true, false), "sti"),
    row(`F${name}P`, [`${f}p_sti_st0`], withRegister(name, true, true)),
  ];
});

const { fcom, fcomi } = arithmetic;
const COMPARISON: readonly Row[] = [
  ...(["FCOM", "FCOMP"] as const).flatMap((name, pops): Row[] => [
    ...MEMORY.map((kind) =>
      row(name, [`${spelled(name)}_${kind}`], fcom(kind, pops, false), kind)
    ),
    ...INTEGERS.map((bits) => {
      const integer = name.replace("F", "FI");
      const code = `${spelled(integer)}_m${bits}int`;
      return row(integer, [code], fcom(`m${bits}int`, pops, false), `m${bits}`);
    }),
  ]),
  row(
    "FCOM",
    ["Fcom_st0_sti", "Fcom_st0_sti_DCD0"],
    fcom("register", 0, false),
    "st0",
  ),
  row(
    "FCOMP",
    ["Fcomp_st0_sti", "Fcomp_st0_sti_DCD8", "Fcomp_st0_sti_DED0"],
    fcom("register", 1, false),
    "st0",
  ),
  row("FCOMPP", ["Fcompp"], fcom("register", 2, false)),
  row("FUCOM", ["Fucom_st0_sti"], fcom("register", 0, true)),
  row("FUCOMP", ["Fucomp_st0_sti"], fcom("register", 1, true)),
  row("FUCOMPP", ["Fucompp"], fcom("register", 2, true)),
  row("FTST", ["Ftst"], fcom("zero", 0, false)),
  row("FCOMI", ["Fcomi_st0_sti"], fcomi(false, false)),
  row("FCOMIP", ["Fcomip_st0_sti"], fcomi(true, false)),
  row("FUCOMI", ["Fucomi_st0_sti"], fcomi(false, true)),
  row("FUCOMIP", ["Fucomip_st0_sti"], fcomi(true, true)),
  row("FXAM", ["Fxam"], arithmetic.fxam),
];

const { fist, fstReal, fstRegister } = transfer;
const TRANSFER: readonly Row[] = [
  ...REALS.flatMap((bits): Row[] => [
    row("FLD", [`Fld_m${bits}fp`], transfer.fldReal(bits), `m${bits}`),
    row("FST", [`Fst_m${bits}fp`], fstReal(bits, false), `m${bits}`),
    row("FSTP", [`Fstp_m${bits}fp`], fstReal(bits, true), `m${bits}`),
  ]),
  row("FLD", ["Fld_m80fp"], transfer.fldExtended, "m80"),
  row("FSTP", ["Fstp_m80fp"], transfer.fstpExtended, "m80"),
  row("FLD", ["Fld_sti"], transfer.fldRegister, "sti"),
  row("FST", ["Fst_sti"], fstRegister(false), "sti"),
  row(
    "FSTP",
    ["Fstp_sti", "Fstp_sti_DFD0", "Fstp_sti_DFD8"],
    fstRegister(true),
    "sti",
  ),
  row("FSTPNCE", ["Fstpnce_sti"], transfer.fstpnce),
  ...([16, 32, 64] as const).flatMap((bits): Row[] => [
    row("FILD", [`Fild_m${bits}int`], transfer.fild(bits), `m${bits}`),
    row("FISTP", [`Fistp_m${bits}int`], fist(bits, true), `m${bits}`),
    row("FISTTP", [`Fisttp_m${bits}int`], fist(bits, true, true), `m${bits}`),
  ]),
  ...INTEGERS.map((bits) =>
    row("FIST", [`Fist_m${bits}int`], fist(bits, false), `m${bits}`)
  ),
  row("FBLD", ["Fbld_m80bcd"], transfer.fbld),
  row("FBSTP", ["Fbstp_m80bcd"], transfer.fbstp),
  row(
    "FXCH",
    ["Fxch_st0_sti", "Fxch_st0_sti_DDC8", "Fxch_st0_sti_DFC8"],
    transfer.fxch,
  ),
  row("FFREEP", ["Ffreep_sti"], transfer.ffreep),
  ...([
    "FLD1",
    "FLDL2T",
    "FLDL2E",
    "FLDPI",
    "FLDLG2",
    "FLDLN2",
    "FLDZ",
  ] as const)
    .map((name) => row(name, [spelled(name)], transfer.constant(name))),
  ...(["B", "E", "BE", "U"] as const).flatMap((condition): Row[] => {
    const flags = MOVE_FLAGS[condition], lower = condition.toLowerCase();
    const { fcmov } = transfer;
    return [
      row(`FCMOV${condition}`, [`Fcmov${lower}_st0_sti`], fcmov(flags, true)),
      row(
        `FCMOVN${condition}`,
        [`Fcmovn${lower}_st0_sti`],
        fcmov(flags, false),
      ),
    ];
  }),
  ...(["FCHS", "FABS"] as const)
    .map((name) => row(name, [spelled(name)], transfer.sign(name))),
];

const { fprem } = arithmetic;
const FUNCTIONS: readonly Row[] = [
  row("FSQRT", ["Fsqrt"], arithmetic.fsqrt),
  row("FRNDINT", ["Frndint"], arithmetic.frndint),
  row("FSCALE", ["Fscale"], arithmetic.fscale),
  row("FXTRACT", ["Fxtract"], arithmetic.fxtract),
  row("FPREM", ["Fprem"], fprem(false)),
  row("FPREM1", ["Fprem1"], fprem(true)),
  row("FSIN", ["Fsin"], transcendental.fsin),
  row("FCOS", ["Fcos"], transcendental.fcos),
  row("FSINCOS", ["Fsincos"], transcendental.fsincos),
  row("FPTAN", ["Fptan"], transcendental.fptan),
  row("FPATAN", ["Fpatan"], transcendental.fpatan),
  row("F2XM1", ["F2xm1"], transcendental.f2xm1),
  row("FYL2X", ["Fyl2x"], transcendental.fyl2x),
  row("FYL2XP1", ["Fyl2xp1"], transcendental.fyl2xp1),
];

/** See the file header. */
export const FPU_DATA_ROWS: readonly Row[] = [
  ...TRANSFER,
  ...ARITHMETIC,
  ...COMPARISON,
  ...FUNCTIONS,
];
