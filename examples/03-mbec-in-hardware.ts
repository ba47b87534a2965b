/**
 * Mode-based execute control in hardware.
 *
 *   deno run --allow-read=. examples/03-mbec-in-hardware.ts
 *
 * A guest hypervisor (L1) gives each page of its guest (L2) execute rights for
 * user-mode and for supervisor-mode addresses apart: bits 10 and 2 of its EPT
 * entries. Its own guest tries three times to execute what that forbids. Each
 * is an EPT violation, which L1 logs on the serial port.
 */
import { hvciScene, runScene, type SceneRun } from "./guests/scene.ts";

/** Runs the scene on a CPU that has MBEC. */
export function runInHardware(): SceneRun {
  return runScene(hvciScene(2), { mbec: "hardware", cpu: "skylake-server" });
}

if (import.meta.main) {
  const { serial, seen, end } = runInHardware();
  console.log(serial.trimEnd());
  console.log(
    `${end.step} steps, ${seen.hardwareExits} VM exits, all of them to L1.`,
  );
}
