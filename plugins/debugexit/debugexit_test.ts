/** The debug-exit port: exit codes as QEMU's, at every width and port. */
import { assertEquals } from "@std/assert";
import { TestMachine } from "../../tests/support/machine.ts";
import { DebugExitWritten } from "./api.ts";
import { debugexit } from "./plugin.ts";

Deno.test("a write ends the machine with (value << 1) | 1, as a process sees it", () => {
  for (const value of [0, 1, 2, 0x7f, 0x80, 0xff]) {
    const m = new TestMachine(`mov al, ${value}\nout 0xf4, al\nhlt`, {
      plugins: [{ plugin: debugexit }],
    });
    const seen = m.collect(DebugExitWritten);
    const stop = m.run();
    assertEquals(stop.kind, "stopped");
    assertEquals(stop.exitCode, (value << 1 | 1) & 0xff);
    assertEquals(seen, [{ value }]);
    assertEquals(m.v.step, 2, "nothing runs after it");
  }
});

Deno.test("wider writes, all four ports, another base; reads give 0", () => {
  for (let port = 0x501; port < 0x505; port++) {
    const m = new TestMachine(
      `mov dx, ${port}\nin eax, dx\nmov ebx, eax\nmov eax, 0x12345\nout dx, eax`,
      { plugins: [{ plugin: debugexit, options: { port: 0x501 } }] },
    );
    const seen = m.collect(DebugExitWritten);
    assertEquals(m.run().exitCode, 0x12345 << 1 & 0xff | 1);
    assertEquals(seen, [{ value: 0x12345 }]);
    assertEquals(m.v.gpr(3), 0n);
  }
});
