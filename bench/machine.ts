/** Machines for measurements: a multiboot image on the PC platform. */
import type { Kernel } from "../core/kernel.ts";
import { machines } from "../host/machine.ts";

/** What may differ from the default. */
export interface GuestOptions {
  readonly memory?: number;
  readonly engine?: string;
  readonly cpu?: string;
}

/** kvm-unit-tests read this from their first module. */
const ENVIRONMENT = (megabytes: number): string =>
  `NR_CPUS=1\nMEMSIZE=${megabytes}\nTEST_DEVICE=1\n`;

/** A machine at step 0 with the image loaded. */
export function guestMachine(
  image: Uint8Array,
  { memory = 32 << 20, engine = "t0", cpu = "max-intel" }: GuestOptions = {},
): Kernel {
  const environment = new TextEncoder().encode(ENVIRONMENT(memory >> 20));
  return machines.create(
    {
      doc: "",
      machine: { cpu, memory, cpus: 1, platform: "pc", seed: 1n },
      guest: {
        format: "multiboot",
        path: "image",
        append: "",
        modules: [{ path: "environment", append: "" }],
      },
      plugins: [],
      record: "inputs",
      inputs: [],
      expect: { events: {}, serial: [] },
    },
    new Map([["image", image], ["environment", environment]]),
    { engine, uses: [] },
  );
}
