/**
 * Engine speed on the kernels of kernels.ts, side by side with QEMU's TCG in
 * its deterministic mode (`-icount`), in rounds that alternate, by CPU time of
 * user code (so that other work on the host disturbs less). QEMU's start-up is
 * measured with the empty kernel and subtracted; ours runs its first steps
 * before the clock starts. Both must end with the same exit code.
 */
import process from "node:process";
import { type BenchKernel, kernelImage, KERNELS } from "./kernels.ts";
import { Recorder, tapeWriter } from "../core/recorder.ts";
import { MemoryStore } from "../core/tape/store.ts";
import { guestMachine } from "./machine.ts";

const QEMU = "qemu-system-x86_64";
/** Steps before our clock starts: boot and the host's compilation. */
const WARM = 30e6;
const SLICE = 50e6;

/** One kernel's outcome. */
export interface EngineFigure {
  readonly kernel: string;
  readonly doc: string;
  /** Instructions of the whole run. */
  readonly instructions: number;
  /** Millions of guest instructions a CPU second: medians. */
  readonly ours: number;
  /** Undefined where QEMU is not installed. */
  readonly qemu: number | undefined;
}

const median = (list: readonly number[]): number =>
  [...list].sort((a, b) => a - b)[list.length >> 1];

/** @returns MIPS, instructions and exit code of one run of ours */
function runOurs(
  image: Uint8Array,
  engine: string,
): { mips: number; instructions: number; exitCode: number } {
  const kernel = guestMachine(image, { engine });
  // As users run it: recording what comes from outside.
  const recorder = Recorder.start(kernel, tapeWriter(new MemoryStore()), {
    detail: "inputs",
  });
  const warm = kernel.run({ untilStep: WARM });
  const before = process.cpuUsage();
  let end = warm;
  while (end.kind === "step" || end.kind === "budget") {
    end = kernel.run({ budgetSteps: SLICE });
  }
  const micros = process.cpuUsage(before).user;
  recorder.finish();
  return {
    mips: (end.step - warm.step) / micros,
    instructions: end.step,
    exitCode: end.exitCode ?? -1,
  };
}

/** @returns seconds of user time and exit code; undefined without QEMU */
function runQemu(
  file: string,
): { seconds: number; exitCode: number } | undefined {
  const command = `TIMEFORMAT=%U; time ${QEMU} -icount shift=0,sleep=off ` +
    "-no-reboot -nodefaults -display none -machine accel=tcg -cpu max -m 32 " +
    `-device isa-debug-exit,iobase=0xf4,iosize=4 -kernel ${file}`;
  try {
    const { code, stderr } = new Deno.Command("bash", {
      args: ["-c", `command -v ${QEMU} >/dev/null || exit 250; ${command}`],
    }).outputSync();
    if (code === 250) return undefined;
    const lines = new TextDecoder().decode(stderr).trim().split("\n");
    return { seconds: Number(lines.at(-1)), exitCode: code };
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}

/**
 * Measures all kernels.
 * @param millions instructions a run, about
 * @throws Error when the two machines end differently
 */
export function measureEngines(
  { engine = "t0", millions = 600, rounds = 3 } = {},
): EngineFigure[] {
  const directory = Deno.makeTempDirSync({ prefix: "vmtape-bench-" });
  const file = (k: BenchKernel): string => `${directory}/${k.name}.bin`;
  try {
    for (const kernel of KERNELS) {
      Deno.writeFileSync(file(kernel), kernelImage(kernel, millions));
    }
    const empty = KERNELS.find((k) => k.name === "empty")!;
    return KERNELS.filter((k) => k !== empty).map((kernel) => {
      const ours: number[] = [], theirs: number[] = [];
      let instructions = 0;
      for (let round = 0; round < rounds; round++) {
        const us = runOurs(kernelImage(kernel, millions), engine);
        ours.push(us.mips);
        ({ instructions } = us);
        const start = runQemu(file(empty)), them = runQemu(file(kernel));
        if (start === undefined || them === undefined) continue;
        if (them.exitCode !== us.exitCode) {
          throw new Error(
            `measure ${kernel.name}: exit code ${us.exitCode} here, ` +
              `${them.exitCode} on QEMU; one of them computes wrongly`,
          );
        }
        const seconds = Math.max(them.seconds - start.seconds, 1e-3);
        theirs.push(instructions / seconds / 1e6);
      }
      const { name, doc } = kernel;
      return {
        kernel: name,
        doc,
        instructions,
        ours: median(ours),
        qemu: theirs.length ? median(theirs) : undefined,
      };
    });
  } finally {
    Deno.removeSync(directory, { recursive: true });
  }
}

/** The figures as a table. */
export function engineTable(figures: readonly EngineFigure[]): string {
  const rows = [["kernel", "vmtape", "QEMU -icount", "ratio", "what"]];
  for (const { kernel, ours, qemu, doc } of figures) {
    rows.push([
      kernel,
      ours.toFixed(0),
      qemu === undefined ? "not installed" : qemu.toFixed(0),
      qemu === undefined ? "" : (ours / qemu).toFixed(2),
      doc,
    ]);
  }
  const widths = rows[0].map((_, i) =>
    Math.max(...rows.map((r) => r[i].length))
  );
  return rows.map((r) =>
    r.map((c, i) => c.padEnd(widths[i])).join("  ").trimEnd()
  )
    .join("\n");
}
