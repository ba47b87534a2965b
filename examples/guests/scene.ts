/**
 * The scene that the examples about mode-based execute control share: a policy
 * as HVCI sets it (kernel code for kernel and users, user code for users only,
 * data for nobody to execute), an L2 that goes to its kernel and back in every
 * way, and three attempts to execute what the policy forbids.
 */
import type { Scenario } from "../../host/scenario/types.ts";
import { defineScenario, machines } from "../../mod.ts";
import type { Kernel } from "../../core/kernel.ts";
import type { PluginUse } from "../../core/plugin.ts";
import type { StopInfo } from "../../core/sink.ts";
import type { CpuContext } from "../../cpu/context.ts";
import { definePlugin } from "../../core/plugin.ts";
import { type Hardware, HardwareAccess } from "../../cpu/hardware.ts";
import { hypervisor } from "../../plugins/hypervisor/plugin.ts";
import { mbec } from "../../plugins/mbec/plugin.ts";
import { GuestVisible } from "./guest_visible.ts";
import {
  ALIAS,
  type HvciGuest,
  hvciGuest,
  ORIGIN,
  PAGE,
  Right,
  type ScriptLine,
  Way,
} from "./hvci.ts";

/** What L1 runs on. */
export type Machine =
  | { readonly mbec: "hardware"; readonly cpu: string }
  | {
    readonly mbec: "trap-all" | "entry-page-nx";
    readonly exactness?: "lazy" | "exact";
    readonly cpu: string;
  };

const SEND_INTERRUPT = "mov dword [APIC+0x300], 0x40050\nnop\nsyscall";
const SEND_NMI =
  "mov dword [APIC+0x310], 0\nmov dword [APIC+0x300], 0x400\nnop\nsyscall";

/** One round through every way up and down. */
const ROUND: readonly ScriptLine[] = [
  { page: 0, code: "syscall", way: Way.Sysret },
  { page: 1, code: "sysenter", way: Way.Sysexit },
  { page: 2, code: "int 0x40", way: Way.Iret },
  { page: 3, code: "ud2", way: Way.FarRet },
  { page: 4, code: SEND_INTERRUPT, way: Way.Iret },
  { page: 5, code: SEND_NMI, way: Way.Iret },
  { page: 6, code: "call dword far [far_pointer]", way: Way.Iret },
  { page: 7, code: "syscall", way: Way.Entry },
];
/** What the policy forbids. */
const ATTACKS: readonly ScriptLine[] = [
  // The kernel is made to call user code through a supervisor alias of its page.
  {
    page: 0,
    code: "syscall",
    way: Way.Sysret,
    call: `call_U2+${ALIAS.supervisor}`,
  },
  // A user jumps into a data page, and so does the kernel.
  { page: 1, code: "jmp 0x14d000", way: Way.Iret },
  { page: 2, code: "int 0x40", way: Way.Sysret, call: "payload" },
];

/** The guest of the scene. @param rounds through every way into the kernel */
export function hvciScene(rounds: number): HvciGuest {
  const policy = new Map<number, number>();
  const { R, W, XS, XU } = Right;
  for (let i = 0; i < 8; i++) {
    policy.set(PAGE.K0 + i, R | XS | XU);
    policy.set(PAGE.U0 + i, R | XU);
  }
  for (let i = 0; i < 3; i++) policy.set(PAGE.D0 + i, R | W);
  const script: ScriptLine[] = [];
  for (let i = 0; i < rounds; i++) script.push(...ROUND);
  script.splice(ROUND.length, 0, ...ATTACKS);
  return hvciGuest({ policy, script, verbose: true });
}

/** A scene as a scenario with its files and plugins. */
export interface SceneParts {
  readonly scenario: Scenario;
  readonly files: ReadonlyMap<string, Uint8Array>;
  readonly uses: readonly PluginUse[];
}

/** What the scene is made of. */
export function sceneParts(guest: HvciGuest, machine: Machine): SceneParts {
  const uses: PluginUse[] = machine.mbec === "hardware" ? [] : [
    { plugin: hypervisor },
    {
      plugin: mbec,
      options: {
        strategy: machine.mbec,
        exactness: machine.exactness ?? "lazy",
      },
    },
  ];
  return {
    scenario: defineScenario({
      machine: { cpu: machine.cpu, memory: "2MiB" },
      guest: { flat: "hvci", at: ORIGIN, mode: "long" },
    }),
    files: new Map([["hvci", guest.image]]),
    uses,
  };
}

/** Makes the machine of the scene. */
export function machineFor(
  guest: HvciGuest,
  machine: Machine,
  more: readonly PluginUse[] = [],
): Kernel {
  const { scenario, files, uses } = sceneParts(guest, machine);
  return machines.create(scenario, files, { uses: [...more, ...uses] });
}

/** A run as its guest saw it, and what it cost L0. */
export interface SceneRun {
  readonly end: StopInfo;
  readonly serial: string;
  readonly seen: GuestVisible;
}

/** Runs the scene to its end. */
export function runScene(guest: HvciGuest, machine: Machine): SceneRun {
  let hardware: Hardware | undefined;
  const peek = definePlugin({
    name: "peek",
    version: "1.0.0",
    doc: "Lends the example the hardware to look at",
    role: "participant",
    needs: { hardware: HardwareAccess },
    setup({ use }) {
      hardware = use.hardware;
      return undefined;
    },
  });
  const kernel = machineFor(guest, machine, [{ plugin: peek }]);
  let serial = "";
  machines.serial(kernel)?.listen((byte) => {
    serial += String.fromCharCode(byte);
    return undefined;
  });
  const { physical, cpus } = hardware!;
  const seen = new GuestVisible(
    (at) => physical.readBytes(at, 4096),
    (): CpuContext => cpus[0],
  );
  kernel.sink = seen;
  const end = kernel.run({ untilStep: 10_000_000 });
  kernel.sink = undefined;
  return { end, serial, seen };
}

/** Columns of text, right-aligned after the first. */
export function table(rows: readonly (readonly string[])[]): string {
  const widths = rows[0].map((_, c) =>
    Math.max(...rows.map((row) => row[c].length))
  );
  return rows.map((row) =>
    row.map((text, c) =>
      c === 0 ? text.padEnd(widths[c]) : text.padStart(widths[c])
    ).join("  ")
  ).join("\n");
}
