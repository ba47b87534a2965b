/**
 * The conformance kit on svm: a guest hypervisor that runs one guest again and
 * again, under nested paging, with injections, a failing VMRUN and intercepts.
 */
import { assert, assertEquals } from "@std/assert";
import type { Kernel } from "../../core/kernel.ts";
import type { Plugin, PluginUse } from "../../core/plugin.ts";
import { assemble } from "../../host/asm/mod.ts";
import { machines } from "../../host/machine.ts";
import { defineScenario } from "../../host/scenario/define.ts";
import { debugexit } from "../../plugins/debugexit/plugin.ts";
import { decoder } from "../../plugins/decoder/plugin.ts";
import { mmu } from "../../plugins/mmu/plugin.ts";
import { svm } from "../../plugins/svm/plugin.ts";
import { checkPlugin } from "../../testing/mod.ts";

const ORIGIN = 0x8000;
/** VMCB fields by offset, as host code writes them. */
const HOST = `
  mov ecx, 0xc0000080     ; EFER.SVME
  rdmsr
  or eax, 0x1000
  wrmsr
  mov ecx, 0xc0010117     ; VM_HSAVE_PA
  mov eax, 0x30000
  xor edx, edx
  wrmsr
  mov rbx, 0x31000        ; the VMCB
  mov rax, rbx
  vmsave rax
  mov dword [rbx + 0x0c], 0x00040000      ; CPUID
  mov dword [rbx + 0x10], 3               ; VMRUN, VMMCALL
  mov dword [rbx + 0x58], 1               ; ASID
  mov qword [rbx + 0x90], 1               ; nested paging
  mov qword [rbx + 0xb0], 0x40000
  mov rdi, 0x40000
  mov qword [rdi], 0x41007
  mov qword [rdi + 0x1000], 0x42007
  mov qword [rdi + 0x2000], 0x87
  mov dword [rbx + 0x410], 0x0a9b0008     ; CS
  mov dword [rbx + 0x414], 0xffffffff
  mov dword [rbx + 0x420], 0x0c930010     ; SS
  mov dword [rbx + 0x424], 0xffffffff
  mov ecx, 0xc0000080
  rdmsr
  mov [rbx + 0x4d0], rax
  mov rax, cr4
  mov [rbx + 0x548], rax
  mov rax, cr3
  mov [rbx + 0x550], rax
  mov rax, cr0
  mov [rbx + 0x558], rax
  mov qword [rbx + 0x560], 0x400
  mov dword [rbx + 0x568], 0xffff0ff0
  mov qword [rbx + 0x570], 2
  mov rax, guest
  mov [rbx + 0x578], rax
  mov qword [rbx + 0x5d8], 0x7000
  mov rax, 0x0007040600070406
  mov [rbx + 0x668], rax
again:
  inc r15
  test r15, 7
  jnz enter
  mov dword [rbx + 0x58], 0               ; now and then it fails
enter:
  mov rax, rbx
  vmrun rax
  mov dword [rbx + 0x58], 1
  mov rax, [rbx + 0x70]
  cmp rax, 0x400                          ; NPF: map 2 MiB more
  jne next
  mov rax, [rbx + 0x80]
  shr rax, 21
  mov qword [rdi + 0x2000 + rax * 8], 0x87
  jmp again
next:
  cmp rax, -1
  je again
  mov rax, [rbx + 0xc8]
  mov [rbx + 0x578], rax
  jmp again
guest:
  inc r14
  cpuid
  mov rax, r14
  and rax, 15
  shl rax, 21
  mov [rax + 0x60000], r14
  vmmcall
  jmp guest
`;

function load(uses: readonly PluginUse[]): Kernel {
  const image = assemble(HOST, { bits: 64, origin: ORIGIN });
  const scenario = defineScenario({
    machine: { cpu: "max-amd", memory: "2MiB" },
    guest: { flat: "guest", at: ORIGIN, mode: "long" },
  });
  return machines.create(scenario, new Map([["guest", image.bytes]]), {
    uses,
    engine: "reference",
  });
}

Deno.test("svm conforms", () => {
  const others: readonly Plugin[] = [decoder, mmu, debugexit];
  const report = checkPlugin({ plugin: svm }, {
    load,
    plugins: others.map((plugin) => ({ plugin })),
    steps: 2500,
    restores: 4,
  });
  const about = [...report.emitted].map(([n, c]) => `${n} ${c}`).join(", ");
  assertEquals(report.findings, [], about);
  assert([...report.emitted.values()].every((n) => n > 0), about);
});
