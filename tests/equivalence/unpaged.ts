/**
 * Seeded programs for an L2 that turns paging on and off (unrestricted guest,
 * 32-bit): without paging every linear address is a user-mode one to hardware,
 * at every CPL (reference §3.2).
 */
import { type HvciOptions, PAGE, Right } from "../../examples/guests/hvci.ts";
import { assemble } from "../../host/asm/mod.ts";
import { VmcsField as F } from "../../plugins/vmx/api.ts";
import { Dice } from "./programs.ts";

const { R, W, XS, XU, Grant } = Right;
const KERNEL_CODE = 0x00cf9b000000ffffn;
const KERNEL_DATA = 0x00cf93000000ffffn;
const USER_CODE = 0x00cffb000000ffffn;
const USER_DATA = 0x00cff3000000ffffn;
/** Busy 32-bit TSS at 0x146100. */
const TSS = 0x00008b1461000067n;

function line(dice: Dice, symbols: readonly string[]): string {
  const paging = (on: boolean): string =>
    `mov eax, cr0\n${
      on ? "or eax, 0x80000000" : "and eax, 0x7fffffff"
    }\nmov cr0, eax`;
  const call = `call ${dice.of(...symbols)}`;
  const user = `push 0x23\npush USTACK\npush 2\npush 0x1b
push ${dice.of(...symbols)}+16\niretd`;
  return dice.of(
    paging(true),
    paging(false),
    `${paging(true)}\n${call}`,
    `${paging(false)}\n${call}`,
    call,
    call,
    user,
    user,
    `${paging(dice.chance(50))}\n${user}`,
    "int 0x40",
    "ud2",
    "smsw eax\nmov [touched+32], eax",
    "mov eax, cr0\nmov [touched+32], eax",
    "clts",
    "mov eax, cr0\nxor eax, 8\nmov cr0, eax",
    `mov eax, cr0\nxor eax, 0x10000\nmov cr0, eax\n${call}`,
    "smsw eax\nlmsw ax",
    "mov eax, 0x80000030\nmov cr0, eax",
    `mov eax, 1\nmov ebx, ept_pt+${
      (PAGE.U0 + dice.below(8)) * 8
    }\nmov ecx, [ebx]\nvmcall`,
  );
}

/** The kernel on K0, handlers on K1 and K2, one callee a page. */
function source(dice: Dice): string {
  const symbols = Array.from({ length: 13 }, (_, i) => `page_${3 + i}`);
  const lines = Array.from(
    { length: 8 + dice.below(8) },
    () =>
      line(dice, symbols).replace(/mov ecx, \[ebx\]/, () => {
        const rights = dice.of(R | XU, R | XS, R | XS | XU, R);
        return `mov ecx, ${0x30 + rights}\nmov edx, ebx
sub edx, ept_pt\nshl edx, 9\nor ecx, edx`;
      }),
  );
  const pages = symbols.map((name) =>
    `align 4096, 0xcc
${name}: inc dword [touched]
ret
align 16, 0xcc
inc dword [touched]
int 0x40`
  );
  return `bits 32
dispatch:
mov esp, KSTACK
mov ebx, [line]
add ebx, 4
mov [line], ebx
mov eax, [script+ebx]
jmp eax
${lines.map((code, i) => `line_${i}:\n${code}\njmp dispatch`).join("\n")}
finish: xor eax, eax
mov ebx, 0x10
vmcall
align 4096, 0xcc
on_int: inc dword [counts]
jmp dispatch
align 4096, 0xcc
on_exception: inc dword [counts+4]
jmp dispatch
${pages.join("\n")}
align 4096, 0xcc
table: dd ${[...lines.keys()].map((i) => `line_${i}`).join(", ")}, finish
`;
}

function words(values: readonly number[]): Uint8Array {
  return new Uint8Array(Uint32Array.from(values).buffer);
}
function quads(values: readonly bigint[]): Uint8Array {
  return new Uint8Array(BigUint64Array.from(values).buffer);
}

/** Constants of hvci.asm that the program uses. */
const CONSTANTS = {
  KSTACK: 0x14a000n,
  USTACK: 0x14c000n,
  line: 0x148000n,
  counts: 0x148008n,
  script: 0x148100n,
  touched: 0x14c000n,
  ept_pt: 0x10f000n,
};

/** The pair of a seed. */
export function unpagedPairOf(seed: number): HvciOptions {
  const dice = new Dice(seed + 100_000);
  const policy = new Map<number, number>([[PAGE.K0, R | XS | XU]]);
  for (let page = PAGE.K0 + 1; page < 0x160; page++) {
    const handler = page < PAGE.K0 + 3;
    const rights = handler
      ? dice.of(R | XS | XU, R | XS | XU, R | XS, R | XU)
      : dice.of(R | XS | XU, R | XS, R | XS, R | XU, R | XU, R, W, 0);
    policy.set(page, rights + (dice.chance(25) ? Grant : 0));
  }
  const image = assemble(source(dice), {
    bits: 32,
    origin: PAGE.K0 * 4096,
    constants: CONSTANTS,
  });
  const at = (name: string): number => Number(image.symbols.get(name));
  const table = at("table") - PAGE.K0 * 4096;
  const gate = (to: string, rights: number): bigint =>
    BigInt(at(to) & 0xffff) | 8n << 16n | BigInt(rights) << 40n |
    BigInt(at(to) >>> 16) << 48n;
  const idt = new Array<bigint>(0x41).fill(gate("on_exception", 0x8e));
  idt[0x40] = gate("on_int", 0xee);
  const paging = new Array<number>(1024).fill(0);
  for (let page = 0x140; page < 0x160; page++) {
    const user = page < PAGE.K0 ? page >= 0x14a : dice.chance(50);
    paging[page] = page * 4096 + (user ? 0x67 : 0x63);
  }
  return {
    policy,
    script: [],
    pin: 0,
    primary: dice.chance(5) ? 1 << 27 : 0,
    exceptionBitmap: dice.chance(20) ? 1 << 6 | 1 << 13 : 0,
    entry: 0x8000,
    kernelCs: 0xc09b,
    fields: [
      [F.GuestCr0, 0x31],
      [F.GuestCr4, 0x2000],
      [F.GuestEfer, 0],
      [F.GuestCsAttributes, 0xc09b],
      [F.GuestDsSelector, 0x23],
      [F.GuestDsLimit, 0xffffffff],
      [F.GuestDsAttributes, 0xc0f3],
      [F.GuestEsSelector, 0x23],
      [F.GuestEsLimit, 0xffffffff],
      [F.GuestEsAttributes, 0xc0f3],
      [F.GuestTrAttributes, 0x8b],
      [F.GuestGdtrLimit, 0x3f],
      [F.GuestIdtrLimit, 0x41 * 8 - 1],
      [F.GuestSysenterCs, 0],
      [F.GuestSysenterEip, 0],
      ...(dice.chance(30)
        ? [[F.Cr0Mask, 0x20], [F.Cr0Shadow, 0x20]] as const
        : []),
    ],
    patches: [
      { address: 0x140000, bytes: words([0x141067]) },
      { address: 0x141000, bytes: words(paging) },
      {
        address: 0x146000,
        bytes: quads([
          0n,
          KERNEL_CODE,
          KERNEL_DATA,
          USER_CODE,
          USER_DATA,
          0n,
          0n,
          TSS,
        ]),
      },
      { address: 0x146100, bytes: words([0, 0x14a000, 0x10]) },
      { address: 0x147000, bytes: quads(idt) },
      { address: 0x148000, bytes: words([0xfffffffc, 0]) },
      { address: 0x148100, bytes: image.bytes.slice(table) },
      { address: PAGE.K0 * 4096, bytes: image.bytes.slice(0, table) },
    ],
  };
}
