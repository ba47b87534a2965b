/**
 * In-guest modules on the bare machine and under L0: the same policies, the
 * same guest-visible facts; no exit and no exception without a fault.
 */
import { assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import type { PluginUse } from "../../core/mod.ts";
import { ExceptionDelivered } from "../../cpu/facts.ts";
import { Gpr } from "../../cpu/layout.ts";
import { setGate } from "../../tests/support/machine.ts";
import { L0_RESERVE_BYTES } from "../hypervisor/api.ts";
import { hypervisor } from "../hypervisor/plugin.ts";
import { VmxExited } from "../vmx/api.ts";
import { vmx } from "../vmx/plugin.ts";
import {
  FaultReinjected,
  type GuestModule,
  IntrospectModuleRegistered,
  IntrospectModuleReleased,
  ModuleArmed,
  ModuleDisarmed,
  ModuleRedirected,
  Policy,
  ReadFaulted,
  ReadRetried,
} from "./api.ts";
import { defaultsOf, MODULE_FIELDS } from "./requests.ts";
import { PAGE_IN, PWU, Rig, WINDOW } from "../../tests/support/introspect.ts";

/** Reads [rsi] by the module; R8 gets the data, R9 the status. */
const PROGRAM = `
    mov rsi, ${WINDOW}
    call read
    mov r8, rdx
    mov r9, rax
    mov rsi, ${WINDOW + 0x1008n}
    call read
    mov r10, rdx
    mov r11, rax
    hlt
  read:
    mov edx, 0
    mov rdx, [rsi]
    xor eax, eax
    ret
  recover:
    mov edx, 0xbad
    ret
  read_end:
  handler:
    inc r12
    mov rdx, [handler_reads]
    ret
  handler_end:
  fault_handler:
    mov rax, [frame + 16]     ; linear address
    mov r13, rax
    shr rax, 12
    and eax, 511
    mov rcx, rax
    shl rcx, 12
    add rcx, ${0x100000 + 7}
    mov [rax * 8 + 0x15000], rcx
    jmp [frame + 24]          ; RIP of the read
  fault_handler_end:
  align 8
  handler_reads: dq 0x5afe
  frame: resb 48
  ${PAGE_IN}
`;

interface Arrangement {
  readonly name: string;
  readonly plugins: readonly PluginUse[];
  readonly ramBytes: number;
}
const ARRANGEMENTS: readonly Arrangement[] = [
  { name: "bare", plugins: [], ramBytes: 0x200000 },
  {
    name: "under L0",
    plugins: [{ plugin: vmx }, { plugin: hypervisor }],
    ramBytes: 0x200000 + L0_RESERVE_BYTES,
  },
];

/** First word of page 0, and word 1 of page 1, of the window. */
function expected(m: Rig): [bigint, bigint] {
  return [m.word(0x100000), m.word(0x101008)];
}

for (const { name, plugins, ramBytes } of ARRANGEMENTS) {
  const machine = (
    module: Partial<GuestModule>,
    pages: readonly bigint[] = [PWU, 0n],
    program = PROGRAM,
  ): Rig => {
    const m = new Rig(program, { pages, others: plugins, ramBytes });
    setGate(m.hardware, 14, m.at("pagein"));
    const at = (label: string): bigint => BigInt(m.at(label));
    m.kernel.inject(IntrospectModuleRegistered, {
      ...defaultsOf(MODULE_FIELDS),
      name: "reader",
      start: at("read"),
      end: at("read_end"),
      recover: at("recover"),
      ...(module.policy === Policy.Forward
        ? { handler: at("fault_handler"), handlerEnd: at("fault_handler_end") }
        : { handler: at("handler"), handlerEnd: at("handler_end") }),
      frame: at("frame"),
      ...module,
    });
    return m;
  };
  const result = (m: Rig): bigint[] => [8, 9, 10, 11].map((r) => m.v.gpr(r));

  describe(`in-guest module, ${name}`, () => {
    it("report: an error code instead of data, no exception", () => {
      const m = machine({});
      const delivered = m.collect(ExceptionDelivered);
      const redirected = m.collect(ModuleRedirected);
      const faulted = m.collect(ReadFaulted);
      const armed = m.collect(ModuleArmed);
      m.run();
      assertEquals(armed.length, 1);
      const [first] = expected(m);
      assertEquals(result(m), [first, 0n, 0xbadn, 14n]);
      assertEquals(delivered, []);
      assertEquals(m.v.cr2, 0n);
      assertEquals(faulted.map((f) => [f.module, f.linear, f.errorCode]), [
        ["reader", WINDOW + 0x1008n, 0],
      ]);
      assertEquals(redirected[0].to, BigInt(m.at("recover")));
      // mov, call, 4 of read, 2, mov, call, 1 of read, 2 of recover, 2, hlt.
      assertEquals(m.v.step, 2 + 4 + 2 + 2 + 1 + 2 + 2 + 1);
    });

    it("handler: RIP goes to the error handler", () => {
      const m = machine({ policy: Policy.Handler });
      const delivered = m.collect(ExceptionDelivered);
      m.run();
      assertEquals(m.v.gpr(Gpr.R12), 1n);
      assertEquals(result(m).slice(2), [0x5afen, 14n]);
      assertEquals(delivered, []);
    });

    it("forward: the frame goes to the fault handler, which lets it read again", () => {
      const m = machine({ policy: Policy.Forward });
      const delivered = m.collect(ExceptionDelivered);
      m.run();
      const [first, second] = expected(m);
      assertEquals(result(m), [first, 0n, second, 0n]);
      const frame = m.at("frame");
      assertEquals([m.word(frame), m.word(frame + 8)], [14n, 0n]);
      assertEquals(m.v.gpr(Gpr.R13), WINDOW + 0x1008n);
      assertEquals(delivered, []);
    });

    it("inject-and-retry: the guest pages in and the read runs again", () => {
      const m = machine({ policy: Policy.InjectAndRetry });
      const delivered = m.collect(ExceptionDelivered);
      const retried = m.collect(ReadRetried);
      m.run();
      const [first, second] = expected(m);
      assertEquals(result(m), [first, 0n, second, 0n]);
      assertEquals(delivered.map((d) => [d.vector, d.payload]), [
        [14, WINDOW + 0x1008n],
      ]);
      assertEquals(m.v.cr2, WINDOW + 0x1008n);
      assertEquals(retried.map((r) => r.module), ["reader"]);
    });

    it("inject-and-retry: gives up on a page that never comes", () => {
      const stubborn = PROGRAM.replace("mov [rax * 8 + 86016], rbx", "nop");
      const m = machine(
        { policy: Policy.InjectAndRetry, budget: 3 },
        [PWU, 0n],
        stubborn,
      );
      const delivered = m.collect(ExceptionDelivered);
      const redirected = m.collect(ModuleRedirected);
      m.run();
      assertEquals(delivered.length, 3);
      assertEquals(redirected.map((r) => r.aborted), [1]);
      assertEquals(result(m).slice(2), [0xbadn, 14n]);
    });

    it("intercepts #GP of a non-canonical read", () => {
      const m = machine({}, [PWU, PWU]);
      m.run(8);
      const program = PROGRAM.replace(
        `mov rsi, ${WINDOW + 0x1008n}`,
        "mov rsi, 0x800000000000",
      );
      const n = machine({}, [PWU, PWU], program);
      const faulted = n.collect(ReadFaulted);
      n.run();
      assertEquals(result(n).slice(2), [0xbadn, 13n]);
      assertEquals(faulted.map((f) => [f.cause, f.linear]), [
        ["general-protection", 0n],
      ]);
    });

    it("a fault in the handler aborts to report: depth one", () => {
      const m = machine(
        { policy: Policy.Handler },
        [PWU, 0n],
        PROGRAM.replace("[handler_reads]", `[abs 0x4000_2000]`),
      );
      const redirected = m.collect(ModuleRedirected);
      m.run();
      assertEquals(
        redirected.map((r) => [r.to, r.aborted]),
        [[BigInt(m.at("handler")), 0], [BigInt(m.at("recover")), 1]],
      );
      assertEquals(result(m).slice(2), [0xbadn, 14n]);
    });

    it("re-injects faults from elsewhere unchanged, and counts them", () => {
      const m = machine(
        { end: 1n << 40n, start: (1n << 40n) - 1n },
        [PWU, 0n],
      );
      const delivered = m.collect(ExceptionDelivered);
      const reinjected = m.collect(FaultReinjected);
      m.run();
      const [first, second] = expected(m);
      assertEquals(result(m), [first, 0n, second, 0n]);
      assertEquals(
        delivered.map((d) => [d.vector, d.errorCode, d.payload]),
        [[14, 0, WINDOW + 0x1008n]],
      );
      assertEquals(reinjected.map((r) => [r.count, r.rip]), [
        [1, delivered[0].rip],
      ]);
    });

    it("honours the address window, and leaves writes alone", () => {
      const outside = machine({ base: WINDOW, length: 0x1000n });
      const redirected = outside.collect(ModuleRedirected);
      outside.run();
      assertEquals(redirected, []);
      const writes = machine(
        {},
        [PWU, 0n],
        PROGRAM.replace("mov rdx, [rsi]", "xchg rdx, [rsi]"),
      );
      const also = writes.collect(ModuleRedirected);
      const delivered = writes.collect(ExceptionDelivered);
      writes.run();
      assertEquals(also, []);
      assertEquals(delivered.map((d) => d.errorCode), [2]);
    });

    it("is disarmed by its release", () => {
      const m = machine({});
      const disarmed = m.collect(ModuleDisarmed);
      m.run(2);
      m.kernel.inject(IntrospectModuleReleased, { name: "reader" });
      m.kernel.inject(IntrospectModuleReleased, { name: "reader" });
      const delivered = m.collect(ExceptionDelivered);
      m.run();
      assertEquals(disarmed.map((d) => d.why), ["", "it is not registered"]);
      assertEquals(delivered.length, 1);
    });

    it("costs nothing without a fault: no exit, no exception, no step", () => {
      const armed = machine({}, [PWU, PWU]);
      const plain = new Rig(PROGRAM, {
        pages: [PWU, PWU],
        others: plugins,
        ramBytes,
      });
      const exits = armed.collect(VmxExited);
      const delivered = armed.collect(ExceptionDelivered);
      const faulted = armed.collect(ReadFaulted);
      armed.run();
      plain.run();
      assertEquals([exits, delivered, faulted], [[], [], []]);
      assertEquals(armed.v.step, plain.v.step);
      assertEquals(result(armed), result(plain));
    });
  });
}
