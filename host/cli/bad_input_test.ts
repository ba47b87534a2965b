/**
 * Bad input to `vmtape run` on real machines: scenarios, plugins, images,
 * machines and command lines, each with an error that names file, place and
 * remedy (issue 2, "Bad input"), and with what was recorded kept.
 * Invariant: each row states the exit status and every part of the message
 * that a reader needs: where it is and what to do.
 */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { afterAll, beforeAll, describe, it } from "@std/testing/bdd";
import { machines } from "../machine.ts";
import { Workbench } from "./cli_testing.ts";

const ROOT = new URL("../../", import.meta.url);
const HELLO = `start:
  mov dx, 0x3f8
  mov al, 65
  out dx, al
  mov al, 0
  out 0xf4, al
`;

let bench: Workbench;
beforeAll(() => {
  bench = new Workbench([], machines);
  bench.put("ok.asm", HELLO);
});
afterAll(() => bench.close());

/** A scenario around `ok.asm`; `plugins` stands in line 3 from column 10. */
const withPlugins = (plugins: string): string =>
  `machine: {memory: 2MiB, cpu: haswell-server}\nguest: {asm: ./ok.asm}\nplugins: ${plugins}\n`;

/** An observer's module. */
function observer(name: string, setup: string, spec = "", head = ""): string {
  return `import { defineEvent, definePlugin, defineService, u32 } from "${ROOT}mod.ts";
import { UartSent } from "${ROOT}plugins/uart16550/api.ts";
const Seen = defineEvent({ name: "${name}.seen", version: 1, kind: "note", doc: "A byte", fields: { n: u32("Number") } });
${head}
export default definePlugin({
  name: "${name}", version: "1.0.0", doc: "Bad on purpose", role: "observer", ${spec}
  setup({ on, emit }) { ${setup}; return undefined; },
});
`;
}

/** A participant that needs and provides services. */
const participant = (name: string, needs: string, provides: string): string =>
  `import { definePlugin } from "${ROOT}mod.ts";
import { A, B } from "./services.ts";
export default definePlugin({
  name: "${name}", version: "1.0.0", doc: "Half of a circle", role: "participant",
  needs: { other: ${needs} }, provides: { mine: ${provides} },
  setup({ provide }) { provide.mine({}); return undefined; },
});
`;
const SERVICES = `import { defineService } from "${ROOT}mod.ts";
export const A = defineService("ca.thing", "A thing");
export const B = defineService("cb.thing", "Another");
`;

/** An ELF header of some class and machine, and nothing else. */
function elf(elfClass: number, machine: number): Uint8Array {
  const bytes = new Uint8Array(4096);
  bytes.set([0x7f, 0x45, 0x4c, 0x46, elfClass, 1, 1]);
  bytes[16] = 2;
  bytes[18] = machine;
  bytes[20] = 1;
  bytes[52] = 64;
  bytes[54] = 56;
  return bytes;
}

interface Case {
  readonly name: string;
  /** The command line; `run b.yaml` by default. */
  readonly line?: string | readonly string[];
  readonly files?: { readonly [file: string]: string | Uint8Array };
  readonly parts: readonly string[];
}

const YAML_CASES: readonly Case[] = [
  {
    name: "a broken line",
    files: { "b.yaml": "machine: [\n" },
    parts: ["b.yaml:2:1: not YAML"],
  },
  {
    name: "a tab",
    files: { "b.yaml": "machine:\n\tcpu: x\n" },
    parts: ["b.yaml:2:1: not YAML", "Tabs"],
  },
  {
    name: "a key twice",
    files: { "b.yaml": "machine: {memory: 2MiB, memory: 4MiB}\n" },
    parts: ["b.yaml:1:25: not YAML", "unique"],
  },
  {
    name: "nothing",
    files: { "b.yaml": "" },
    parts: ["b.yaml:1:1: expected a scenario", "machine, guest", "nothing"],
  },
  {
    name: "bytes that are no text",
    files: { "b.yaml": Uint8Array.of(0, 255, 1, 2, 3) },
    parts: ["b.yaml:1:1: not YAML"],
  },
  {
    name: "a misspelt CPU model",
    files: {
      "b.yaml": "guest: {asm: ./ok.asm}\nmachine: {cpu: haswel-server}",
    },
    parts: ["b.yaml:2:16: machine.cpu:", 'did you mean "haswell-server"?'],
  },
  {
    name: "nine vCPUs",
    files: { "b.yaml": "guest: {asm: ./ok.asm}\nmachine: {cpus: 9}\n" },
    parts: ["b.yaml:2:17: machine.cpus:", "write cpus: 8"],
  },
  {
    name: "memory with the hypervisor's share too large",
    files: {
      "b.yaml":
        "machine: {memory: 3GiB}\nguest: {asm: ./ok.asm}\nplugins: [hypervisor]\n",
    },
    parts: ["b.yaml:1:19: machine.memory:", "plugin hypervisor", "or less"],
  },
  {
    name: "an image that is no multiboot",
    files: {
      "b.yaml": "guest: {multiboot: ./x.bin}\n",
      "x.bin": new Uint8Array(5000),
    },
    parts: [
      "b.yaml:1:20: guest.multiboot: load ./x.bin as multiboot: no multiboot header",
      "0x1badb002",
    ],
  },
  {
    name: "mistakes in an assembly block, at the YAML's own line and column",
    files: {
      "b.yaml":
        "machine: {memory: 2MiB}\nguest:\n  asm: |\n    start:\n      mov rax, [\n\n      bogus\n",
    },
    parts: [
      "b.yaml:5:17: address: found the line's end",
      "mov rax, [\n",
      "b.yaml:7:7: unknown instruction or directive `bogus`",
    ],
  },
  {
    name: "mistakes in folded text, which has no lines of its own",
    files: { "b.yaml": "guest:\n  asm: >\n    bogus eax\n    nop\n" },
    parts: ["b.yaml: guest.asm:1:1: unknown instruction"],
  },
];

const PLUGIN_CASES: readonly Case[] = [
  {
    name: "an unknown plugin",
    files: { "b.yaml": withPlugins("[mbce]") },
    parts: ["b.yaml:3:11: plugins[0]: load plugin mbce", "did you mean mbec?"],
  },
  {
    name: "an unknown option",
    files: { "b.yaml": withPlugins("[{uart16550: {prot: 1}}]") },
    parts: [
      "b.yaml:3:11: plugins[0]: set option prot of plugin uart16550",
      "use one of port, irq",
      "did you mean port?",
    ],
  },
  {
    name: "an option's value out of range",
    files: { "b.yaml": withPlugins("[vmx, {debugexit: {port: 99999}}]") },
    parts: [
      "b.yaml:3:16: plugins[1]: set option port of plugin debugexit",
      "expected u16, found 99999",
    ],
  },
  {
    name: "an option's value that is no such word",
    files: { "b.yaml": withPlugins("[hypervisor, {mbec: {strategy: lasy}}]") },
    parts: [
      "plugins[1]: set option strategy of plugin mbec",
      "expected one of trap-all, entry-page-nx",
    ],
  },
  {
    name: "a plugin without the one that it needs",
    files: { "b.yaml": withPlugins("[mbec]") },
    parts: [
      "load plugin mbec",
      "add the plugin that does (usually hypervisor)",
    ],
  },
  {
    name: "a plugin twice",
    files: { "b.yaml": withPlugins("[uart16550, uart16550]") },
    parts: ["b.yaml:3:22: plugins[1]", "list it once"],
  },
  {
    name: "a cycle of needs",
    files: {
      "b.yaml": withPlugins("[./ca.ts, ./cb.ts]"),
      "services.ts": SERVICES,
      "ca.ts": participant("ca", "B", "A"),
      "cb.ts": participant("cb", "A", "B"),
    },
    parts: ["ca → cb → ca need each other's services", "late("],
  },
  {
    name: "a syntax error",
    files: {
      "b.yaml": withPlugins("[./syntax.ts]"),
      "syntax.ts": "export default {{{\n",
    },
    parts: [
      "b.yaml:3:11: plugins[0]: load plugin ./syntax.ts:",
      "syntax.ts:1:",
    ],
  },
  {
    name: "a throw at load",
    files: {
      "b.yaml": withPlugins("[./throws.ts]"),
      "throws.ts": "\nthrow new Error('boo at load');\n",
    },
    parts: ["load plugin ./throws.ts: boo at load", "throws.ts:2:7"],
  },
  {
    name: "a throw in setup",
    files: {
      "b.yaml": withPlugins("[./setup.ts]"),
      "setup.ts": observer("bad-setup", 'throw new Error("boo in setup")'),
    },
    parts: ["set up plugin bad-setup (./setup.ts): boo in setup"],
  },
  {
    name: "an event under a name that is taken",
    files: {
      "b.yaml": withPlugins("[./taken.ts]"),
      "taken.ts": observer("taken", "", "emits: [Seen],").replace(
        '"taken.seen"',
        '"uart.sent"',
      ),
    },
    parts: [
      "register event uart.sent for taken",
      "import one token everywhere",
    ],
  },
];

const MACHINE_CASES: readonly Case[] = [
  ...["0", "64GiB", "3500", "4KiB"].map((memory) => ({
    name: `memory of ${memory}`,
    line: `run ok.asm --memory ${memory}`,
    parts: ["--memory: expected 64KiB to 3GiB in pages of 4KiB", `"${memory}"`],
  })),
  {
    name: "memory that is no whole number of pages",
    line: "run ok.asm --memory 1000001",
    parts: ["--memory: expected"],
  },
  {
    name: "memory below nothing",
    line: ["run", "ok.asm", "--memory", "-5"],
    parts: ["--memory: expected a size with unit", '"-5"'],
  },
  { name: "no vCPU", line: "run ok.asm --cpus 0", parts: ["from 1 to 64"] },
  { name: "long step", line: "run ok.asm --pace 1001", parts: ["to 1000"] },
  { name: "nine vCPUs", line: "run ok.asm --cpus 9", parts: ["at most 8"] },
  {
    name: "an unknown CPU model",
    line: "run ok.asm --cpu zen9",
    parts: ['no model is called "zen9"', 'did you mean "zen1"'],
  },
  {
    name: "an unknown CPU flag",
    line: "run ok.asm --cpu skylake-server,-vmx-mbecc",
    parts: ['no CPU flag is called "vmx-mbecc"', '"vmx-mbec"'],
  },
  {
    name: "a CPU flag without its sign",
    line: "run ok.asm --cpu haswell-server,pcid",
    parts: ['write "+pcid" or "-pcid"'],
  },
  {
    name: "a CPU flag that is not modelled",
    line: "run ok.asm --cpu haswell-server,+avx512f",
    parts: ['"avx512f" is known but not modelled', 'leave out "+avx512f"'],
  },
];

const IMAGE_CASES: readonly Case[] = [
  {
    name: "bytes of no kind",
    line: "run --kernel x.bin",
    files: { "x.bin": new Uint8Array(5000).fill(7) },
    parts: ["load x.bin: neither a multiboot 1 image", "give one of these"],
  },
  {
    name: "an empty file",
    line: "run --kernel x.bin",
    files: { "x.bin": new Uint8Array(0) },
    parts: ["load x.bin:", "it is empty"],
  },
  {
    name: "an ELF of another machine",
    line: "run --kernel arm.elf",
    files: { "arm.elf": elf(2, 183) },
    parts: ["ELF arm.elf: machine 183", "give one for x86 (3) or x86-64 (62)"],
  },
  {
    name: "an ELF of no known class",
    line: "run --kernel c3.elf",
    files: { "c3.elf": elf(3, 62) },
    parts: ["ELF c3.elf: class 3", "32-bit or 64-bit"],
  },
  {
    name: "an ELF that breaks off",
    line: "run --kernel cut.elf",
    files: { "cut.elf": elf(2, 62).slice(0, 20) },
    parts: ["ELF cut.elf:", "the file is truncated"],
  },
  {
    name: "mistakes in an assembly file",
    line: "run e.asm",
    files: { "e.asm": "start:\n  mov eax, eeax\n  jmp nowhere\n" },
    parts: ["e.asm:2:12: `eeax` isn't defined", "e.asm:3:7: `nowhere`"],
  },
  {
    name: "a guest larger than its memory",
    line: "run big.asm --memory 2",
    files: { "big.asm": "start: jmp start\ntimes 2000000 db 1\n" },
    parts: ["load big.asm:", "the machine has 2 MiB of memory; give it 3 MiB"],
  },
  {
    name: "a folder",
    line: "run --kernel .",
    parts: ["read .: it is a folder, name a file"],
  },
  {
    name: "a module that isn't there",
    line: "run --kernel arm.elf --initrd gone.txt",
    parts: ["read gone.txt: there is no such file"],
  },
  {
    name: "words that assembly has no use for",
    line: "run ok.asm --append x",
    parts: ["--append is for multiboot and ELF images", "leave it out"],
  },
  {
    name: "a folder as tape",
    line: "run ok.asm --tape .",
    parts: ["create tape .: it is a folder"],
  },
  {
    name: "a tape in a folder that isn't there",
    line: "run ok.asm --tape no/where.tape",
    parts: ["create tape no/where.tape: there is no such folder"],
  },
];

const LINE_CASES: readonly Case[] = [
  {
    name: "an unknown command",
    line: "evnts x.tape",
    parts: ["did you mean events?", "Try `vmtape --help`"],
  },
  {
    name: "an unknown option",
    line: "run ok.asm --memroy 5",
    parts: ["run has no option --memroy; did you mean --memory?"],
  },
  {
    name: "an option without its value",
    line: "run ok.asm --append",
    parts: ["--append needs a value", "--append=TEXT"],
  },
  {
    name: "an option's name where its value should be",
    line: ["run", "ok.asm", "--append", "--memory", "5"],
    parts: ["--append needs a value", "--append=TEXT"],
  },
];

for (
  const [title, cases] of [
    ["a scenario with", YAML_CASES],
    ["plugins:", PLUGIN_CASES],
    ["a machine with", MACHINE_CASES],
    ["a guest that is", IMAGE_CASES],
    ["a command line with", LINE_CASES],
  ] as const
) {
  describe(title, () => {
    for (const { name, line = "run b.yaml", files = {}, parts } of cases) {
      it(`${name}: status 2, and where and what to do`, async () => {
        for (const [file, data] of Object.entries(files)) bench.put(file, data);
        const { status, out, err } = await bench.run(line);
        assertEquals([status, out], [2, ""], err);
        for (const part of parts) assertStringIncludes(err, part);
        assert(!err.includes("internal error"), err);
      });
    }
  });
}

describe("values that start with a dash", () => {
  it("reach the guest's command line", async () => {
    // a multiboot header with addresses, then `hlt`
    const source = new Uint8Array(4096);
    const view = new DataView(source.buffer);
    const FLAGS = 0x10000;
    [
      0x1badb002,
      FLAGS,
      -(0x1badb002 + FLAGS),
      0x100000,
      0x100000,
      0x101000,
      0x101000,
      0x100020,
    ].forEach((word, i) => view.setUint32(4 * i, word >>> 0, true));
    source[0x20] = 0xf4;
    bench.put("mb.bin", source);
    for (
      const words of [
        ["--append", "-v --foo"],
        ["--append=-v --foo"],
      ]
    ) {
      const { status, err } = await bench.run([
        "run",
        "--kernel",
        "mb.bin",
        ...words,
        "--memory",
        "4",
      ]);
      assertEquals(status, 0, err);
      assertStringIncludes(
        (await bench.run("info mb.tape")).out,
        'append "-v --foo"',
      );
    }
  });
});
