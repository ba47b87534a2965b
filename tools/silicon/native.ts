/**
 * Talks to the native harness: builds it with gcc, sends drafts, turns its
 * answers into recorded cases. The wire format is described in harness.c.
 * Deciding whether an instruction completed: it did if the INT3 behind it (or
 * at its target) trapped, or if fetching its target faulted (I/D bit of the
 * #PF error code with CR2 = RIP, SDM vol. 3 §4.7).
 * Invariant: RF is cleared from every recorded RFLAGS.
 */
import {
  CODE,
  PAGE_SIZE,
  PAGES,
  SELECTOR_NAMES,
} from "../../tests/silicon/environment.ts";
import {
  copyState,
  type FpuState,
  initialFpu,
  type MemoryRun,
  type SiliconFault,
  type SiliconState,
} from "../../tests/silicon/vectors.ts";
import type { Draft } from "./cases.ts";
import { fromLittleEndian, littleEndian } from "./random.ts";

/** What the CPU did with a draft. */
export interface Outcome {
  readonly after: SiliconState;
  readonly fault: SiliconFault | null;
  readonly memoryAfter: readonly MemoryRun[];
}

const NONE = (1n << 64n) - 1n;
const TIMEOUT = NONE - 1n;
const RF = 0x10000;

const codeEnd = CODE + PAGE_SIZE;

// FXSAVE64 image offsets (SDM vol. 2 FXSAVE).
const FX = {
  fcw: 0,
  fsw: 2,
  ftw: 4,
  fop: 6,
  fip: 8,
  fdp: 16,
  mxcsr: 24,
  st: 32,
  xmm: 160,
};

function fxImage(f: FpuState): Uint8Array {
  const image = new Uint8Array(512);
  const put = (at: number, v: bigint | number, n: number): void =>
    image.set(littleEndian(BigInt(v), n), at);
  put(FX.fcw, f.fcw, 2);
  put(FX.fsw, f.fsw, 2);
  put(FX.ftw, f.ftw, 1);
  put(FX.fop, f.fop, 2);
  put(FX.fip, f.fip, 8);
  put(FX.fdp, f.fdp, 8);
  put(FX.mxcsr, f.mxcsr, 4);
  f.st.forEach((v, i) => put(FX.st + 16 * i, v, 10));
  f.xmm.forEach((v, i) => put(FX.xmm + 16 * i, v, 16));
  return image;
}

function fpuOf(image: Uint8Array): FpuState {
  const get = (at: number, n: number): bigint =>
    fromLittleEndian(image.subarray(at, at + n));
  return {
    fcw: Number(get(FX.fcw, 2)),
    fsw: Number(get(FX.fsw, 2)),
    ftw: Number(get(FX.ftw, 1)),
    fop: Number(get(FX.fop, 2)),
    fip: get(FX.fip, 8),
    fdp: get(FX.fdp, 8),
    mxcsr: Number(get(FX.mxcsr, 4)),
    st: Array.from({ length: 8 }, (_, i) => get(FX.st + 16 * i, 10)),
    xmm: Array.from({ length: 16 }, (_, i) => get(FX.xmm + 16 * i, 16)),
  };
}

function request(d: Draft): Uint8Array[] {
  const s = d.before;
  const [es, cs, , ds] = s.selectors.map(BigInt);
  const head = [
    s.rip,
    ...s.gpr,
    BigInt(s.rflags),
    s.fsBase,
    s.gsBase,
    cs,
    ds,
    es,
  ]
    .map((v) => littleEndian(v, 8));
  const initial = JSON.stringify(s.fpu, text) ===
    JSON.stringify(initialFpu(), text);
  const runs: MemoryRun[] = [
    // A case may begin so late that its last bytes lie in no page.
    {
      address: Number(s.rip),
      bytes: d.code.subarray(0, codeEnd - Number(s.rip)),
    },
    ...d.memory,
  ];
  return [
    ...head,
    littleEndian(initial ? 0n : 1n, 4),
    ...(initial ? [] : [fxImage(s.fpu)]),
    littleEndian(BigInt(runs.length), 4),
    ...runs.flatMap((r) => [
      littleEndian(BigInt(r.address), 8),
      littleEndian(BigInt(r.bytes.length), 4),
      r.bytes,
    ]),
  ];
}

const text = (_: string, v: unknown): unknown =>
  typeof v === "bigint" ? v.toString() : v;

function joined(parts: Uint8Array[]): Uint8Array {
  const out = new Uint8Array(parts.reduce((n, p) => n + p.length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}

class Reader {
  #at = 0;
  constructor(readonly bytes: Uint8Array) {}
  take(n: number): Uint8Array {
    const piece = this.bytes.slice(this.#at, this.#at += n);
    if (piece.length !== n) throw new Error("harness: answer cut short");
    return piece;
  }
  number(n: number): bigint {
    return fromLittleEndian(this.take(n));
  }
}

function outcome(d: Draft, r: Reader): Outcome | string {
  const vector = r.number(8);
  const errorCode = r.number(8);
  const cr2 = r.number(8);
  const after = copyState(d.before);
  after.rip = r.number(8);
  after.gpr = after.gpr.map(() => r.number(8));
  after.rflags = Number(r.number(8) & 0xffffffffn) & ~RF;
  after.fsBase = r.number(8);
  after.gsBase = r.number(8);
  after.selectors = SELECTOR_NAMES.map(() => Number(r.number(2)));
  after.fpu = fpuOf(r.take(512));
  const memoryAfter: MemoryRun[] = [];
  for (let n = r.number(4); n > 0n; n--) {
    const address = Number(r.number(8));
    memoryAfter.push({ address, bytes: r.take(Number(r.number(4))) });
  }
  if (vector === TIMEOUT) return "it did not end within a second";
  const start = d.before.rip;
  const end = start + BigInt(d.code.length);
  const inside = (rip: bigint): boolean => rip >= start && rip < end;
  if (vector === 3n && !inside(after.rip - 1n)) {
    after.rip -= 1n;
    return { after, fault: null, memoryAfter };
  }
  const fetch = vector === 14n && (errorCode & 0x10n) !== 0n &&
    cr2 === after.rip && !inside(after.rip);
  if (fetch) return { after, fault: null, memoryAfter };
  const fault = { vector: Number(vector), errorCode: Number(errorCode), cr2 };
  return { after, fault, memoryAfter };
}

/** Compiles harness.c. @throws Error with gcc's words. */
export function buildHarness(source: string, binary: string): void {
  const { success, stderr } = new Deno.Command("gcc", {
    args: [
      "-O1",
      "-Wall",
      "-fno-stack-protector",
      "-mno-red-zone",
      "-mfsgsbase",
      "-fcf-protection=none",
      "-o",
      binary,
      source,
    ],
  }).outputSync();
  if (!success) {
    throw new Error(
      `gcc ${source}: failed; install gcc and read:\n${
        new TextDecoder().decode(stderr)
      }`,
    );
  }
}

/**
 * Runs all drafts in one harness process; a string instead of an outcome says
 * why that draft is not usable. @throws Error if the harness itself fails.
 */
export async function execute(
  binary: string,
  drafts: readonly Draft[],
): Promise<(Outcome | string)[]> {
  const child = new Deno.Command(binary, {
    args: PAGES.map((p) => p.address.toString(16)),
    stdin: "piped",
    stdout: "piped",
    stderr: "inherit",
  }).spawn();
  const feeding = (async (): Promise<void> => {
    const writer = child.stdin.getWriter();
    await writer.write(
      joined(drafts.flatMap(request)) as Uint8Array<ArrayBuffer>,
    );
    await writer.close();
  })();
  const [{ success, code, stdout }] = await Promise.all([
    child.output(),
    feeding,
  ]);
  if (!success) throw new Error(`harness: exit status ${code}`);
  const reader = new Reader(stdout);
  return drafts.map((d) => outcome(d, reader));
}
