/** What a real-mode guest finds: vectors that return, a ticking timer. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { ConfigError } from "../../core/errors.ts";
import { TestMachine } from "../../tests/support/machine.ts";
import { lapic } from "../lapic/plugin.ts";
import { pic8259 } from "../pic8259/plugin.ts";
import { pit8254 } from "../pit8254/plugin.ts";
import { firmware } from "./plugin.ts";

const PLUGINS = [lapic, pic8259, pit8254, firmware].map((plugin) => ({
  plugin,
}));

Deno.test("INT n returns for every vector, registers and stack as before", () => {
  const calls = Array.from({ length: 256 }, (_, n) => `int ${n}`).join("\n");
  const m = new TestMachine(
    `mov ax, 0x1234\nmov sp, 0x7000\ncli\n${calls}\nmov [0x3000], ax\nspin: jmp spin`,
    { mode: "real", plugins: PLUGINS },
  );
  m.run(5000);
  assertEquals(m.word(0x3000, 2), 0x1234n);
  assertEquals(m.v.gpr(4), 0x7000n);
});

Deno.test("the timer ends HLT 18.2 times a second, and again after its EOI", () => {
  const m = new TestMachine(
    "mov sp, 0x7000\nsti\nagain: hlt\ninc word ptr [0x3000]\njmp again",
    { mode: "real", plugins: PLUGINS },
  );
  while (m.executor.step() + m.executor.idle() < 1_000_000_000) m.run(10);
  assertEquals(m.word(0x3000, 2), 18n);
});

Deno.test("only the timer's line is open, at vectors 8 and 70h", () => {
  const m = new TestMachine("hlt", { mode: "real", plugins: PLUGINS });
  m.run(1);
  const { devices } = m.executor;
  assertEquals([devices.in(0x21, 1), devices.in(0xa1, 1)], [0xfa, 0xff]);
});

Deno.test("a guest in the way is an error that says so", () => {
  const m = new TestMachine("hlt", {
    mode: "real",
    plugins: PLUGINS,
    setup: (_cpu, { physical }) => physical.writeU32(0x40, 1),
  });
  const error = assertThrows(() => m.run(1), ConfigError);
  assert(error.message.includes("guest's image lies"));
});
