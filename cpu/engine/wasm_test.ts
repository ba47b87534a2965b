// The encoder's modules compile and compute what they say.
import { assertEquals, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { FunctionBody, I32, I64, Mem, Op, VOID, WasmModule } from "./wasm.ts";

function instance(
  module: WasmModule,
  imports: WebAssembly.Imports = {},
): Record<string, (...args: (number | bigint)[]) => unknown> {
  return new WebAssembly.Instance(
    new WebAssembly.Module(module.encode()),
    imports,
  ).exports as Record<string, (...args: (number | bigint)[]) => unknown>;
}

describe("wasm encoder", () => {
  it("encodes signed constants at their limits", () => {
    const module = new WasmModule();
    const values = [
      0n,
      -1n,
      63n,
      64n,
      -64n,
      -65n,
      2n ** 63n - 1n,
      -(2n ** 63n),
    ];
    values.forEach((value, i) => {
      const body = new FunctionBody([]);
      body.i64(value);
      module.exportFunction(`v${i}`, module.function(body, [I64]));
    });
    const e = instance(module);
    values.forEach((value, i) => assertEquals(e[`v${i}`](), value));
  });

  it("loops, branches and touches memory", () => {
    const module = new WasmModule();
    module.importMemory("env", "memory", 1);
    const body = new FunctionBody([I32]);
    const sum = body.local(I64);
    body.block().loop();
    body.get(0).op(Op.i32_eqz).brIf(1);
    body.get(sum).get(0).op(Op.i64_extend_i32_u).op(Op.i64_add).set(sum);
    body.get(0).i32(1).op(Op.i32_sub).set(0).br(0);
    body.end().end();
    body.i32(16).get(sum).mem(Mem.i64_store, 8);
    body.i32(16).mem(Mem.i64_load, 8);
    module.exportFunction("sum", module.function(body, [I64]));
    const memory = new WebAssembly.Memory({ initial: 1 });
    const { sum: run } = instance(module, { env: { memory } });
    assertEquals(run(100), 5050n);
    assertEquals(new DataView(memory.buffer).getBigUint64(24, true), 5050n);
  });

  it("calls through a shared table", () => {
    const table = new WebAssembly.Table({ initial: 2, element: "anyfunc" });
    const callee = new WasmModule();
    callee.importTable("env", "table", 2);
    const twice = new FunctionBody([I64]);
    twice.get(0).i64(2n).op(Op.i64_mul);
    callee.element(1, [callee.function(twice, [I64])]);
    instance(callee, { env: { table } });
    const caller = new WasmModule();
    caller.importTable("env", "table", 2);
    const type = caller.type([I64], [I64]);
    const body = new FunctionBody([I64]);
    body.get(0).i32(1).callIndirect(type);
    caller.exportFunction("f", caller.function(body, [I64]));
    assertEquals(instance(caller, { env: { table } }).f(21n), 42n);
  });

  it("refuses a body with an open block", () => {
    const body = new FunctionBody([]);
    body.block(VOID);
    assertThrows(() => body.encode(), Error, "still open");
  });
});
