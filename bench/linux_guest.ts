/**
 * The Linux guests of measurements: a kernel image and an initial RAM disk,
 * from a folder that the user names, or Debian's, as the system tests make them
 * from its packages. Nothing of them is part of this project.
 */
import type { Kernel } from "../core/kernel.ts";
import type { StopInfo } from "../core/sink.ts";
import { machines } from "../host/machine.ts";
import { busybox, cloudKernel } from "../tests/guests/system/debian.ts";
import { initramfs } from "../tests/guests/system/initramfs.ts";
import { LEAN } from "../tests/guests/system/lean.ts";

/** Kernel and initial RAM disk. */
export interface LinuxGuest {
  readonly kernel: string;
  readonly initrd: string;
  readonly append: string;
  readonly cpu: string;
  /** Bytes of RAM. */
  readonly memory: number;
  /** What the console shows when the guest waits for commands. */
  readonly prompt: string;
  /** vCPUs; more than one are found by ACPI. */
  readonly cpus: number;
}

/** What a kernel and an initial RAM disk are booted with. */
function lean(kernel: string, initrd: string): LinuxGuest {
  const { append, cpu, megabytes, prompt } = LEAN;
  const memory = megabytes * 2 ** 20;
  return { kernel, initrd, append, cpu, memory, prompt, cpus: 1 };
}

/**
 * The guest in a folder: `vmlinux` or the first `vmlinuz*`, and the first
 * `*.cpio*` (`tiny.cpio` and `initrd.cpio` before others).
 * @throws Error when the folder has no such files
 */
function folderGuest(folder: string): LinuxGuest {
  const names = [...Deno.readDirSync(folder)].map((entry) => entry.name).sort();
  const kernel = names.find((n) => n === "vmlinux") ??
    names.find((n) => n.startsWith("vmlinuz"));
  const initrd = ["tiny.cpio", "initrd.cpio"].find((n) => names.includes(n)) ??
    names.find((n) => n.includes(".cpio"));
  if (kernel === undefined || initrd === undefined) {
    throw new Error(
      `no kernel and initial RAM disk in ${folder}; name a folder that has ` +
        "vmlinux or vmlinuz* and *.cpio",
    );
  }
  return lean(`${folder}/${kernel}`, `${folder}/${initrd}`);
}

/**
 * The guest to measure.
 * @param folder where it is; undefined: Debian's, from its packages
 * @param scratch folder for an initial RAM disk made here
 * @throws Error when it can't be had
 */
export function linuxGuest(
  folder: string | undefined,
  scratch: string,
): LinuxGuest {
  if (folder !== undefined) return folderGuest(folder);
  const { bzImage } = cloudKernel();
  const initrd = `${scratch}/initrd.cpio`;
  Deno.writeFileSync(initrd, initramfs(Deno.readFileSync(busybox())));
  return lean(bzImage, initrd);
}

/** The same with two vCPUs, which ACPI tells of, as the system tests boot it. */
export function withTwoCpus(guest: LinuxGuest): LinuxGuest {
  return { ...guest, cpu: guest.cpu.replace(",-apic", ""), cpus: 2 };
}

/** A machine at step 0 with the guest loaded. */
export function linuxMachine(guest: LinuxGuest, engine = "t0"): Kernel {
  const { cpu, memory, append, cpus } = guest;
  return machines.create(
    {
      doc: "",
      machine: { cpu, memory, cpus, platform: "pc", seed: 1n },
      guest: {
        format: "linux",
        path: "kernel",
        append,
        modules: [{ path: "initrd", append: "" }],
      },
      plugins: [],
      record: "inputs",
      inputs: [],
      expect: { events: {}, serial: [] },
    },
    new Map([
      ["kernel", Deno.readFileSync(guest.kernel)],
      ["initrd", Deno.readFileSync(guest.initrd)],
    ]),
    { engine, uses: [] },
  );
}

/** Steps in which a boot must come to its prompt. */
export const MOST_STEPS = 3e9;
/** Steps between looks at the console. */
const SLICE = 1e6;

/** Calls `seen` when a line of the console begins with the guest's prompt. */
export function onPrompt(
  kernel: Kernel,
  { prompt }: LinuxGuest,
  seen: () => void,
): void {
  let line = "";
  machines.serial(kernel)!.listen((byte) => {
    line = byte === 10 ? "" : line + String.fromCharCode(byte);
    if (line === prompt) seen();
  });
}

/**
 * Runs to the prompt.
 * @throws Error when the machine ends before, or does not come there
 */
export function runToPrompt(kernel: Kernel, guest: LinuxGuest): StopInfo {
  let there = false;
  onPrompt(kernel, guest, () => there = true);
  for (;;) {
    const info = kernel.run({ budgetSteps: SLICE });
    if (there) return info;
    if (info.kind === "budget" && info.step < MOST_STEPS) continue;
    const console = machines.serial(kernel)!.tail();
    throw new Error(
      `boot ${guest.kernel}: ${info.kind} at step ${info.step} without the ` +
        `prompt ${JSON.stringify(guest.prompt)} at a line's start; the ` +
        `console ends with:\n${new TextDecoder().decode(console).slice(-800)}`,
    );
  }
}
