/** XSAVE family: formats, init optimization, header rules, leaf 0DH, in programs. */
import { assert, assertEquals } from "@std/assert";
import {
  type Ran,
  runProgram,
  TO_USER_64,
} from "../../tests/support/faults.ts";
import type { CpuContext } from "../context.ts";
import { VCPU } from "../layout.ts";

const AREA = 0x3000;
const OSXSAVE = "mov rax, cr4\nor eax, 0x40600\nmov cr4, rax\n";
const PKE = "mov rax, cr4\nor eax, 0x440600\nmov cr4, rax\n";
const xsetbv = (low: number, index = 0, high = 0): string =>
  `mov ecx, ${index}\nmov eax, ${low}\nmov edx, ${high}\nxsetbv\n`;
const mask = (low: number, high = 0): string =>
  `mov eax, ${low}\nmov edx, ${high}\n`;
const LOAD_ONE = "mov word ptr [0x2f10], 1\nfild word ptr [0x2f10]\n";
/** XCR0 = x87, SSE, PKRU; all in their initial configuration. */
const START = `${PKE}${xsetbv(0x203)}fninit\n`;

/** Fills the area with EEH and writes header words. */
function area(header: readonly bigint[], fill = 0xee) {
  return (cpu: CpuContext): void => {
    cpu.physical.writeBytes(AREA, new Uint8Array(4096).fill(fill));
    header.forEach((word, i) =>
      cpu.physical.write(AREA + 512 + i * 8, 8, word)
    );
    const v = cpu.v;
    for (let i = 0; i < 16; i++) v.setQuad(VCPU.x87 + i * 8, 0n);
  };
}
const FILL = 0xeeee_eeee_eeee_eeeen;
const ZEROS = [0n, 0n, 0n, 0n, 0n, 0n, 0n, 0n];

function ran(source: string, header: readonly bigint[] = ZEROS): Ran {
  const result = runProgram(START + source, { setup: area(header) });
  assertEquals(result.fault, "none", source);
  return result;
}
function at(r: Ran, offset: number, bytes = 8): bigint {
  return r.machine.word(AREA + offset, bytes);
}

Deno.test("XSAVE writes every requested part and only XSTATE_BV of the header", () => {
  const r = ran(
    `mov eax, 0x12345678\nmovd xmm3, eax\n${LOAD_ONE}${mask(-1, -1)}` +
      `xsave [${AREA}]`,
    [0x7000_0000_0000_0003n, FILL, 5n],
  );
  assertEquals(at(r, 0, 2), 0x37fn);
  assertEquals(at(r, 4, 1), 0x80n, "FILD took R7");
  assertEquals(at(r, 32), 0x8000_0000_0000_0000n);
  assertEquals(at(r, 40, 2), 0x3fffn);
  assertEquals(at(r, 24, 4), 0x1f80n);
  assertEquals(at(r, 160 + 48), 0x12345678n);
  assertEquals(at(r, 160), 0n, "XMM0 is written though it is zero");
  // PKRU is requested and unused: written as 0, its bit cleared; others stay.
  assertEquals(at(r, 0xa80), 0n);
  assertEquals(at(r, 512), 0x7000_0000_0000_0003n);
  assertEquals(at(r, 520), FILL);
  assertEquals(at(r, 528), 5n);
  assertEquals(at(r, 416), FILL, "the software area stays");
  assertEquals(at(r, 576), FILL);
});

Deno.test("XSAVE leaves parts alone that are not requested", () => {
  const r = ran(`${mask(1)}xsave [${AREA}]`, [0x202n]);
  assertEquals(at(r, 0, 2), 0x37fn);
  assertEquals(at(r, 24, 4), FILL & 0xffff_ffffn);
  assertEquals(at(r, 160), FILL);
  assertEquals(at(r, 512), 0x202n, "x87 is not in use after FNINIT");
});

Deno.test("XSAVEOPT skips what is unused, but for MXCSR", () => {
  const r = ran(
    `mov ecx, 0\nmov eax, 0x30\nmov edx, 0\nwrpkru\n${mask(-1)}` +
      `xsaveopt [${AREA}]\nmov eax, 0\nmov edx, 0\nwrpkru`,
    [3n],
  );
  assertEquals(at(r, 0), FILL);
  assertEquals(at(r, 160), FILL);
  assertEquals(at(r, 24, 4), 0x1f80n);
  assertEquals(at(r, 0xa80), 0x30n);
  assertEquals(at(r, 512), 0x200n);
});

Deno.test("XSAVEC compacts: PKRU follows the header, XCOMP_BV is the request", () => {
  const r = ran(
    `mov ecx, 0\nmov eax, 0x30\nmov edx, 0\nwrpkru\n${mask(0x201)}` +
      `xsavec [${AREA}]`,
    [FILL, FILL, FILL],
  );
  assertEquals(at(r, 0), FILL);
  assertEquals(at(r, 24, 4), FILL & 0xffff_ffffn);
  assertEquals(at(r, 576), 0x30n);
  assertEquals(at(r, 512), 0x200n);
  assertEquals(at(r, 520), 0x8000_0000_0000_0201n);
  assertEquals(at(r, 528), FILL);
});

Deno.test("XSAVEC and XSAVES count MXCSR to SSE", () => {
  for (const name of ["xsavec", "xsaves"]) {
    const r = ran(
      `mov dword ptr [0x2f00], 0x1f00\nldmxcsr [0x2f00]\n${mask(2)}` +
        `${name} [${AREA}]`,
    );
    assertEquals(at(r, 24, 4), 0x1f00n, name);
    assertEquals(at(r, 160), 0n, name);
    assertEquals(at(r, 512), 2n, name);
  }
});

Deno.test("XRSTOR, standard format: loads, initializes, takes MXCSR always", () => {
  const image = [0x201n, 0n, 0n];
  const r = runProgram(
    `${START}mov eax, 7\nmovd xmm2, eax\n${LOAD_ONE}` +
      `mov dword ptr [${AREA + 24}], 0x1fc0\nmov dword ptr [${AREA}], 0x37f\n` +
      `mov word ptr [${AREA + 4}], 0x80\nmov qword ptr [${
        AREA + 0xa80
      }], 0xc\n` +
      `${mask(-1)}xrstor [${AREA}]`,
    { setup: area(image, 0) },
  );
  assertEquals(r.fault, "none");
  const { v } = r.machine;
  assertEquals(v.word(VCPU.pkru), 0xc);
  assertEquals(v.quad(VCPU.vector + 2 * 64), 0n, "SSE is initialized");
  assertEquals(v.word(VCPU.mxcsr), 0x1fc0, "whatever XSTATE_BV says");
  assertEquals(v.word(VCPU.ftw) >>> 14, 1, "R7 holds zero now");
});

Deno.test("XRSTOR initializes x87 and PKRU that the area lacks", () => {
  const r = runProgram(
    `${START}mov ecx, 0\nmov eax, 0x30\nmov edx, 0\nwrpkru\n${LOAD_ONE}` +
      `mov dword ptr [${AREA + 24}], 0x1f80\n${mask(0x201)}xrstor [${AREA}]`,
    { setup: area(ZEROS) },
  );
  assertEquals(r.fault, "none");
  const { v } = r.machine;
  assertEquals(v.word(VCPU.pkru), 0);
  assertEquals(v.word(VCPU.fcw), 0x37f);
  assertEquals(v.word(VCPU.ftw), 0xffff);
  assertEquals(v.quad(VCPU.x87 + 7 * 16), 0n);
});

Deno.test("XRSTOR and XRSTORS, compacted: MXCSR belongs to SSE", () => {
  for (const name of ["xrstor", "xrstors"]) {
    for (const [xstate, mxcsr] of [[0n, 0x1f80], [2n, 0x1f00]] as const) {
      const r = runProgram(
        `${START}mov dword ptr [0x2f00], 0x1fc0\nldmxcsr [0x2f00]\n` +
          `mov dword ptr [${AREA + 24}], 0x1f00\n${mask(2)}${name} [${AREA}]`,
        { setup: area([xstate, 0x8000_0000_0000_0002n, ...ZEROS.slice(2)]) },
      );
      assertEquals(r.fault, "none");
      assertEquals(r.machine.v.word(VCPU.mxcsr), mxcsr, name);
    }
  }
});

Deno.test("a save and its restore bring the state back, in every form", () => {
  const saves = ["xsave", "xsaveopt", "xsavec", "xsaves"];
  for (const [i, name] of saves.flatMap((s) => [s, `${s}64`]).entries()) {
    const back = name.startsWith("xsaves") ? "xrstors" : "xrstor";
    const r = ran(
      `${LOAD_ONE}mov eax, 0x55aa\nmovd xmm9, eax\n` +
        `mov ecx, 0\nmov edx, 0\nmov eax, 0x44\nwrpkru\n${mask(-1)}` +
        `${name} [${AREA}]\nfninit\nxorps xmm9, xmm9\nmov edx, 0\nmov eax, 0\n` +
        `wrpkru\n${mask(-1)}${back}${i & 1 ? "64" : ""} [${AREA}]`,
    );
    const { v } = r.machine;
    assertEquals(v.quad(VCPU.vector + 9 * 64), 0x55aan, name);
    assertEquals(v.quad(VCPU.x87 + 7 * 16), 1n << 63n, name);
    assertEquals(v.word(VCPU.pkru), 0x44, name);
  }
});

const bad: readonly [string, string, string, readonly bigint[]][] = [
  ["XSTATE_BV outside XCR0", "xrstor", "#GP(0)", [4n]],
  ["byte 8 of the header", "xrstor", "#GP(0)", [0n, 1n]],
  ["byte 16 of the header", "xrstor", "#GP(0)", [0n, 0n, 1n]],
  ["byte 24 is ignored", "xrstor", "none", [0n, 0n, 0n, 1n]],
  ["XCOMP_BV outside XCR0", "xrstor", "#GP(0)", [0n, 0x8000_0000_0000_0004n]],
  [
    "XSTATE_BV outside XCOMP_BV",
    "xrstor",
    "#GP(0)",
    [2n, 0x8000_0000_0000_0001n],
  ],
  [
    "compacted, byte 56",
    "xrstor",
    "#GP(0)",
    [0n, 0x8000_0000_0000_0001n, 0n, 0n, 0n, 0n, 0n, 1n],
  ],
  ["compacted", "xrstor", "none", [1n, 0x8000_0000_0000_0003n]],
  ["compacted", "xrstors", "none", [1n, 0x8000_0000_0000_0003n]],
  ["standard format", "xrstors", "#GP(0)", [1n]],
];
for (const [what, name, fault, header] of bad) {
  Deno.test(`${name}: ${what} → ${fault}`, () => {
    const setup = area([...header, ...ZEROS.slice(header.length)], 0);
    const r = runProgram(`${START}${mask(-1)}${name} [${AREA}]`, { setup });
    assertEquals(r.fault, fault);
  });
}

Deno.test("XRSTOR refuses reserved MXCSR bits and changes nothing", () => {
  const r = runProgram(
    `${START}mov eax, 9\nmovd xmm1, eax\n${mask(3)}xrstor [${AREA}]`,
    { setup: area(ZEROS) },
  );
  assertEquals(r.fault, "#GP(0)");
  assertEquals(r.machine.v.quad(VCPU.vector + 64), 9n);
});

const faults: readonly [string, string][] = [
  [`xsave [${AREA}]`, "#UD"],
  [`xrstor [${AREA}]`, "#UD"],
  [`xsaves [${AREA}]`, "#UD"],
  [`${OSXSAVE}mov rax, cr0\nor al, 8\nmov cr0, rax\nxsave [${AREA}]`, "#NM"],
  [`${OSXSAVE}mov rax, cr0\nor al, 8\nmov cr0, rax\nxrstor [${AREA}]`, "#NM"],
  [`${OSXSAVE}xsave [${AREA + 32}]`, "#GP(0)"],
  [`${OSXSAVE}xrstor [${AREA + 8}]`, "#GP(0)"],
  [`${OSXSAVE}${TO_USER_64}xsaves [${AREA}]`, "#GP(0)"],
  [`${OSXSAVE}${TO_USER_64}xrstors [${AREA}]`, "#GP(0)"],
  [`${OSXSAVE}${TO_USER_64}xsavec [${AREA}]`, "none"],
  [`${OSXSAVE}mov rbx, 0x40000000\nxsave [rbx]`, "#PF(2)"],
  [`${OSXSAVE}mov rbx, 0x40000000\nxrstor [rbx]`, "#PF(0)"],
  [`${OSXSAVE}mov rbx, 1 << 60\nxsave [rbx]`, "#GP(0)"],
  [OSXSAVE + xsetbv(3), "none"],
  [OSXSAVE + xsetbv(2), "#GP(0)"],
  [OSXSAVE + xsetbv(7), "#GP(0)"],
  [OSXSAVE + xsetbv(0x203), "none"],
  [OSXSAVE + xsetbv(3, 1), "#GP(0)"],
  [OSXSAVE + xsetbv(3, 0, 1), "#GP(0)"],
  [`${OSXSAVE}${TO_USER_64}${xsetbv(3)}`, "#GP(0)"],
  [`${OSXSAVE}mov ecx, 1\nxgetbv`, "none"],
  [`${OSXSAVE}mov ecx, 2\nxgetbv`, "#GP(0)"],
  ["mov ecx, 0\nrdpkru", "#UD"],
  [`${PKE}mov ecx, 1\nrdpkru`, "#GP(0)"],
  [`${PKE}mov ecx, 0\nmov edx, 0\nwrpkru`, "none"],
  [`${PKE}mov ecx, 0\nmov edx, 1\nwrpkru`, "#GP(0)"],
  ["mov ecx, 0xda0\nmov eax, 0\nmov edx, 0\nwrmsr", "none"],
  ["mov ecx, 0xda0\nmov eax, 0x100\nmov edx, 0\nwrmsr", "#GP(0)"],
];
for (const [program, fault] of faults) {
  Deno.test(`${program.replaceAll("\n", "; ").slice(-60)} → ${fault}`, () => {
    // HLT is privileged: code at CPL 3 ends at a page fault instead.
    const user = program.includes(TO_USER_64);
    const source = user && fault === "none" ? `${program}\nud2` : program;
    const expected = user && fault === "none" ? "#UD" : fault;
    assertEquals(
      runProgram(source, { setup: area(ZEROS, 0) }).fault,
      expected,
    );
  });
}

Deno.test("XGETBV with ECX = 1 tells what is in use", () => {
  const use = (source: string): number => {
    const r = ran(`${source}\nmov ecx, 1\nxgetbv`);
    return r.machine.v.gpr32(0);
  };
  assertEquals(use(""), 0);
  assertEquals(use(LOAD_ONE), 1);
  assertEquals(use("mov eax, 1\nmovd xmm15, eax"), 2);
  assertEquals(use("mov ecx, 0\nmov eax, 4\nmov edx, 0\nwrpkru"), 0x200);
});

Deno.test("leaf 0DH follows XCR0 and vendor", () => {
  const leaf = (source: string, sub: number, model: string): number[] => {
    const r = runProgram(
      `${source}mov eax, 13\nmov ecx, ${sub}\ncpuid`,
      { model, setup: area(ZEROS) },
    );
    return [0, 3, 1, 2].map((i) => r.machine.v.gpr32(i));
  };
  assertEquals(leaf("", 0, "max-intel"), [0x203, 576, 0xa88, 0]);
  assertEquals(leaf(START, 0, "max-intel"), [0x203, 0xa88, 0xa88, 0]);
  assertEquals(leaf(START, 1, "max-intel"), [0xf, 584, 0, 0]);
  assertEquals(leaf("", 9, "max-intel"), [8, 0xa80, 0, 0]);
  assertEquals(leaf("", 9, "zen3"), [8, 0x340, 0, 0]);
  assertEquals(leaf("", 9, "haswell-server"), [0, 0, 0, 0]);
  assertEquals(leaf("", 1, "haswell-server"), [1, 0, 0, 0]);
  assertEquals(leaf("", 0, "haswell-server"), [3, 576, 576, 0]);
  assert(leaf("", 2, "max-intel").every((x) => x === 0));
});
