/**
 * Does a form of the op-code tables accept the operands as written? Includes
 * the customary short forms (implied ST0, string operands, `imul r, imm` …).
 * Invariant: a match only says that kinds and sizes agree; whether the values
 * can be encoded is the encoder's judgement.
 */
import { MemorySize, Register } from "iced-x86";
import type { Form, KindInfo } from "./forms.ts";
import type { MemoryOperandText, Operand } from "./operands.ts";
import { generalBits, registerClass } from "./registers.ts";
import type { Bits } from "./types.ts";

/** An operand with its expressions evaluated. */
export type Evaluated =
  | { readonly k: "reg"; readonly reg: Register }
  | {
    readonly k: "imm";
    readonly value: bigint;
    readonly size: number | undefined;
    readonly distance: "short" | "near" | undefined;
  }
  | {
    readonly k: "far";
    readonly selector: bigint;
    readonly offset: bigint;
    readonly size: number | undefined;
  }
  | {
    readonly k: "mem";
    readonly text: MemoryOperandText;
    readonly displacement: bigint;
  }
  /** A string instruction's own memory operand, not written. */
  | { readonly k: "implied" };

/** An instruction whose operands have been evaluated. */
export interface Request {
  readonly mnemonic: string;
  readonly operands: readonly Evaluated[];
  readonly bits: Bits;
  /** From o16/o32/o64 and a16/a32/a64; 0: none written. */
  readonly operandBits: 0 | 16 | 32 | 64;
  readonly addressBits: 0 | 16 | 32 | 64;
  /** `to` was written in front of the operand (x87). */
  readonly to: boolean;
}

/** How the operands fill a form. */
export interface Match {
  readonly form: Form;
  /** One operand per kind of the form. */
  readonly operands: readonly Evaluated[];
  /** Address size of implicit memory (string forms, LOOP …). */
  readonly addressBits: 16 | 32 | 64;
  /** Raw 66 / 67 for forms to which the sizes mean nothing. */
  readonly raw66: boolean;
  readonly raw67: boolean;
}

const X87_ONE_BEHIND = new Set(["fxch", "fcom", "fcomp", "fucom", "fucomp"]);
const REGISTERS_FOR_SHOW = new Set([
  "monitor",
  "mwait",
  "monitorx",
  "mwaitx",
  "vmrun",
  "vmload",
  "vmsave",
  "invlpga",
  "clzero",
]);
const NAMED_COUNTER = /^j[er]?cxz$/;
const IMPLIED: Evaluated = { k: "implied" };

/** Matches one form, or undefined. */
export function matchForm(form: Form, request: Request): Match | undefined {
  const { bits } = request;
  let addressBits = request.addressBits;
  let written = request.operands;
  const mode = bits === 16 ? 1 : bits === 32 ? 2 : 4;
  if ((form.modes & mode) === 0) return undefined;

  if (written.length > 0) {
    const shown = dropShownRegisters(form, request);
    if (shown !== undefined) {
      written = shown.operands;
      if (shown.addressBits !== 0) addressBits = shown.addressBits;
    }
  }
  const operands = arrange(form, written, request);
  if (operands === undefined || isNopInDisguise(form, request)) {
    return undefined;
  }
  for (let k = 0; k < operands.length; k++) {
    if (!accepts(form, form.kinds[k], operands[k], request)) return undefined;
  }

  let raw66 = false;
  let raw67 = false;
  if (request.operandBits !== 0 && form.operandSize !== request.operandBits) {
    if (form.operandSize !== 0 || request.operandBits === 64) return undefined;
    raw66 = request.operandBits !== (bits === 16 ? 16 : 32);
  }
  const memory = operands.find((o) => o.k === "mem");
  if (memory?.k === "mem" && addressBits === 0) {
    addressBits = memory.text.addressBits as 0 | 16 | 32 | 64;
    // An absolute address above 64 KiB needs 32-bit addressing.
    if (addressBits === 0 && bits === 16 && !fits(memory.displacement, 16)) {
      addressBits = 32;
    }
  }
  let address = addressBits === 0 ? bits : addressBits;
  if (NAMED_COUNTER.test(request.mnemonic)) {
    // JCXZ, JECXZ and JRCXZ say the address size themselves.
  } else if (form.addressSize !== 0) {
    // UMONITOR, MOVDIR64B and ENQCMD: the register tells the address size.
    if (addressBits === 0 && form.kinds.some((k) => k.regClass !== undefined)) {
      address = form.addressSize as Bits;
    }
    if (form.addressSize !== address) return undefined;
  } else if (memory === undefined && !form.isString) {
    raw67 = address !== bits;
  }
  return { form, operands, addressBits: address, raw66, raw67 };
}

/**
 * Removes registers that are written only for the reader's sake: LOOP's
 * counter, the XMM0 of BLENDV, the registers of MONITOR or VMRUN.
 */
function dropShownRegisters(
  form: Form,
  request: Request,
):
  | {
    operands: readonly Evaluated[];
    addressBits: 0 | 16 | 32 | 64;
  }
  | undefined {
  const { operands, mnemonic } = request;
  const last = operands[operands.length - 1];
  if (last.k !== "reg") return undefined;
  if (mnemonic.startsWith("loop") && operands.length === 2) {
    const isCounter = last.reg === Register.CX || last.reg === Register.ECX ||
      last.reg === Register.RCX;
    if (!isCounter) return undefined;
    return {
      operands: operands.slice(0, 1),
      addressBits: generalBits(last.reg) as 16 | 32 | 64,
    };
  }
  if (
    last.reg === Register.XMM0 && operands.length === form.kinds.length + 1 &&
    /<xmm0>/i.test(form.text)
  ) return { operands: operands.slice(0, -1), addressBits: 0 };
  if (form.kinds.length === 0 && REGISTERS_FOR_SHOW.has(mnemonic)) {
    const expected = [
      [Register.AX, Register.EAX, Register.RAX],
      mnemonic === "monitor" || mnemonic === "monitorx" ||
        mnemonic.startsWith("mwait") || mnemonic === "invlpga"
        ? [Register.ECX, Register.RCX]
        : [],
      mnemonic.startsWith("monitor") ? [Register.EDX, Register.RDX] : [],
    ];
    const fits = operands.every((o, i) =>
      o.k === "reg" && (expected[i] ?? []).includes(o.reg)
    );
    if (!fits) return undefined;
    const first = operands[0];
    return {
      operands: [],
      addressBits: form.addressSize !== 0 && first.k === "reg"
        ? generalBits(first.reg) as 16 | 32 | 64
        : 0,
    };
  }
  return undefined;
}

/** Puts the written operands onto the form's kinds, filling what's implied. */
function arrange(
  form: Form,
  written: readonly Evaluated[],
  request: Request,
): readonly Evaluated[] | undefined {
  const { kinds } = form;
  const { mnemonic } = request;
  const isStack = kinds.some((k) => k.name === "sti_opcode");
  if (written.length === kinds.length) {
    const [a, b] = written;
    // TEST and XCHG are symmetric; XCHG of registers is shown reg, r/m.
    const swaps = written.length === 2 && kinds[0].mem && a.k === "reg" &&
      (mnemonic === "test" ? b.k === "mem" : mnemonic === "xchg");
    return swaps ? [b, a] : written;
  }
  if (form.isString) {
    const open = kinds.filter((k) => k.string === undefined);
    if (written.length === 0 && open.every((k) => k.fixed !== undefined)) {
      return kinds.map((k) =>
        k.string !== undefined ? IMPLIED : { k: "reg", reg: k.fixed! }
      );
    }
    let next = 0;
    if (written.length === open.length && written[0].k !== "mem") {
      return kinds.map((k) =>
        k.string !== undefined ? IMPLIED : written[next++]
      );
    }
    // `lodsb byte ptr [rsi]`: the memory alone, for the reader.
    if (kinds.filter((k) => k.fixed === undefined).length !== written.length) {
      return undefined;
    }
    return kinds.map((k) =>
      k.fixed === undefined ? written[next++] : { k: "reg", reg: k.fixed }
    );
  }
  if (isStack && written.length <= 1) {
    const other: Evaluated = { k: "reg", reg: Register.ST0 };
    const pops = mnemonic.endsWith("p");
    if (written.length === 0) {
      const behind: Evaluated = { k: "reg", reg: Register.ST0 + 1 };
      if (kinds.length === 1) {
        return X87_ONE_BEHIND.has(mnemonic) ? [behind] : undefined;
      }
      if (kinds[0].name === "sti_opcode") {
        return pops && !X87_ONE_BEHIND.has(mnemonic)
          ? [behind, other]
          : undefined;
      }
      return X87_ONE_BEHIND.has(mnemonic) ? [other, behind] : undefined;
    }
    if (kinds.length !== 2) return undefined;
    if (kinds[0].name !== "sti_opcode") {
      return request.to ? undefined : [other, written[0]];
    }
    return request.to || pops ? [written[0], other] : undefined;
  }
  if (
    mnemonic === "imul" && kinds.length === 3 && written.length === 2 &&
    written[0].k === "reg" && written[1].k === "imm"
  ) return [written[0], written[0], written[1]];
  if (
    (mnemonic === "aam" || mnemonic === "aad") && written.length === 0 &&
    kinds.length === 1
  ) return [{ k: "imm", value: 10n, size: undefined, distance: undefined }];
  return undefined;
}

/** 90 is NOP; in 64-bit mode XCHG EAX, EAX clears the upper half. */
function isNopInDisguise(form: Form, request: Request): boolean {
  const accumulator = request.bits === 16 ? Register.AX : Register.EAX;
  return request.mnemonic === "xchg" && form.kinds[1]?.fixed === accumulator &&
    request.operands.every((o) => o.k === "reg" && o.reg === accumulator);
}

function accepts(
  form: Form,
  kind: KindInfo,
  operand: Evaluated,
  request: Request,
): boolean {
  switch (operand.k) {
    case "implied":
      return kind.string !== undefined;
    case "reg":
      if (kind.fixed !== undefined) return kind.fixed === operand.reg;
      if (isSelector(form, kind, operand.reg)) return true;
      return kind.regClass !== undefined &&
        registerClass(operand.reg) === kind.regClass;
    case "mem":
      return acceptsMemory(form, kind, operand.text, request);
    case "far":
      if (kind.farBits === undefined) return false;
      return kind.farBits ===
        (operand.size === undefined
          ? request.operandBits || (request.bits === 16 ? 16 : 32)
          : operand.size * 8);
    case "imm":
      if (kind.branchBits !== undefined) {
        return acceptsBranch(form, kind, operand, request);
      }
      return operand.distance === undefined &&
        acceptsImmediate(kind, operand.value, operand.size);
  }
}

/**
 * Instructions that read a 16-bit selector have forms of every operand size;
 * the disassembler shows all with the 16-bit register.
 */
function isSelector(form: Form, kind: KindInfo, reg: Register): boolean {
  return form.memorySize === MemorySize.UInt16 &&
    (kind.regClass === "r32" || kind.regClass === "r64") &&
    registerClass(reg) === "r16" &&
    /^(lldt|ltr|verr|verw|lmsw|lkgs|arpl) /i.test(form.text);
}

function acceptsBranch(
  form: Form,
  kind: KindInfo,
  operand: Evaluated & { k: "imm" },
  request: Request,
): boolean {
  if (operand.distance === "short" && kind.branchBytes !== 1) return false;
  if (operand.distance === "near" && kind.branchBytes === 1) return false;
  // XBEGIN and JMPE go by the operand size.
  if (kind.branchBits === 0) {
    return operand.size === undefined || operand.size * 8 === form.operandSize;
  }
  const bits = request.operandBits ||
    (operand.size === undefined ? request.bits : operand.size * 8);
  return kind.branchBits === bits;
}

function acceptsImmediate(
  kind: KindInfo,
  value: bigint,
  size: number | undefined,
): boolean {
  if (kind.immBits === undefined) return false;
  const { immBits, extendBits = 0 } = kind;
  if (
    size !== undefined && size * 8 !== immBits &&
    (extendBits === 0 || size * 8 !== extendBits)
  ) return false;
  if (kind.name === "imm8_const_1") return value === 1n;
  if (kind.name === "imm4_m2z") return value >= 0n && value <= 15n;
  const width = extendBits === 0 ? immBits : extendBits;
  if (!fits(value, width)) return false;
  if (extendBits === 0) return true;
  const low = BigInt.asIntN(extendBits, value);
  return low === BigInt.asIntN(immBits, low);
}

/** Is `value` a signed or an unsigned number of `bits` bits? */
export function fits(value: bigint, bits: number): boolean {
  return value >= -(1n << BigInt(bits - 1)) && value < (1n << BigInt(bits));
}

/** `dword far` counts the offset; `fword` and `tword` the whole pointer. */
const POWERS: ReadonlySet<number> = new Set([2, 4, 8]);

const FAR_POINTERS: ReadonlyMap<MemorySize, number> = new Map([
  [MemorySize.SegPtr16, 2],
  [MemorySize.SegPtr32, 4],
  [MemorySize.SegPtr64, 8],
]);

function acceptsMemory(
  form: Form,
  kind: KindInfo,
  text: MemoryOperandText,
  request: Request,
): boolean {
  if (kind.string !== undefined) return isStringAddress(kind, text);
  if (!kind.mem) return false;
  if (kind.name === "mem_offs") {
    if (
      text.base !== Register.None || text.index !== Register.None ||
      text.relative !== undefined
    ) return false;
  } else if (request.bits === 64 && wantsOffset64(text)) {
    return false;
  }
  const isVector = text.index !== Register.None &&
    generalBits(text.index) === 0;
  if (
    kind.vsib === undefined
      ? isVector
      : !isVector || registerClass(text.index) !== kind.vsib
  ) return false;
  const far = FAR_POINTERS.get(form.memorySize);
  const isTransfer = request.mnemonic === "call" || request.mnemonic === "jmp";
  if (far !== undefined && (isTransfer || text.far)) {
    if (text.far) {
      return text.size === undefined || text.size === far ||
        (text.size === form.memoryBytes && !POWERS.has(text.size));
    }
    return text.size !== undefined && text.size !== 8 &&
      text.size === form.memoryBytes && text.size > 4;
  }
  if (text.far) return false;
  return text.size === undefined || form.memoryBytes === 0 ||
    text.size === form.memoryBytes;
}

/** `[qword 0x…]` in 64-bit mode: only MOV's 64-bit offset form has it. */
function wantsOffset64(text: MemoryOperandText): boolean {
  return text.base === Register.None && text.index === Register.None &&
    text.relative === undefined && text.addressBits === 64;
}

function isStringAddress(kind: KindInfo, text: MemoryOperandText): boolean {
  if (text.index !== Register.None || text.displacement !== undefined) {
    return false;
  }
  const offset = { si: 6, di: 7, esdi: 7, bx: 3 }[kind.string!];
  return [Register.AX, Register.EAX, Register.RAX].some((first) =>
    text.base === first + offset
  );
}

/** How many of the written operands a form accepts where they stand. */
export function closeness(form: Form, request: Request): number {
  const { operands } = request;
  let score = form.kinds.length === operands.length ? 1 : 0;
  for (let k = 0; k < Math.min(operands.length, form.kinds.length); k++) {
    if (accepts(form, form.kinds[k], operands[k], request)) {
      score += k === 0 ? 3 : 2;
    }
  }
  return score;
}

/** Describes an operand for an error message. */
export function describeOperand(operand: Operand): string {
  switch (operand.k) {
    case "reg": {
      const name = Register[operand.reg].toLowerCase();
      const cls = registerClass(operand.reg);
      return generalBits(operand.reg) > 0
        ? `${generalBits(operand.reg)}-bit register ${name}`
        : cls === "seg"
        ? `segment register ${name}`
        : `register ${name}`;
    }
    case "far":
      return "far pointer";
    case "imm":
      return "immediate";
    case "mem":
      return operand.size === undefined
        ? "memory of no stated size"
        : `${operand.size * 8}-bit memory`;
  }
}
