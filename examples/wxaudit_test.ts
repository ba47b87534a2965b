/**
 * The conformance kit on the third-party example, as its author would use it,
 * and what it notes when a page changes its rights.
 */
import { assertEquals } from "@std/assert";
import {
  defineScenario,
  type Kernel,
  machines,
  type PluginUse,
} from "../mod.ts";
import { assertConforms } from "../testing/mod.ts";
import wxaudit, { WxFound } from "./wxaudit.ts";

const PAGE = 0x1_0000_0000n;
/** A page that is data, then writable code, then code. */
const source = `
  start:
    mov ecx, 0xc0000080       ; IA32_EFER
    rdmsr
    or eax, 1 << 11           ; NXE
    wrmsr
    mov qword [0x99000 + 4 * 8], directory + 3
    mov rdi, ${PAGE}
    mov rax, [rdi]
    mov dword [table + 4], 0
    invlpg [rdi]
    mov rax, [rdi]
    mov dword [table], page + 1
    invlpg [rdi]
    mov rax, [rdi]
    hlt
  align 4096
  directory:
    dq table + 3
    times 511 dq 0
  table:
    dd page + 3, 0x80000000
    times 511 dq 0
  page: times 512 dq 0
`;

function load(uses: readonly PluginUse[]): Kernel {
  const scenario = defineScenario({
    machine: { cpu: "qemu64", memory: "4MiB", platform: "none" },
    guest: { asm: source },
  });
  return machines.create(scenario, new Map(), { uses });
}

Deno.test("wxaudit conforms", () => {
  const report = assertConforms({ plugin: wxaudit }, {
    load,
    plugins: [],
    steps: 100,
  });
  assertEquals(report.findings, []);
});

Deno.test("wxaudit notes a page when it becomes writable and executable", () => {
  const kernel = load([{ plugin: wxaudit }]);
  const found: number[] = [];
  kernel.watch(WxFound, ({ linear, walks }) => {
    if (linear === PAGE) found.push(walks);
    return undefined;
  });
  kernel.run();
  assertEquals(found, [1]);
});
