/**
 * The console of a machine: what its guest sends on the serial port, and bytes
 * from outside for it.
 * Invariant: listening observes and sending injects an input; neither knows
 * how the port works.
 */
import type { Kernel } from "../core/kernel.ts";
import {
  type UartConsoleService,
  UartReceived,
  UartSent,
} from "../plugins/uart16550/api.ts";
import type { SerialPort } from "./machines.ts";

/**
 * The serial port of `kernel`; undefined if it has none.
 * @param console what the port itself remembers
 */
export function consoleOf(
  kernel: Kernel,
  console: UartConsoleService | undefined,
): SerialPort | undefined {
  if (!kernel.events.has(UartSent.name)) return undefined;
  return {
    send: (bytes) => kernel.inject(UartReceived, { bytes }),
    listen: (handler) => kernel.watch(UartSent, ({ byte }) => handler(byte)),
    tail: () => console?.tail() ?? new Uint8Array(0),
    hears: () => console?.hears ?? true,
  };
}
