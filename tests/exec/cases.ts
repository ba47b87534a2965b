/**
 * Instruction cases in text, tests/cases/exec/*.txt: one a line, run on any
 * engine. The lines hold what the silicon vectors can't: 16- and 32-bit modes,
 * CPL 0, faults, REP in steps, page crossings, decoding limits.
 *
 *   bits | assembly, or hex bytes after "=" | before => after
 *
 * Before and after are name=value pairs in hexadecimal: registers, `fl`
 * (RFLAGS), `mADDRESS=bytes`; before also `steps` (default 1), `cpl`, `ac`;
 * after also `fault=VECTOR[:ERROR[:CR2]]`. What a line does not name starts at
 * the defaults below and must not change; RIP must be that of the next
 * instruction, or of the same after a fault.
 */
import { Cr0 } from "../../cpu/arch/flags.ts";
import { parseModel } from "../../cpu/arch/models.ts";
import type { Backend } from "../../cpu/engine/backend.ts";
import type { InstructionDecoder } from "../../cpu/isa/decoder.ts";
import { assemble } from "../../host/asm/mod.ts";
import { createDecoder } from "../../plugins/decoder/decode.ts";
import { GPR_NAMES, hexOf } from "./names.ts";
import { BareMachine } from "./bare_machine.ts";

/** Pages of the world. The page after each is not mapped, except DATA's. */
export const WORLD = {
  code: 0x1000,
  data: 0x3000,
  data2: 0x4000,
  readOnly: 0x6000,
  stack: 0x8000,
} as const;
const DEFAULT_RFLAGS = 2n;

/** One parsed line. */
export interface ExecCase {
  readonly where: string;
  readonly bits: 16 | 32 | 64;
  readonly code: Uint8Array;
  readonly before: ReadonlyMap<string, string>;
  readonly after: ReadonlyMap<string, string>;
}

function pairs(text: string, where: string): Map<string, string> {
  const map = new Map<string, string>();
  for (const word of text.trim().split(/\s+/)) {
    if (word === "" || word === "-") continue;
    const at = word.indexOf("=");
    if (at < 1) throw new Error(`${where}: "${word}" is no name=value`);
    map.set(word.slice(0, at), word.slice(at + 1));
  }
  return map;
}

function bytesOf(hex: string): Uint8Array {
  const digits = hex.match(/[0-9a-f]{2}/gi) ?? [];
  return Uint8Array.from(digits, (d) => parseInt(d, 16));
}

/** Parses a file of cases. @throws Error naming file and line */
export function parseCases(file: string, text: string): ExecCase[] {
  const cases: ExecCase[] = [];
  text.split("\n").forEach((line, i) => {
    const where = `${file}:${i + 1}`;
    if (line.trim() === "" || line.startsWith("#")) return;
    const [bitsText, source, states] = line.split("|").map((s) => s.trim());
    const [before, after] = (states ?? "").split("=>");
    const bits = Number(bitsText);
    if ((bits !== 16 && bits !== 32 && bits !== 64) || after === undefined) {
      throw new Error(`${where}: expected bits | code | before => after`);
    }
    const code = source.startsWith("=")
      ? bytesOf(source.slice(1))
      : assemble(source.replaceAll(";;", "\n"), {
        bits,
        origin: WORLD.code,
        file: where,
      }).bytes;
    cases.push({
      where,
      bits,
      code,
      before: pairs(before, where),
      after: pairs(after, where),
    });
  });
  return cases;
}

/** Default of register `i`: distinct, small enough for every mode. */
function defaultGpr(i: number): bigint {
  return i === 4 ? BigInt(WORLD.stack + 0x800) : BigInt(0x100 + i);
}

interface State {
  gpr: bigint[];
  rip: bigint;
  fl: bigint;
  fault: string;
  memory: Map<number, Uint8Array>;
}

function apply(state: State, values: ReadonlyMap<string, string>): void {
  for (const [name, text] of values) {
    const gpr = GPR_NAMES.indexOf(name);
    if (gpr >= 0) state.gpr[gpr] = BigInt(`0x${text}`);
    else if (name === "rip") state.rip = BigInt(`0x${text}`);
    else if (name === "fl") state.fl = BigInt(`0x${text}`);
    else if (name === "fault") state.fault = text;
    else if (/^m[0-9a-f]+$/.test(name)) {
      const address = parseInt(name.slice(1), 16);
      bytesOf(text).forEach((byte, i) => {
        const at = address + i, page = at - at % 4096;
        const bytes = state.memory.get(page);
        if (bytes === undefined) throw new Error(`${name}: not mapped`);
        bytes[at % 4096] = byte;
      });
    } else if (!["steps", "cpl", "ac"].includes(name)) {
      throw new Error(`"${name}" is not known`);
    }
  }
}

/** Runs cases on one engine; a machine per mode and privilege. */
export class CaseRunner {
  private readonly machines = new Map<string, BareMachine>();

  constructor(
    private readonly engine: (decoder: InstructionDecoder) => Backend,
    private readonly engineBytes?: number,
  ) {}

  private machine(bits: 16 | 32 | 64, cpl: 0 | 3): BareMachine {
    const key = `${bits} ${cpl}`;
    let machine = this.machines.get(key);
    if (machine === undefined) {
      const model = parseModel("max-intel");
      machine = new BareMachine(this.engine(createDecoder(model)), {
        model,
        bits,
        cpl,
        engineBytes: this.engineBytes,
      });
      this.machines.set(key, machine);
    }
    return machine;
  }

  /** @returns what differs, as text lines; empty when the case holds */
  run(c: ExecCase): string[] {
    const machine = this.machine(c.bits, c.before.get("cpl") === "3" ? 3 : 0);
    const { v } = machine.cpu;
    if (c.before.has("ac")) v.cr0 = (v.cr0 | Cr0.AM) >>> 0;
    const start: State = {
      gpr: GPR_NAMES.map((_, i) => i < 8 || c.bits === 64 ? defaultGpr(i) : 0n),
      rip: BigInt(WORLD.code),
      fl: DEFAULT_RFLAGS,
      fault: "none",
      memory: new Map(),
    };
    for (const address of Object.values(WORLD)) {
      machine.map(address, { writable: address !== WORLD.readOnly });
      const bytes = new Uint8Array(4096);
      if (address === WORLD.code) bytes.fill(0xcc);
      start.memory.set(address, bytes);
    }
    apply(start, c.before);
    const at = Number(start.rip) - WORLD.code;
    start.memory.get(WORLD.code)!.set(c.code.subarray(0, 4096 - at), at);
    for (const [address, bytes] of start.memory) machine.poke(address, bytes);
    start.gpr.forEach((value, r) => v.setGpr(r, value));
    v.rip = start.rip;
    v.rflags = Number(start.fl);

    let fault = "none";
    for (let i = 0; i < parseInt(c.before.get("steps") ?? "1", 16); i++) {
      const result = machine.step();
      if (result.kind === "not-modelled") {
        fault = `not-modelled: ${result.what}`;
        break;
      }
      if (result.kind === "fault") {
        const { vector, errorCode, payload } = result.fault;
        fault = vector.toString(16);
        if (errorCode >= 0) fault += `:${errorCode.toString(16)}`;
        if (vector === 14) fault += `:${payload.toString(16)}`;
        break;
      }
    }

    const expected: State = {
      ...start,
      gpr: [...start.gpr],
      memory: new Map(
        [...start.memory].map(([page, bytes]) => [page, bytes.slice()]),
      ),
      rip: c.after.has("fault") ? start.rip : start.rip + BigInt(c.code.length),
    };
    apply(expected, c.after);
    const out: string[] = [];
    const differ = (name: string, want: string, is: string): void => {
      if (want !== is) out.push(`${name}: expected ${want}, is ${is}`);
    };
    differ("fault", expected.fault, fault);
    differ("rip", expected.rip.toString(16), v.rip.toString(16));
    differ("fl", expected.fl.toString(16), v.rflags.toString(16));
    expected.gpr.forEach((value, r) =>
      differ(GPR_NAMES[r], value.toString(16), v.gpr(r).toString(16))
    );
    for (const [page, bytes] of expected.memory) {
      const is = machine.peek(page, 4096);
      const at = bytes.findIndex((byte, i) => byte !== is[i]);
      if (at < 0) continue;
      const show = (b: Uint8Array): string => hexOf(b.subarray(at, at + 8));
      differ(`m${(page + at).toString(16)}`, show(bytes), show(is));
    }
    return out;
  }
}

const DIRECTORY = new URL("../cases/exec/", import.meta.url);

/** Every case of tests/cases/exec, by file. */
export function readExecCases(): Map<string, ExecCase[]> {
  const files = [...Deno.readDirSync(DIRECTORY)].map((e) => e.name).sort();
  return new Map(
    files.map((name) => [
      name,
      parseCases(name, Deno.readTextFileSync(new URL(name, DIRECTORY))),
    ]),
  );
}
