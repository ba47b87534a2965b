/**
 * Debug-exit device, compatible with QEMU's isa-debug-exit at port 0xf4: a
 * write ends the machine with exit code (value << 1) | 1.
 */
import { definePlugin, u16 } from "../../core/mod.ts";
import { Devices } from "../../cpu/devices.ts";
import { DebugExitWritten } from "./api.ts";

/** Debug exit. */
export const debugexit = definePlugin({
  name: "debugexit",
  version: "1.0.0",
  doc: "Port that ends the machine with an exit code, as isa-debug-exit",
  role: "participant",
  options: { port: u16("First of its four I/O ports", 0xf4) },
  needs: { devices: Devices },
  emits: [DebugExitWritten],
  setup({ use, options, emit, stop }) {
    use.devices.ports("debugexit", options.port, options.port + 3, {
      in: () => 0,
      out(_port, _size, value) {
        emit(DebugExitWritten, { value });
        stop("the guest wrote to the debug-exit port", (value << 1 | 1) & 0xff);
      },
    });
    return undefined;
  },
});
