/**
 * A Linux boot to its prompt: recorded under `inputs` on T0 side by side with
 * QEMU's `-icount` on the same kernel, initial RAM disk and command line
 * (claim: at most twice QEMU's time), the replay's speed against the
 * recording's (at least 0.9), `seek` into the boot (median at most 1 s) and
 * peak memory (at most the guest's RAM and 1 GiB).
 *
 * Times are what a user waits, start-up and loading included on both
 * sides, in rounds that alternate. Each of our runs is a process of its own
 * (this file, with work, tape and guest as arguments), so that its start-up
 * is paid and its peak memory is its own.
 */
import process from "node:process";
import {
  messageOf,
  Recorder,
  TapeReader,
  tapeWriter,
  Timeline,
  verifyTape,
} from "../core/mod.ts";
import { machines } from "../host/machine.ts";
import { FileSink, FileSource } from "../host/store/file_store.ts";
import {
  type LinuxGuest,
  linuxGuest,
  linuxMachine,
  runToPrompt,
} from "./linux_guest.ts";
import { median } from "./recording.ts";

const SEEKS = 9;
const QEMU = "qemu-system-x86_64";
/** Seconds in which QEMU must come to the prompt. */
const QEMU_SECONDS = 300;

/** What one process of ours measured. */
interface Work {
  /** Seconds of user code on all threads: the host's compilers are some. */
  readonly cpu: number;
  /** Seconds that passed. */
  readonly seconds: number;
  /** Bytes of memory at the most. */
  readonly peak: number;
  readonly steps: number;
  /** Milliseconds of each seek. */
  readonly seeks: readonly number[];
}

/** The figures of one guest. */
export interface LinuxFigures {
  readonly guest: LinuxGuest;
  readonly steps: number;
  /** Seconds that passed, medians; and of user code. */
  readonly recorded: number;
  readonly recordedCpu: number;
  readonly replayed: number;
  /** Undefined where QEMU is not installed. */
  readonly qemu: number | undefined;
  readonly qemuCpu: number | undefined;
  /** Bytes. */
  readonly tapeBytes: number;
  readonly peak: number;
  /** Milliseconds. */
  readonly seekMedian: number;
  readonly seekWorst: number;
}

function peakOfThisProcess(): number {
  const status = Deno.readTextFileSync("/proc/self/status");
  return Number(/VmHWM:\s*(\d+) kB/.exec(status)?.[1] ?? 0) * 1024;
}

function record(guest: LinuxGuest, tape: string): Partial<Work> {
  const kernel = linuxMachine(guest);
  const recorder = Recorder.start(kernel, tapeWriter(new FileSink(tape)), {
    detail: "inputs",
  });
  const { step } = runToPrompt(kernel, guest);
  recorder.finish();
  return { steps: step };
}

function replay(tape: string): Partial<Work> {
  const reader = TapeReader.open(new FileSource(tape));
  const { status, step } = verifyTape(reader, machines.factory({ uses: [] }));
  if (status !== 0) {
    throw new Error(`replay the boot: it came to status ${status}, not 0`);
  }
  return { steps: step };
}

function seek(tape: string): Partial<Work> {
  const reader = TapeReader.open(new FileSource(tape));
  const time = Timeline.open(reader, machines.factory({ uses: [] }));
  const seeks: number[] = [];
  // Scattered over the run: multiples of the golden ratio. The first is not
  // counted: it makes the machine and its code.
  for (let i = 0; i <= SEEKS; i++) {
    const step = Math.floor(time.end * ((0.5 + i * 0.6180339887) % 1));
    const started = performance.now();
    time.seek({ step, ordinal: 0 });
    if (i > 0) seeks.push(performance.now() - started);
  }
  return { steps: time.end, seeks };
}

/** Runs `work` in a process of its own. */
function inProcess(work: string, tape: string, guest: LinuxGuest): Work {
  const config = new URL("../deno.json", import.meta.url).pathname;
  const started = performance.now();
  const { code, stdout } = new Deno.Command(Deno.execPath(), {
    args: [
      ...["run", "-A", "--no-check", "--config", config],
      ...[import.meta.filename!, work, tape, JSON.stringify(guest)],
    ],
    stderr: "inherit",
  }).outputSync();
  if (code !== 0) throw new Error(`measure ${work}: exit code ${code}`);
  const seconds = (performance.now() - started) / 1000;
  const done = JSON.parse(new TextDecoder().decode(stdout)) as Work;
  return { ...done, seconds };
}

/** @returns times up to the prompt; undefined without QEMU */
function qemuBoot(
  guest: LinuxGuest,
): Pick<Work, "cpu" | "seconds"> | undefined {
  // `read` takes the console byte by byte and ends QEMU at the prompt.
  const script = `command -v ${QEMU} >/dev/null || exit 250
    began=$EPOCHREALTIME
    coproc Q { exec ${QEMU} -icount shift=0,sleep=off -no-reboot -nodefaults \
      -display none -serial stdio -accel tcg -cpu "$CPU" -m "$MB" \
      -kernel "$KERNEL" -initrd "$INITRD" -append "$APPEND"; }
    pid=$Q_PID; line=
    while [ $SECONDS -lt ${QEMU_SECONDS} ] &&
      IFS= read -r -t ${QEMU_SECONDS} -N1 c <&"\${Q[0]}"; do
      if [ "$c" = $'\\n' ]; then line=; else line="$line$c"; fi
      if [ "$line" = "$PROMPT" ]; then break; fi
    done
    ended=$EPOCHREALTIME
    set -- $(cat /proc/$pid/stat); kill $pid
    if [ "$line" != "$PROMPT" ]; then exit 1; fi
    echo "\${14} $(getconf CLK_TCK) $began $ended"`;
  const { code, stdout } = new Deno.Command("bash", {
    args: ["-c", script],
    env: {
      CPU: guest.cpu,
      MB: String(guest.memory / 2 ** 20),
      KERNEL: guest.kernel,
      INITRD: guest.initrd,
      APPEND: guest.append,
      PROMPT: guest.prompt,
    },
    stderr: "null",
  }).outputSync();
  if (code === 250) return undefined;
  if (code !== 0) {
    throw new Error(`boot ${guest.kernel} on QEMU: it never showed a prompt`);
  }
  const [ticks, rate, began, ended] = new TextDecoder().decode(stdout).trim()
    .split(" ").map(Number);
  return { cpu: ticks / rate, seconds: ended - began };
}

/**
 * Measures a guest.
 * @param folder where it is; undefined: Debian's
 * @returns why there is none, if it can't be had
 */
export function measureLinux(
  folder: string | undefined,
  rounds: number,
): LinuxFigures | string {
  const directory = Deno.makeTempDirSync({ prefix: "vmtape-bench-" });
  const tape = `${directory}/boot.tape`;
  try {
    let guest: LinuxGuest;
    try {
      guest = linuxGuest(folder, directory);
    } catch (error) {
      return messageOf(error);
    }
    const recorded: Work[] = [], replayed: Work[] = [];
    const qemu: Pick<Work, "cpu" | "seconds">[] = [];
    for (let round = 0; round < rounds; round++) {
      if (round > 0) Deno.removeSync(tape);
      recorded.push(inProcess("record", tape, guest));
      const theirs = qemuBoot(guest);
      if (theirs !== undefined) qemu.push(theirs);
      replayed.push(inProcess("replay", tape, guest));
    }
    const { seeks } = inProcess("seek", tape, guest);
    return {
      guest,
      steps: recorded[0].steps,
      recorded: median(recorded.map((w) => w.seconds)),
      recordedCpu: median(recorded.map((w) => w.cpu)),
      replayed: median(replayed.map((w) => w.seconds)),
      ...(qemu.length > 0
        ? {
          qemu: median(qemu.map((w) => w.seconds)),
          qemuCpu: median(qemu.map((w) => w.cpu)),
        }
        : { qemu: undefined, qemuCpu: undefined }),
      tapeBytes: Deno.statSync(tape).size,
      peak: Math.max(...recorded.map((w) => w.peak)),
      seekMedian: median(seeks),
      seekWorst: Math.max(...seeks),
    };
  } finally {
    Deno.removeSync(directory, { recursive: true });
  }
}

/** The figures as lines. */
export function linuxLines(f: LinuxFigures): string[] {
  const mib = (bytes: number): string => `${(bytes / 2 ** 20).toFixed(0)} MiB`;
  const ratio = f.qemu === undefined
    ? `QEMU (${QEMU}) is not installed: not compared`
    : `QEMU -icount in ${f.qemu.toFixed(2)} s: ratio ${
      (f.recorded / f.qemu).toFixed(2)
    } (claim: at most 2); of CPU time on all threads ` +
      `${f.recordedCpu.toFixed(2)} s and ${f.qemuCpu!.toFixed(2)} s: ratio ${
        (f.recordedCpu / f.qemuCpu!).toFixed(2)
      }`;
  return [
    `${f.guest.kernel} to its prompt: ${f.steps} steps`,
    `recorded in ${f.recorded.toFixed(2)} s; ${ratio}`,
    `replay at ${
      (f.recorded / f.replayed).toFixed(2)
    } of recording speed (claim: at least 0.9)`,
    `seek ${f.seekMedian.toFixed(0)} ms at the median (claim: at most 1000), ${
      f.seekWorst.toFixed(0)
    } ms at worst`,
    `peak memory ${mib(f.peak)} with ${mib(f.guest.memory)} of guest RAM ` +
    `(claim: at most 1024 MiB more); tape ${mib(f.tapeBytes)}`,
  ];
}

if (import.meta.main) {
  const [work, tape, guest] = Deno.args;
  const done = work === "record"
    ? record(JSON.parse(guest) as LinuxGuest, tape)
    : work === "replay"
    ? replay(tape)
    : seek(tape);
  const all: Work = {
    cpu: process.cpuUsage().user / 1e6,
    seconds: 0,
    peak: peakOfThisProcess(),
    steps: 0,
    seeks: [],
    ...done,
  };
  console.log(JSON.stringify(all));
  // As the command line ends: at once, without taking the heap apart.
  Deno.exit(0);
}
