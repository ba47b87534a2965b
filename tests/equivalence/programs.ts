/**
 * Seeded pairs of policy and L2 program for the equivalence test: a policy
 * gives each kernel, user and data page rights of its own (absent and
 * misconfigured ones too), a program is a script of ways into the kernel and
 * back, of user and kernel fetches from anywhere, and of policy changes.
 */
import {
  ALIAS,
  type HvciOptions,
  PAGE,
  Right,
  type ScriptLine,
} from "../../examples/guests/hvci.ts";

const { R, W, XS, XU, Grant } = Right;

/** A small generator of our own: same numbers everywhere (mulberry32). */
export class Dice {
  private state: number;
  constructor(seed: number) {
    this.state = seed * 0x9e3779b1 >>> 0;
  }
  /** 0 ≤ result < n. */
  below(n: number): number {
    this.state = (this.state + 0x6d2b79f5) >>> 0;
    let t = this.state;
    t = Math.imul(t ^ t >>> 15, t | 1);
    t ^= t + Math.imul(t ^ t >>> 7, t | 61);
    return ((t ^ t >>> 14) >>> 0) % n;
  }
  chance(percent: number): boolean {
    return this.below(100) < percent;
  }
  of<T>(...choices: readonly T[]): T {
    return choices[this.below(choices.length)];
  }
}

function codeRights(dice: Dice, usual: number): number {
  const n = dice.below(20);
  if (n < 9) return R | usual;
  if (n < 13) return R | XS | XU;
  if (n < 15) return R | (usual ^ XS ^ XU);
  if (n === 15) return R;
  if (n === 16) return usual;
  if (n === 17) return XS | XU;
  // Absent, or misconfigured: writable but not readable.
  return n === 18 ? 0 : W | usual;
}

function policyOf(dice: Dice): Map<number, number> {
  const policy = new Map<number, number>();
  const set = (page: number, rights: number, granted = 30): void => {
    policy.set(page, rights + (dice.chance(granted) ? Grant : 0));
  };
  policy.set(PAGE.K0, dice.chance(70) ? R | XS : R | XS | XU);
  for (let i = 1; i < 8; i++) set(PAGE.K0 + i, codeRights(dice, XS));
  for (let i = 0; i < 8; i++) set(PAGE.U0 + i, codeRights(dice, XU));
  for (let i = 0; i < 3; i++) {
    set(PAGE.D0 + i, dice.of(R | W, R, R, R, 0, W, R | W | XU, XS, XU), 60);
  }
  return policy;
}

/** A page that may be executed from anywhere: of U0–U7 or K1–K7, by any alias. */
function anywhere(dice: Dice, user: boolean): string {
  const i = dice.below(8);
  if (user) {
    return dice.of(
      `user_U${i}`,
      `user_U${i}`,
      `cross_U${i}`,
      `user_U${i}+${ALIAS.user}`,
      `user_K${1 + i % 7}+${ALIAS.user}`,
      `user_K${1 + i % 7}`,
    );
  }
  if (dice.chance(15)) return "kernel_wait";
  return dice.of(
    `call_U${i}`,
    `call_U${i}+${ALIAS.supervisor}`,
    `call_U${i}+${ALIAS.user}`,
  );
}

const INTERRUPT = "mov dword [APIC+0x300], 0x40050\nnop\nsyscall";
const NMI =
  "mov dword [APIC+0x310], 0\nmov dword [APIC+0x300], 0x400\nnop\nsyscall";

/** Ways into the kernel, each one line of user code. */
const ESCALATIONS: readonly string[] = [
  "syscall",
  "sysenter",
  "int 0x40",
  INTERRUPT,
  NMI,
  "call dword far [far_pointer]",
  "ud2",
];

const EXCEPTIONS: readonly string[] = [
  "int3",
  "int1",
  "int 0x41",
  "xor ecx, ecx\nxor edx, edx\ndiv ecx",
  "hlt",
  "mov rax, [0x1a0000]",
  "mov qword [0x148000], 0",
  "mov rax, 0x8000000000000000\nmov rax, [rax]",
  "mov ecx, 0x10\nrdmsr",
  "mov eax, 0x28\nltr ax",
  "jmp 0x148000",
];

/** Things that stay in user mode on hardware, ended by SYSCALL. */
const QUIET: readonly string[] = [
  "cpuid",
  "sidt [store]",
  "sgdt [store]",
  "str eax\nsldt ebx",
  "mov ax, 0x33\nmov ss, ax",
  "pushfq\npop rax",
  "push 0x33\npush USTACK\npush 0x202\npush 0x2b\npush %%next\niretq\n%%next:",
  "push 0x2b\npush %%next\no64 retf\n%%next:",
  "rdtsc",
];

function data(dice: Dice): string {
  const at = 0x14d000 + dice.below(3) * 4096 + dice.below(500) * 8;
  const page = dice.below(8);
  return dice.of(
    `mov rax, [${at}]`,
    `mov [${at}], rsp`,
    `add dword [${at}], 7`,
    `mov rsi, USTACK-64\nmov edi, 0x14efe0\nmov ecx, 64\nrep movsb`,
    `mov rsi, 0x14dff0\nmov edi, 0x14c100\nmov ecx, 32\nrep movsb`,
    `mov rax, [0x14dffc]`,
    `mov [0x14dffc], rax`,
    `push qword [${at}]`,
    // What was read is in the shadow with the rights of then.
    `mov rax, [${at}]\nmov [${at}], rax\nadd dword [${at}], 9`,
    `mov rax, [user_U${page}]\njmp user_U${page}`,
  );
}

function change(dice: Dice): string {
  const page = dice.chance(40)
    ? PAGE.K0 + 1 + dice.below(7)
    : PAGE.U0 + dice.below(8);
  const command = dice.chance(70)
    ? ["CMD_SET", codeRights(dice, page < PAGE.U0 ? XS : XU)] as const
    : ["CMD_RAISE", R | W | XS | XU] as const;
  const entry = page * 4096 + 0x30 + command[1];
  return `mov eax, ${command[0]}\nmov ebx, ept_pt+${
    page * 8
  }\nmov ecx, ${entry}\nvmcall`;
}

function injection(dice: Dice): string {
  const info = dice.of(
    "0x80000202",
    "0x80000050",
    "0x80000b0d",
    "0x80000440",
    "0x80000603",
    "0x80000306",
  );
  return `mov eax, CMD_INJECT\nmov ebx, ${info}\nxor ecx, ecx\nvmcall\nnop`;
}

function code(dice: Dice, label: string): string {
  const n = dice.below(22);
  if (n < 8) return dice.of(...ESCALATIONS);
  if (n < 11) return dice.of(...EXCEPTIONS);
  const some = n < 13
    ? dice.of(...QUIET).replaceAll("%%next", `${label}_next`)
    : n < 17
    ? data(dice)
    : n < 19
    ? change(dice)
    : n < 20
    ? injection(dice)
    : undefined;
  return some === undefined
    ? `jmp ${anywhere(dice, true)}`
    : `${some}\n${dice.of(...ESCALATIONS)}`;
}

function lineOf(dice: Dice, i: number): ScriptLine {
  const page = dice.below(8);
  const way = dice.below(5);
  return {
    page,
    way,
    flags: way < 2 && dice.chance(12) ? 0x302 : 0x202,
    ...(dice.chance(25) ? { call: anywhere(dice, false) } : {}),
    ...(dice.chance(10)
      ? { target: anywhere(dice, true) }
      : { code: code(dice, `line_${i}`) }),
  };
}

/** The pair of a seed. */
export function pairOf(seed: number): HvciOptions {
  const dice = new Dice(seed);
  const policy = policyOf(dice);
  const lines = 8 + dice.below(10);
  const timer = dice.chance(8);
  const script = Array.from({ length: lines }, (_, i) => lineOf(dice, i));
  if (seed % 3 === 0) {
    // Read, then written, which L1 grants: the shadow is stale (row 4).
    policy.set(PAGE.D0 + 2, R + Grant);
    script.unshift({
      page: seed % 8,
      code: "mov rax, [0x14f000]\nmov [0x14f000], rax\nsyscall",
    });
  }
  return {
    policy,
    script,
    smep: dice.chance(25),
    pin: (dice.chance(10) ? 1 : 0) | (dice.chance(10) ? 8 : 0) |
      (timer ? 1 << 6 : 0),
    // Monitor trap flag of L1's own: every instruction of L2 exits.
    primary: (dice.chance(4) ? 1 << 27 : 0) | (dice.chance(10) ? 4 : 0),
    exit: timer && dice.chance(50) ? 1 << 22 : 0,
    preemptionTimer: timer ? 3 + dice.below(8) : undefined,
    secondary: dice.chance(10) ? 4 : 0,
    exceptionBitmap: dice.chance(20)
      ? 1 << dice.below(15) | 1 << dice.below(15)
      : 0,
    directoryRights: dice.chance(3) ? R | W | XS : undefined,
  };
}
