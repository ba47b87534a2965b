/**
 * Rows of the x87 control instructions, EMMS, FXSAVE/FXRSTOR and the MXCSR pair
 * (SDM vol. 1 §8.3.8, §9.4.8, §10.5). Data instructions: fpu_data.ts.
 */
import type { Feature } from "../../arch/cpuid.ts";
import * as fpu from "../../semantics/fpu_control.ts";
import * as image from "../../semantics/fpu_image.ts";
import * as fx from "../../semantics/fx_image.ts";
import type { CallFunction, Row } from "../row.ts";

function fpuRow(
  name: string,
  codes: readonly string[],
  call: CallFunction,
  feature: Feature = "fpu",
  variant?: string,
): Row {
  return { name, variant, codes, call, feature, manual: `SDM 2A ${name}` };
}

/** See the file header. */
export const FPU_CONTROL_ROWS: readonly Row[] = [
  fpuRow("FNINIT", ["Fninit"], fpu.fninit),
  fpuRow("FNCLEX", ["Fnclex"], fpu.fnclex),
  fpuRow("FNOP", ["Fnop"], fpu.fnop),
  fpuRow("FNENI", ["Fneni", "Fndisi", "Fnsetpm"], fpu.fnop),
  fpuRow("WAIT", ["Wait"], fpu.fwait),
  fpuRow("EMMS", ["Emms"], fpu.emms, "mmx"),
  fpuRow("FNSTCW", ["Fnstcw_m2byte"], fpu.fnstcw),
  fpuRow("FLDCW", ["Fldcw_m2byte"], fpu.fldcw),
  fpuRow("FNSTSW", ["Fnstsw_m2byte", "Fnstsw_AX"], fpu.fnstsw),
  fpuRow("FINCSTP", ["Fincstp"], fpu.moveTop(1)),
  fpuRow("FDECSTP", ["Fdecstp"], fpu.moveTop(-1)),
  fpuRow("FFREE", ["Ffree_sti"], fpu.ffree),
  fpuRow("FNSTENV", ["Fnstenv_m14byte"], image.fnstenv(false), "fpu", "16"),
  fpuRow("FNSTENV", ["Fnstenv_m28byte"], image.fnstenv(true), "fpu", "32"),
  fpuRow("FLDENV", ["Fldenv_m14byte"], image.fldenv(false), "fpu", "16"),
  fpuRow("FLDENV", ["Fldenv_m28byte"], image.fldenv(true), "fpu", "32"),
  fpuRow("FNSAVE", ["Fnsave_m94byte"], image.fnsave(false), "fpu", "16"),
  fpuRow("FNSAVE", ["Fnsave_m108byte"], image.fnsave(true), "fpu", "32"),
  fpuRow("FRSTOR", ["Frstor_m94byte"], image.frstor(false), "fpu", "16"),
  fpuRow("FRSTOR", ["Frstor_m108byte"], image.frstor(true), "fpu", "32"),
  fpuRow("FXSAVE", ["Fxsave_m512byte"], fx.fxsave(false), "fxsr"),
  fpuRow("FXSAVE64", ["Fxsave64_m512byte"], fx.fxsave(true), "fxsr"),
  fpuRow("FXRSTOR", ["Fxrstor_m512byte"], fx.fxrstor(false), "fxsr"),
  fpuRow("FXRSTOR64", ["Fxrstor64_m512byte"], fx.fxrstor(true), "fxsr"),
  fpuRow("LDMXCSR", ["Ldmxcsr_m32"], fx.ldmxcsr, "sse"),
  fpuRow("STMXCSR", ["Stmxcsr_m32"], fx.stmxcsr, "sse"),
];
