/**
 * The Linux guest of measurements: a kernel image and an initial RAM disk in a
 * folder that the user names. Nothing of it is part of this project; the
 * system tests make such a folder from Debian's packages.
 */
import type { Kernel } from "../core/kernel.ts";
import type { StopInfo } from "../core/sink.ts";
import { machines } from "../host/machine.ts";

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
}

/** Where folders are looked for when none is named. */
const PLACES = ["/tmp/linux-guest"];

/**
 * The guest in a folder: `vmlinux` or the first `vmlinuz*`, and the first
 * `*.cpio*` (`tiny.cpio` and `initrd.cpio` before others).
 * @returns undefined when the folder has no such files
 */
export function findLinuxGuest(folder?: string): LinuxGuest | undefined {
  for (const place of folder === undefined ? PLACES : [folder]) {
    let names: string[];
    try {
      names = [...Deno.readDirSync(place)].map((entry) => entry.name).sort();
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) continue;
      throw error;
    }
    const kernel = names.find((n) => n === "vmlinux") ??
      names.find((n) => n.startsWith("vmlinuz"));
    const initrd = ["tiny.cpio", "initrd.cpio"].find((n) =>
      names.includes(n)
    ) ?? names.find((n) => n.includes(".cpio"));
    if (kernel === undefined || initrd === undefined) continue;
    return {
      kernel: `${place}/${kernel}`,
      initrd: `${place}/${initrd}`,
      append: "console=ttyS0 reboot=t nokaslr cryptomgr.notests",
      cpu: "qemu64,-apic",
      memory: 128 << 20,
      prompt: "# ",
    };
  }
  return undefined;
}

/** A machine at step 0 with the guest loaded. */
export function linuxMachine(guest: LinuxGuest, engine = "t0"): Kernel {
  const { cpu, memory, append } = guest;
  return machines.create(
    {
      doc: "",
      machine: { cpu, memory, cpus: 1, platform: "pc", seed: 1n },
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

/**
 * Runs until a line of the console begins with the prompt.
 * @param budget steps between looks at the console
 * @throws Error when the machine ends before
 */
export function runToPrompt(
  kernel: Kernel,
  guest: LinuxGuest,
  budget = 1e6,
): StopInfo {
  let line = "", seen = false;
  machines.serial(kernel)!.listen((byte) => {
    line = byte === 10 ? "" : line + String.fromCharCode(byte);
    seen ||= line === guest.prompt;
  });
  for (;;) {
    const info = kernel.run({ budgetSteps: budget });
    if (seen) return info;
    if (info.kind !== "budget") {
      throw new Error(
        `boot ${guest.kernel}: the machine came to ${info.kind} at step ` +
          `${info.step} before the prompt "${guest.prompt}"; its last line ` +
          `was "${line}"`,
      );
    }
  }
}
