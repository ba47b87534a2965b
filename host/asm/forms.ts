/**
 * The instruction forms of iced-x86's op-code tables, indexed by mode and
 * mnemonic. Every non-EVEX code is a form; nothing is listed here by hand but
 * synonyms. Invariant: operand kinds and sizes come from `OpCodeInfo` alone.
 */
import {
  Code,
  CodeExt,
  CodeSize,
  EncodingKind,
  FormatMnemonicOptions,
  Formatter,
  FormatterSyntax,
  Instruction,
  MandatoryPrefix,
  type MemorySize,
  MemorySizeExt,
  Mnemonic,
  OpCodeOperandKind as Kind,
  Register,
} from "iced-x86";
import type { RegisterClass } from "./registers.ts";
import type { Bits } from "./types.ts";

/** What one operand of a form accepts. */
export interface KindInfo {
  readonly kind: Kind;
  readonly name: string;
  /** Register class accepted, if any. */
  readonly regClass?: RegisterClass;
  /** The one register accepted, if fixed. */
  readonly fixed?: Register;
  /** Is a memory operand accepted? */
  readonly mem: boolean;
  /** Width of the index vector register for VSIB operands. */
  readonly vsib?: RegisterClass;
  /** Bits encoded for an immediate. */
  readonly immBits?: number;
  /** Bits the immediate is sign-extended to (0: it isn't). */
  readonly extendBits?: number;
  /** Near branch: operand size and bytes of displacement. */
  readonly branchBits?: number;
  readonly branchBytes?: number;
  /** Far pointer: bits of the offset. */
  readonly farBits?: number;
  /** Implicit string-instruction memory: which register addresses it. */
  readonly string?: "si" | "di" | "esdi" | "bx";
}

/** One code of the tables. */
export interface Form {
  readonly code: Code;
  /** Operand template as iced prints it, e.g. `ADD r/m8, r8`. */
  readonly text: string;
  readonly kinds: readonly KindInfo[];
  readonly memorySize: MemorySize;
  /** Bytes of the memory operand, 0 when it has no fixed size. */
  readonly memoryBytes: number;
  readonly operandSize: number;
  readonly addressSize: number;
  /** Bit 0: 16-bit mode, bit 1: 32-bit, bit 2: 64-bit. */
  readonly modes: number;
  readonly encoding: EncodingKind;
  /** 64-bit operand size without REX.W. */
  readonly default64: boolean;
  readonly lockable: boolean;
  readonly repable: boolean;
  readonly repneable: boolean;
  readonly bndable: boolean;
  readonly notrackable: boolean;
  /** F3 or F2 belongs to the op-code, so a written REP is no extra prefix. */
  readonly ownsF3: boolean;
  readonly ownsF2: boolean;
  /** Decodes only with a decoder option (obsolete or other vendors'). */
  readonly unusual: boolean;
  readonly isBranchOrStack: boolean;
  /** Implicit operands of string instructions are present. */
  readonly isString: boolean;
}

const modeBit = (bits: Bits): number => bits === 16 ? 1 : bits === 32 ? 2 : 4;

const kindCache = new Map<Kind, KindInfo>();

/** What an operand kind accepts, read off its name in iced's list. */
export function kindInfo(kind: Kind): KindInfo {
  let info = kindCache.get(kind);
  if (info === undefined) {
    info = describeKind(kind, Kind[kind]);
    kindCache.set(kind, info);
  }
  return info;
}

const FIXED: Readonly<Record<string, Register>> = {
  es: Register.ES,
  cs: Register.CS,
  ss: Register.SS,
  ds: Register.DS,
  fs: Register.FS,
  gs: Register.GS,
  al: Register.AL,
  cl: Register.CL,
  ax: Register.AX,
  dx: Register.DX,
  eax: Register.EAX,
  rax: Register.RAX,
  st0: Register.ST0,
};

function describeKind(kind: Kind, name: string): KindInfo {
  const fixed = FIXED[name];
  if (fixed !== undefined) return { kind, name, fixed, mem: false };
  if (name === "sti_opcode") return { kind, name, regClass: "st", mem: false };
  const string = ({
    seg_rSI: "si",
    seg_rDI: "di",
    es_rDI: "esdi",
    seg_rBX_al: "bx",
  } as const)[name];
  if (string !== undefined) return { kind, name, string, mem: false };
  const vsib = /^mem_vsib(?:32|64)([xyz])$/.exec(name);
  if (vsib !== null) {
    return { kind, name, mem: true, vsib: `${vsib[1]}mm` as RegisterClass };
  }
  const far = /^farbr([24])_2$/.exec(name);
  if (far !== null) {
    return { kind, name, mem: false, farBits: Number(far[1]) * 8 };
  }
  const branch = /^br(16|32|64)_([124])$/.exec(name);
  if (branch !== null) {
    return {
      kind,
      name,
      mem: false,
      branchBits: Number(branch[1]),
      branchBytes: Number(branch[2]),
    };
  }
  const displacement = /^(xbegin|brdisp)_([24])$/.exec(name);
  if (displacement !== null) {
    const branchBytes = Number(displacement[2]);
    return { kind, name, mem: false, branchBits: 0, branchBytes };
  }
  const imm = /^imm(4|8|16|32|64)(?:sex(16|32|64))?/.exec(name);
  if (imm !== null) {
    return {
      kind,
      name,
      mem: false,
      immBits: Number(imm[1]),
      extendBits: Number(imm[2] ?? 0),
    };
  }
  const reg = /^(r8|r16|r32|r64|seg|mm|xmm|ymm|zmm|k|bnd|cr|dr|tr|tmm)p?\d?_/
    .exec(name);
  if (reg !== null) {
    return {
      kind,
      name,
      regClass: reg[1] as RegisterClass,
      mem: name.includes("_or_mem"),
    };
  }
  // mem, mem_offs, mem_mpx, mem_mib, sibmem
  return { kind, name, mem: true };
}

function makeForm(code: Code): { form: Form; text: string } | undefined {
  const info = CodeExt.opCode(code);
  try {
    if (!info.isInstruction) return undefined;
    const encoding = info.encoding;
    if (encoding === EncodingKind.EVEX) return undefined;
    const kinds: KindInfo[] = [];
    for (let k = 0; k < info.opCount; k++) kinds.push(kindInfo(info.opKind(k)));
    const memorySize = info.memorySize;
    const prefix = info.mandatoryPrefix;
    const opCodeText = info.opCodeString;
    const isString = kinds.some((k) => k.string !== undefined);
    const form: Form = {
      code,
      text: info.instructionString,
      kinds,
      memorySize,
      memoryBytes: MemorySizeExt.size(memorySize),
      operandSize: info.operandSize,
      addressSize: info.addressSize,
      modes: (info.isAvailableInMode(16) ? 1 : 0) |
        (info.isAvailableInMode(32) ? 2 : 0) |
        (info.isAvailableInMode(64) ? 4 : 0),
      encoding,
      default64: info.defaultOpSize64 || info.forceOpSize64,
      lockable: info.canUseLockPrefix,
      // REP RET is AMD's idiom for a branch target.
      repable: info.canUseRepPrefix || /^RET( |$)/.test(info.instructionString),
      // The other repeat prefix works on string instructions too.
      repneable: info.canUseRepnePrefix || (isString && info.canUseRepPrefix),
      bndable: info.canUseBndPrefix,
      notrackable: info.canUseNotrackPrefix,
      ownsF3: prefix === MandatoryPrefix.PF3 || /\bF3\b/.test(opCodeText),
      ownsF2: prefix === MandatoryPrefix.PF2 || /\bF2\b/.test(opCodeText),
      unusual: info.decoderOption !== 0,
      isBranchOrStack: info.isStackInstruction ||
        /^(CALL|JMP|PUSH|POP)\b/.test(info.instructionString),
      isString,
    };
    return { form, text: Mnemonic[info.mnemonic].toLowerCase() };
  } finally {
    info.free();
  }
}

interface Entry {
  readonly form: Form;
  readonly mnemonic: string;
}

let everything: Entry[] | undefined;

function allEntries(): Entry[] {
  if (everything === undefined) {
    everything = [];
    for (const name of Object.keys(Code)) {
      const code = Number(name);
      if (!Number.isInteger(code)) continue;
      const made = makeForm(code);
      if (made !== undefined) {
        everything.push({ form: made.form, mnemonic: made.text });
      }
    }
  }
  return everything;
}

/** Every form the assembler knows, in iced's order. */
export function allForms(): readonly Form[] {
  return allEntries().map((e) => e.form);
}

/** Condition-code synonyms (Intel SDM Vol. 1 appendix B). */
const CONDITIONS: readonly (readonly string[])[] = [
  ["b", "c", "nae"],
  ["ae", "nb", "nc"],
  ["e", "z"],
  ["ne", "nz"],
  ["be", "na"],
  ["a", "nbe"],
  ["p", "pe"],
  ["np", "po"],
  ["l", "nge"],
  ["ge", "nl"],
  ["le", "ng"],
  ["g", "nle"],
];

/** Names for one instruction whose size follows the mode: written → listed. */
const SYNONYMS: Readonly<Record<string, readonly string[]>> = {
  retn: ["ret"],
  pushf: ["pushf", "pushfd", "pushfq"],
  popf: ["popf", "popfd", "popfq"],
  pusha: ["pusha", "pushad"],
  popa: ["popa", "popad"],
  iret: ["iret", "iretd", "iretq"],
  fwait: ["wait"],
  xlat: ["xlatb"],
};

const SIZE_SUFFIX: Readonly<Record<number, string>> = {
  0: "",
  16: "w",
  32: "d",
  64: "q",
};

type Index = Map<string, Form[]>;

const indexes = new Map<string, Index>();

/**
 * Forms by lower-case mnemonic for a mode. Knights Corner's MVEX forms, which
 * share mnemonics with AVX-512 but no encoding, are there only if `knc`.
 */
export function formIndex(
  bits: Bits,
  knc = false,
): ReadonlyMap<string, readonly Form[]> {
  const key = `${bits} ${knc}`;
  let index = indexes.get(key);
  if (index === undefined) {
    index = buildIndex(bits, knc);
    indexes.set(key, index);
  }
  return index;
}

function buildIndex(bits: Bits, knc: boolean): Index {
  const index: Index = new Map();
  const add = (name: string, form: Form): void => {
    const list = index.get(name);
    if (list === undefined) index.set(name, [form]);
    else if (!list.includes(form)) list.push(form);
  };
  const nasm = new Formatter(FormatterSyntax.Nasm);
  nasm.usePseudoOps = false;
  const instruction = new Instruction();
  instruction.codeSize = bits === 16
    ? CodeSize.Code16
    : bits === 32
    ? CodeSize.Code32
    : CodeSize.Code64;
  const bit = modeBit(bits);
  const entries = allEntries().filter(({ form }) =>
    (form.modes & bit) !== 0 && (knc || form.encoding !== EncodingKind.MVEX)
  );
  // What the disassembler prints in this mode comes first (retd, pushfw …).
  for (const { form } of entries) {
    instruction.code = form.code;
    const options = FormatMnemonicOptions.NoPrefixes;
    add(nasm.formatMnemonicOptions(instruction, options), form);
  }
  for (const { form, mnemonic } of entries) {
    add(mnemonic, form);
    const word = form.text.split(/[ ,]/, 1)[0].toLowerCase();
    add(word, form);
    if (/^(ret|retf|iret|pushf|popf|pusha|popa)$/.test(word)) {
      add(word + SIZE_SUFFIX[form.operandSize], form);
    }
  }
  nasm.free();
  instruction.free();
  addSynonyms(index, add);
  return index;
}

function addSynonyms(
  index: Index,
  add: (name: string, form: Form) => void,
): void {
  for (const [name, listed] of Object.entries(SYNONYMS)) {
    for (const other of listed) {
      for (const form of index.get(other) ?? []) add(name, form);
    }
  }
  for (const stem of ["j", "set", "cmov", "loop"]) {
    for (const names of CONDITIONS) {
      const listed = names.map((n) => index.get(stem + n)).find((f) => f);
      if (listed === undefined) continue;
      for (const n of names) for (const f of [...listed]) add(stem + n, f);
    }
  }
}

const pseudo = new Map<string, { mnemonic: string; imm: bigint }>();

/**
 * A pseudo-operation such as `cmpeqps` or `vpcmpltb`: the instruction it
 * stands for and its last immediate; read off the disassembler's own naming.
 */
export function pseudoOperation(
  name: string,
): { mnemonic: string; imm: bigint } | undefined {
  if (pseudo.size === 0) {
    const nasm = new Formatter(FormatterSyntax.Nasm);
    for (const { form, mnemonic } of allEntries()) {
      if (form.kinds.at(-1)?.name !== "imm8") continue;
      const i = new Instruction();
      i.code = form.code;
      for (let k = 0; k < form.kinds.length - 1; k++) {
        if (form.kinds[k].immBits === undefined) {
          i.setOpRegister(k, Register.XMM1);
        }
      }
      const last = form.kinds.length - 1;
      i.setOpKind(last, 6); // OpKind.Immediate8
      for (let value = 0; value < 32; value++) {
        i.immediate8 = value;
        const text = nasm.formatMnemonic(i);
        if (text !== mnemonic && /^v?p?c/.test(text) && !pseudo.has(text)) {
          pseudo.set(text, { mnemonic, imm: BigInt(value) });
        }
      }
      i.free();
    }
    nasm.free();
  }
  return pseudo.get(name);
}

/** Modes in which a mnemonic exists, for errors. */
export function modesOf(mnemonic: string): Bits[] {
  return ([16, 32, 64] as const).filter((b) => formIndex(b).has(mnemonic));
}
