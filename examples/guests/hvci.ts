/**
 * Makes guests after hvci.asm: an L1 with a mode-based execute policy and an L2
 * whose user program is a script. Pages of the policy:
 *
 *   K0–K7  0x150000  kernel code, supervisor; K1–K7 one way into the kernel each
 *   U0–U7  0x158000  user code
 *   D0–D2  0x14d000  user data
 *
 * All of them appear twice more in L2's linear memory: at +0x30000 as
 * supervisor pages, at +0x40000 as user pages.
 */
import { assemble, type AssembledImage } from "../../host/asm/mod.ts";
import { VmcsField as F } from "../../plugins/vmx/api.ts";

/** Rights of a page in L1's EPT; `Grant`: L1 grants all on the first violation. */
export const Right = {
  R: 1,
  W: 2,
  XS: 4,
  XU: 0x400,
  Grant: 2 ** 52,
} as const;

/** How L2's kernel goes to a script line. */
export const Way = {
  Iret: 0,
  Sysret: 1,
  Sysexit: 2,
  FarRet: 3,
  /** A VM entry at CPL 3. */
  Entry: 4,
} as const;
/** Titles of the ways down, by value. */
export const WAY_TITLES = ["IRET", "SYSRET", "SYSEXIT", "far RET", "VM entry"];
/** Titles of the ways up, in the order of the guest's counters. */
export const ESCALATION_TITLES = [
  "SYSCALL",
  "SYSENTER",
  "exception",
  "INT n",
  "interrupt",
  "NMI",
  "call gate",
];

/** One line of the script. */
export interface ScriptLine {
  /** User code page 0–7 that holds `code`. */
  readonly page: number;
  /** Assembly text; it ends by a way into the kernel. */
  readonly code?: string;
  /** Instead of code: an address to go to. */
  readonly target?: string;
  readonly way?: number;
  /** RFLAGS for IRET and SYSRET. */
  readonly flags?: number;
  /** What the kernel then calls at CPL 0. */
  readonly call?: string;
}

/** What varies. */
export interface HvciOptions {
  /** Rights by page number; others of L2 are read and write. */
  readonly policy?: ReadonlyMap<number, number>;
  readonly script: readonly ScriptLine[];
  /** Controls beside those that the guest needs. */
  readonly pin?: number;
  readonly primary?: number;
  readonly secondary?: number;
  readonly exceptionBitmap?: number;
  /** VM-exit controls beside those that the guest needs. */
  readonly exit?: number;
  /** VMX-preemption timer's start at each VM entry. */
  readonly preemptionTimer?: number;
  readonly smep?: boolean;
  /** Rights of the page-directory entry above all pages. */
  readonly directoryRights?: number;
  /** For another L2 kernel: VMCS fields, VM-entry controls, CS rights, memory. */
  readonly fields?: readonly (readonly [number, number])[];
  readonly entry?: number;
  readonly kernelCs?: number;
  readonly patches?: readonly {
    readonly address: number;
    readonly bytes: Uint8Array;
  }[];
  /** L1 logs in words. */
  readonly verbose?: boolean;
}

/** Page numbers. */
export const PAGE = { K0: 0x150, U0: 0x158, D0: 0x14d } as const;
/** Linear distance of the aliases. */
export const ALIAS = { supervisor: 0x30000, user: 0x40000 } as const;
/** Guest-physical addresses of the kernel's data. */
export const DATA = {
  line: 0x148000,
  counts: 0x148008,
  script: 0x148100,
  touched: 0x14c000,
} as const;
/** Counters of `counts`: ways up from 0, ways down from 8. */
export const DOWN_COUNTS = 8;

/** A guest ready to load. */
export interface HvciGuest {
  /** Loaded at ORIGIN and entered there in 64-bit mode. */
  readonly image: Uint8Array;
  readonly symbols: ReadonlyMap<string, bigint>;
}
/** Load address. */
export const ORIGIN = 0x100000;
const IMAGE_END = 0x160000;

const WRITE_BACK = 6 << 3;
const ALL = Right.R | Right.W | Right.XS | Right.XU;

/** Kernel code for the kernel only, user code for users only, data for nobody. */
export function strictPolicy(): Map<number, number> {
  const policy = new Map<number, number>();
  for (let i = 0; i < 8; i++) {
    policy.set(PAGE.K0 + i, Right.R | Right.XS);
    policy.set(PAGE.U0 + i, Right.R | Right.XU);
  }
  return policy;
}

/** The image under construction. */
class Memory {
  readonly bytes = new Uint8Array(IMAGE_END - ORIGIN);
  private readonly view = new DataView(this.bytes.buffer);

  put(address: number, bytes: Uint8Array): void {
    this.bytes.set(bytes, address - ORIGIN);
  }
  /** 64-bit words. */
  quads(address: number, values: readonly (bigint | number)[]): void {
    values.forEach((value, i) =>
      this.view.setBigUint64(address - ORIGIN + i * 8, BigInt(value), true)
    );
  }
  words(address: number, values: readonly number[]): void {
    values.forEach((value, i) =>
      this.view.setUint32(address - ORIGIN + i * 4, value, true)
    );
  }
}

/** L1's EPT: pages 0x140–0x15f by policy, and the local APIC. */
function extendedTables(memory: Memory, options: HvciOptions): void {
  memory.quads(0x10b000, [0x10c407]);
  memory.quads(0x10c000, [0x10d407, 0, 0, 0x10e407]);
  memory.quads(0x10d000, [0x10f000 + (options.directoryRights ?? ALL)]);
  memory.quads(0x10e000 + 0x1f7 * 8, [0xfee00083]);
  for (let page = 0x140; page < 0x160; page++) {
    const rights = options.policy?.get(page) ??
      (page >= PAGE.K0 ? ALL : Right.R | Right.W);
    const entry = rights === 0 ? 0 : page * 4096 + WRITE_BACK + rights;
    memory.quads(0x10f000 + page * 8, [entry]);
  }
}

/** Busy 64-bit TSS at 0x146100. */
const TSS_DESCRIPTOR = 0x00008b1461000067n;
const KERNEL_PAGE = 0x63;
const USER_PAGE = 0x67;

/** L2's paging: accessed and dirty from the start. */
function paging(memory: Memory): void {
  memory.quads(0x140000, [0x141000 + USER_PAGE]);
  memory.quads(0x141000, [0x142000 + USER_PAGE]);
  memory.quads(0x142000, [0x143000 + USER_PAGE]);
  const map = (linear: number, page: number, bits: number): void =>
    memory.quads(0x143000 + linear * 8, [page * 4096 + bits]);
  for (let page = 0x146; page < 0x160; page++) {
    const user = (page >= 0x14a && page < PAGE.K0) || page >= PAGE.U0;
    map(page, page, user ? USER_PAGE : KERNEL_PAGE);
  }
  for (let i = 0; i < 16; i++) {
    map(0x180 + i, PAGE.K0 + i, KERNEL_PAGE);
    map(0x190 + i, PAGE.K0 + i, USER_PAGE);
  }
  map(0x1a1, 0xfee00, USER_PAGE);
}

/** Descriptor tables of L2 (SDM 3A §3.4.5, §6.14.1). */
function descriptors(
  memory: Memory,
  at: (symbol: string) => bigint,
): void {
  const gate = (rights: number, to: string): bigint[] => [
    at(to) & 0xffffn | 8n << 16n | BigInt(rights) << 32n | at(to) >> 16n << 48n,
    0n,
  ];
  memory.quads(0x146000, [
    0n,
    0x00af9b000000ffffn,
    0x00cf93000000ffffn,
    0x00cffb000000ffffn,
    0x00cff3000000ffffn,
    0x00affb000000ffffn,
    0x00cff3000000ffffn,
    TSS_DESCRIPTOR,
    0n,
    ...gate(0xec00, "on_gate"),
  ]);
  memory.words(0x146104, [Number(at("KSTACK")), 0]);
  for (let vector = 0; vector < 32; vector++) {
    const open = vector !== 2;
    memory.quads(
      0x147000 + vector * 16,
      gate(open ? 0xee00 : 0x8e00, open ? "on_exception" : "on_nmi"),
    );
  }
  memory.quads(0x147400, [
    ...gate(0xee00, "on_int"),
    ...gate(0x8e00, "on_int"),
  ]);
  memory.quads(0x147500, gate(0x8e00, "on_interrupt"));
}

/** VMCS fields of L2 and of L1 as host, and the controls. */
function vmcs(
  memory: Memory,
  options: HvciOptions,
  at: (symbol: string) => bigint,
): void {
  const cr4 = 0x2020 | (options.smep ? 1 << 20 : 0);
  const fields: [number, number | string | bigint][] = [
    [F.Eptp, "EPTP"],
    [F.Vpid, 1],
    [F.MsrBitmaps, 0x10a000],
    [F.ExceptionBitmap, options.exceptionBitmap ?? 0],
    [F.VmcsLinkPointer, 0xffff_ffff_ffff_ffffn],
    [F.GuestCr0, 0x80010031],
    [F.GuestCr3, 0x140000],
    [F.GuestCr4, cr4],
    [F.GuestEfer, 0xd01],
    [F.GuestDr7, 0x400],
    [F.GuestRip, "dispatch"],
    [F.GuestRsp, "KSTACK"],
    [F.GuestRflags, 2],
    [F.GuestGdtrBase, 0x146000],
    [F.GuestGdtrLimit, 0x57],
    [F.GuestIdtrBase, 0x147000],
    [F.GuestIdtrLimit, 0x5ff],
    [F.GuestSysenterCs, 8],
    [F.GuestSysenterEsp, "KSTACK"],
    [F.GuestSysenterEip, "on_sysenter"],
    [F.GuestCsSelector, 8],
    [F.GuestCsLimit, 0xffffffff],
    [F.GuestCsAttributes, 0xa09b],
    [F.GuestSsSelector, 0x10],
    [F.GuestSsLimit, 0xffffffff],
    [F.GuestSsAttributes, 0xc093],
    [F.GuestTrSelector, 0x38],
    [F.GuestTrBase, 0x146100],
    [F.GuestTrLimit, 0x67],
    [F.GuestTrAttributes, 0x8b],
    [F.HostCr0, 0x80000031],
    [F.HostCr3, 0x98000],
    [F.HostCr4, 0x2020],
    [F.HostEfer, 0x500],
    [F.HostCsSelector, 8],
    [F.HostSsSelector, 0x10],
    [F.HostDsSelector, 0x10],
    [F.HostEsSelector, 0x10],
    [F.HostTrSelector, 0x18],
    [F.HostGdtrBase, 0x90000],
    [F.HostRip, "exit"],
    [F.HostRsp, "STACK1"],
  ];
  if (options.preemptionTimer !== undefined) {
    fields.push([F.PreemptionTimer, options.preemptionTimer]);
  }
  const unusable = [
    F.GuestDsAttributes,
    F.GuestEsAttributes,
    F.GuestFsAttributes,
    F.GuestGsAttributes,
    F.GuestLdtrAttributes,
  ];
  for (const field of unusable) fields.push([field, 0x10000]);
  fields.push(...(options.fields ?? []) as [number, number][]);
  memory.words(Number(at("kernel_cs")), [options.kernelCs ?? 0xa09b]);
  memory.quads(
    Number(at("fields")),
    [
      ...fields.flatMap(([field, value]) => [
        field,
        typeof value === "string" ? at(value) : value,
      ]),
      0xffff_ffff_ffff_ffffn,
    ],
  );
  memory.words(
    Number(at("controls")),
    [
      [0x481, 0x4000, options.pin ?? 0],
      [0x482, 0x4002, (0x9000_0000 | (options.primary ?? 0)) >>> 0],
      [0x48b, 0x401e, 0x4000a2 | (options.secondary ?? 0)],
      [0x483, 0x400c, 0x308200 | (options.exit ?? 0)],
      [0x484, 0x4012, options.entry ?? 0x8200],
      [0],
    ].flat(),
  );
  memory.words(
    Number(at("msrs")),
    [
      [0xc0000081, 0, 0x180008],
      [0xc0000082, Number(at("on_syscall")), 0],
      [0xc0000084, 0x300, 0],
      [0],
    ].flat(),
  );
}

/**
 * User code, each line on its page. An instruction lies across the end of each
 * page; its last two bytes are the next page's first.
 */
function userCode(script: readonly ScriptLine[]): string {
  let text = "";
  for (let page = 0; page < 8; page++) {
    text += `page_U${page}: nop
nop
user_U${page}: inc qword [touched]
syscall
call_U${page}: inc qword [touched]
ret
`;
    script.forEach((line, i) => {
      if (line.page !== page || line.code === undefined) return;
      text += `line_${i}:\n${line.code}\n`;
    });
    text += `times 0xffd - ($ - page_U${page}) db 0xcc
cross_U${page}: db 0xb8, 0, 0
`;
  }
  return text;
}

const bases = new Map<boolean, AssembledImage>();
function baseOf(verbose: boolean): AssembledImage {
  let base = bases.get(verbose);
  if (base === undefined) {
    const url = new URL("./hvci.asm", import.meta.url);
    const text = (verbose ? "%define VERBOSE\n" : "") +
      Deno.readTextFileSync(url);
    base = assemble(text, { bits: 64, origin: ORIGIN, file: "hvci.asm" });
    bases.set(verbose, base);
  }
  return base;
}

/** Makes the guest. */
export function hvciGuest(options: HvciOptions): HvciGuest {
  const { script } = options;
  const base = baseOf(options.verbose ?? false);
  const user = assemble(userCode(script), {
    bits: 64,
    origin: PAGE.U0 * 4096,
    constants: Object.fromEntries(base.symbols),
    file: "user code",
  });
  if (user.bytes.length > 0x8000) throw new RangeError("user code too long");
  const symbols = new Map([...base.symbols, ...user.symbols]);
  symbols.set("payload", BigInt(PAGE.D0 * 4096));
  const at = (expression: string): bigint => {
    const [name, offset = "0"] = expression.split("+");
    const value = symbols.get(name.trim());
    if (value === undefined) throw new RangeError(`no symbol ${name}`);
    return value + BigInt(offset.trim());
  };
  const memory = new Memory();
  memory.put(base.origin, base.bytes);
  memory.put(user.origin, user.bytes);
  extendedTables(memory, options);
  paging(memory);
  descriptors(memory, at);
  vmcs(memory, options, at);
  memory.quads(DATA.line, [0xffff_ffff_ffff_ffe0n]);
  memory.quads(
    DATA.script,
    script.flatMap((line, i) => [
      at(line.target ?? `line_${i}`),
      line.way ?? Way.Iret,
      line.flags ?? 0x202,
      line.call === undefined ? 0n : at(line.call),
    ]),
  );
  memory.words(Number(at("far_pointer")), [0, 0x48]);
  for (const { address, bytes } of options.patches ?? []) {
    memory.put(address, bytes);
  }
  return { image: memory.bytes, symbols };
}
