/**
 * Vectors recorded on silicon: one line of tests/cases/silicon/*.txt to a case
 * and back. A line is five fields, separated by " | ":
 *   iced code | disassembly | code bytes | before | after
 * "before" and "after" are name=value pairs in hexadecimal (FORMAT_HEADER
 * describes them). Before lists what differs from the environment's defaults,
 * after lists what differs from before; anything not listed did not change.
 * Invariant: format(parse(line)) === line.
 */
import {
  CODE,
  DATA,
  DEFAULT_RFLAGS,
  DEFAULT_SELECTORS,
  defaultGpr,
  GPR_NAMES,
  PAGE_SIZE,
  PAGES,
  SELECTOR_NAMES,
  STACK,
  START,
} from "./environment.ts";
import type { Vendor } from "../../cpu/arch/models.ts";
import { seededVectors } from "./seeded.ts";

/** x87 and SSE state as FXSAVE64 sees it (SDM vol. 2 FXSAVE). */
export interface FpuState {
  fcw: number;
  fsw: number;
  /** Abridged tag byte: bit i set when physical register i is not empty. */
  ftw: number;
  fop: number;
  fip: bigint;
  fdp: bigint;
  mxcsr: number;
  /** ST(0)…ST(7), 80 bits each. */
  st: bigint[];
  /** XMM0…XMM15, 128 bits each. */
  xmm: bigint[];
}

/** Architectural state around one instruction. */
export interface SiliconState {
  /** RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8…R15; unsigned 64-bit. */
  gpr: bigint[];
  rip: bigint;
  /** RFLAGS without RF (which differs between a fault's frame and a trap's). */
  rflags: number;
  fsBase: bigint;
  gsBase: bigint;
  /** ES, CS, SS, DS, FS, GS. */
  selectors: number[];
  fpu: FpuState;
}

/** A run of bytes at a linear address. */
export interface MemoryRun {
  readonly address: number;
  readonly bytes: Uint8Array;
}

/** The exception an instruction ended in. */
export interface SiliconFault {
  readonly vector: number;
  /** Error code; 0 for vectors that push none. */
  readonly errorCode: number;
  /** Linear address for #PF, 0n for the others. */
  readonly cr2: bigint;
}

/** One recorded instruction. */
export interface SiliconCase {
  /** Of the CPU that it was recorded on, as the head of the file tells. */
  readonly vendor: Vendor;
  /** Iced code name, such as `Add_rm8_r8`. */
  readonly form: string;
  readonly disassembly: string;
  readonly code: Uint8Array;
  readonly before: SiliconState;
  /** Memory written over the filled pages before the instruction. */
  readonly memoryBefore: readonly MemoryRun[];
  readonly after: SiliconState;
  readonly fault: SiliconFault | null;
  /** Bytes whose value changed. */
  readonly memoryAfter: readonly MemoryRun[];
  /** Flags the manuals leave undefined here. */
  readonly undefinedFlags: number;
  /** Bits of general registers that are the recording host's own, by number. */
  readonly hostBits: ReadonlyMap<number, bigint>;
  /** True where AMD's decoding or outcome differs from Intel's. */
  readonly amdOnly: boolean;
  /** What vector registers and data page are filled from (seeded.ts), if so. */
  readonly seed?: number;
}

/** Comment written at the top of every vector file. */
export const FORMAT_HEADER = [
  "Recorded on silicon by `deno run -A tools/silicon/generate.ts`; do not edit.",
  "One case a line: iced code | disassembly | code bytes | before | after.",
  "Numbers are hexadecimal. Parser: tests/silicon/vectors.ts; the world around",
  "a case (pages, default registers, selectors): tests/silicon/environment.ts.",
  "before: registers that differ from their defaults, fl=RFLAGS, fsb= gsb=",
  "  segment bases, mADDRESS=bytes memory, rip= if not 10000800, x87/SSE state",
  "  (fcw fsw ftw fop fip fdp mxcsr st0-7 xmm0-15); amd=1: AMD's behaviour;",
  "  x=SEED: xmm0-15, st0-7 and the data page as seeded.ts makes them.",
  "after: only what changed. fault=VECTOR:ERROR:CR2; rip= only if not the next",
  "  instruction (or, with a fault, not the same one); u= undefined flags;",
  "  ?REGISTER=MASK bits that are the host's own, shown as 0 and not compared.",
  "  ST(i) that only moved with TOP did not change.",
  "A REP instruction runs until RIP leaves it. RF is never shown.",
] as const;

/** x87/SSE state after FNINIT with MXCSR at its default. */
export function initialFpu(): FpuState {
  return {
    fcw: 0x37f,
    fsw: 0,
    ftw: 0,
    fop: 0,
    fip: 0n,
    fdp: 0n,
    mxcsr: 0x1f80,
    st: new Array<bigint>(8).fill(0n),
    xmm: new Array<bigint>(16).fill(0n),
  };
}

/** State before a case that lists nothing. */
export function initialState(): SiliconState {
  return {
    gpr: GPR_NAMES.map((_, i) => defaultGpr(i)),
    rip: BigInt(START),
    rflags: DEFAULT_RFLAGS,
    fsBase: 0n,
    gsBase: 0n,
    selectors: [...DEFAULT_SELECTORS],
    fpu: initialFpu(),
  };
}

/** Fills vector registers from a seed. @returns the data page's run */
export function applySeed(state: SiliconState, seed: number): MemoryRun {
  const { xmm, st, data } = seededVectors(seed);
  state.fpu.xmm = [...xmm];
  state.fpu.st = [...st];
  return { address: DATA, bytes: data };
}

/** An independent copy of `state`. */
export function copyState(state: SiliconState): SiliconState {
  const { fpu } = state;
  return {
    ...state,
    gpr: [...state.gpr],
    selectors: [...state.selectors],
    fpu: { ...fpu, st: [...fpu.st], xmm: [...fpu.xmm] },
  };
}

/**
 * Every scalar of a state as name and value, in the order lines show them.
 * Flags come as `fl`; names are those of the vector files.
 */
export function* stateFields(s: SiliconState): Generator<[string, bigint]> {
  for (const [i, name] of GPR_NAMES.entries()) yield [name, s.gpr[i]];
  yield ["fl", BigInt(s.rflags)];
  yield ["fsb", s.fsBase];
  yield ["gsb", s.gsBase];
  for (const [i, name] of SELECTOR_NAMES.entries()) {
    yield [name, BigInt(s.selectors[i])];
  }
  const { fcw, fsw, ftw, fop, fip, fdp, mxcsr } = s.fpu;
  const control = { fcw, fsw, ftw, fop, fip, fdp, mxcsr };
  for (const [name, value] of Object.entries(control)) {
    yield [name, BigInt(value)];
  }
  for (const [i, value] of s.fpu.st.entries()) yield [`st${i}`, value];
  for (const [i, value] of s.fpu.xmm.entries()) yield [`xmm${i}`, value];
}

function setField(s: SiliconState, name: string, value: bigint): boolean {
  const gpr = (GPR_NAMES as readonly string[]).indexOf(name);
  const selector = (SELECTOR_NAMES as readonly string[]).indexOf(name);
  const fpuVector = /^(st|xmm)(\d+)$/.exec(name);
  if (gpr >= 0) s.gpr[gpr] = value;
  else if (selector >= 0) s.selectors[selector] = Number(value);
  else if (name === "rip") s.rip = value;
  else if (name === "fl") s.rflags = Number(value);
  else if (name === "fsb") s.fsBase = value;
  else if (name === "gsb") s.gsBase = value;
  else if (name === "fip" || name === "fdp") s.fpu[name] = value;
  else if (
    name === "fcw" || name === "fsw" || name === "ftw" || name === "fop" ||
    name === "mxcsr"
  ) s.fpu[name] = Number(value);
  else if (fpuVector) {
    const registers = fpuVector[1] === "st" ? s.fpu.st : s.fpu.xmm;
    const index = Number(fpuVector[2]);
    if (index >= registers.length) return false;
    registers[index] = value;
  } else return false;
  return true;
}

/** Lower-case hexadecimal of `bytes`, two digits each. */
export function hexOf(bytes: Uint8Array): string {
  return Array.from(bytes, (b) => b.toString(16).padStart(2, "0")).join("");
}

function bytesOf(hex: string): Uint8Array {
  if (!/^([0-9a-f]{2})*$/.test(hex)) {
    throw new Error(`bytes "${hex}": expected pairs of hexadecimal digits`);
  }
  return Uint8Array.from(hex.match(/../g) ?? [], (pair) => parseInt(pair, 16));
}

/** True when the whole run lies in one page of the environment. */
function mapped(run: MemoryRun): boolean {
  return PAGES.some(({ address }) =>
    run.address >= address &&
    run.address + run.bytes.length <= address + PAGE_SIZE
  );
}

/**
 * Parses one line.
 * @throws Error naming the field that is malformed.
 */
export function parseCase(
  line: string,
  vendor: Vendor = "AuthenticAMD",
): SiliconCase {
  const parts = line.split(" | ").map((part) => part.trim());
  if (parts.length !== 5) {
    throw new Error(`${parts.length} fields: expected 5 separated by " | "`);
  }
  const [form, disassembly, codeText, beforeText, afterText] = parts;
  const code = bytesOf(codeText);
  const before = initialState();
  const memoryBefore: MemoryRun[] = [];
  const memoryAfter: MemoryRun[] = [];
  let amdOnly = false;
  let seed: number | undefined;
  let fault: SiliconFault | null = null;
  let undefinedFlags = 0;
  const hostBits = new Map<number, bigint>();
  const apply = (
    text: string,
    state: SiliconState,
    memory: MemoryRun[],
    special: (name: string, value: string) => boolean,
  ): void => {
    for (const pair of text.split(" ").filter((word) => word !== "-")) {
      const [name, value, ...rest] = pair.split("=");
      if (value === undefined || rest.length) {
        throw new Error(`"${pair}": expected name=value`);
      }
      if (special(name, value)) continue;
      const run = /^m([0-9a-f]+)$/.exec(name);
      if (run) {
        const entry = { address: parseInt(run[1], 16), bytes: bytesOf(value) };
        if (!mapped(entry)) throw new Error(`"${pair}": not in a mapped page`);
        memory.push(entry);
        continue;
      }
      if (
        !/^[0-9a-f]+$/.test(value) ||
        !setField(state, name, BigInt(`0x${value}`))
      ) throw new Error(`"${pair}": unknown name or bad value`);
    }
  };
  apply(beforeText, before, memoryBefore, (name, value) => {
    if (name === "amd") amdOnly = value === "1";
    if (name !== "x") return name === "amd";
    if (!/^[0-9a-f]{1,8}$/.test(value)) return false;
    seed = parseInt(value, 16);
    memoryBefore.push(applySeed(before, seed));
    return true;
  });
  const after = copyState(before);
  let ripGiven = false;
  apply(afterText, after, memoryAfter, (name, value) => {
    if (name === "rip") ripGiven = true;
    // The status word stands before the registers that TOP renames.
    if (name === "fsw" && /^[0-9a-f]+$/.test(value)) {
      after.fpu.st = renamed(after.fpu, parseInt(value, 16));
    }
    if (name === "u") undefinedFlags = parseInt(value, 16);
    const own = (GPR_NAMES as readonly string[]).indexOf(name.slice(1));
    if (name.startsWith("?") && own >= 0 && /^[0-9a-f]+$/.test(value)) {
      hostBits.set(own, BigInt(`0x${value}`));
      return true;
    }
    if (name === "fault") {
      const m = /^([0-9a-f]+):([0-9a-f]+):([0-9a-f]+)$/.exec(value);
      if (!m) throw new Error(`fault "${value}": expected VECTOR:ERROR:CR2`);
      fault = {
        vector: parseInt(m[1], 16),
        errorCode: parseInt(m[2], 16),
        cr2: BigInt(`0x${m[3]}`),
      };
    }
    return name === "u" || name === "fault";
  });
  if (!ripGiven && !fault) after.rip = before.rip + BigInt(code.length);
  return {
    vendor,
    form,
    disassembly,
    code,
    before,
    memoryBefore,
    after,
    fault,
    memoryAfter,
    undefinedFlags,
    hostBits,
    amdOnly,
    ...(seed === undefined ? {} : { seed }),
  };
}

/** The registers as they are called after TOP moved to that of `fsw`. */
function renamed({ st, fsw }: FpuState, now: number): bigint[] {
  const by = (now >> 11) - (fsw >> 11) & 7;
  return st.map((_, i) => st[i + by & 7]);
}

function difference(from: SiliconState, to: SiliconState): string[] {
  const old = new Map(stateFields(from));
  return [...stateFields(to)]
    .filter(([name, value]) => old.get(name) !== value)
    .map(([name, value]) => `${name}=${value.toString(16)}`);
}

/** The line that parses to `c`. */
export function formatCase(c: SiliconCase): string {
  const runs = (list: readonly MemoryRun[]): string[] =>
    list.map((r) => `m${r.address.toString(16)}=${hexOf(r.bytes)}`);
  const start = initialState();
  // The data page's run is not shown, nor are registers as the seed made them.
  const seeded = c.seed === undefined ? [] : [applySeed(start, c.seed)];
  const before = difference(start, c.before);
  if (c.before.rip !== BigInt(START)) {
    before.unshift(`rip=${c.before.rip.toString(16)}`);
  }
  if (c.amdOnly) before.unshift("amd=1");
  if (c.seed !== undefined) before.unshift(`x=${c.seed.toString(16)}`);
  before.push(...runs(c.memoryBefore.slice(seeded.length)));
  const was = copyState(c.before);
  was.fpu.st = renamed(was.fpu, c.after.fpu.fsw);
  const after = difference(was, c.after);
  const expectedRip = c.fault
    ? c.before.rip
    : c.before.rip + BigInt(c.code.length);
  if (c.after.rip !== expectedRip) {
    after.unshift(`rip=${c.after.rip.toString(16)}`);
  }
  if (c.fault) {
    const { vector, errorCode, cr2 } = c.fault;
    after.unshift(
      `fault=${[vector, errorCode, cr2].map((v) => v.toString(16)).join(":")}`,
    );
  }
  after.push(...runs(c.memoryAfter));
  if (c.undefinedFlags) after.push(`u=${c.undefinedFlags.toString(16)}`);
  for (const [register, mask] of c.hostBits) {
    after.push(`?${GPR_NAMES[register]}=${mask.toString(16)}`);
  }
  return [
    c.form,
    c.disassembly,
    hexOf(c.code),
    before.join(" ") || "-",
    after.join(" ") || "-",
  ].join(" | ");
}

/**
 * Parses a whole vector file; empty lines and lines that begin with `#` are
 * skipped. @throws Error with `name:line` and what is wrong there.
 */
export function parseFile(name: string, text: string): SiliconCase[] {
  const cases: SiliconCase[] = [];
  const vendor = /^# CPU: .*Intel/m.test(text)
    ? "GenuineIntel"
    : "AuthenticAMD";
  for (const [i, line] of text.split("\n").entries()) {
    if (line === "" || line.startsWith("#")) continue;
    try {
      cases.push(parseCase(line, vendor));
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error);
      throw new Error(`${name}:${i + 1}: ${why}`);
    }
  }
  return cases;
}

/** The four pages, by linear address, as they are before the instruction. */
export function pagesBefore(c: SiliconCase): Map<number, Uint8Array> {
  const pages = new Map(
    PAGES.map(({ address, fill }) => [
      address,
      new Uint8Array(PAGE_SIZE).fill(fill),
    ]),
  );
  const write = (run: MemoryRun): void => {
    const base = run.address - run.address % PAGE_SIZE;
    pages.get(base)!.set(run.bytes, run.address - base);
  };
  // An instruction may begin so late that it would cross into no page at all.
  const room = CODE + PAGE_SIZE - Number(c.before.rip);
  write({
    address: Number(c.before.rip),
    bytes: c.code.subarray(0, room),
  });
  c.memoryBefore.forEach(write);
  return pages;
}

/** The same pages as they are afterwards. */
export function pagesAfter(c: SiliconCase): Map<number, Uint8Array> {
  const pages = pagesBefore(c);
  for (const run of c.memoryAfter) {
    const base = run.address - run.address % PAGE_SIZE;
    pages.get(base)!.set(run.bytes, run.address - base);
  }
  return pages;
}

/** Pages an instruction may write. */
export const WRITABLE_PAGES: readonly number[] = [DATA, STACK];
