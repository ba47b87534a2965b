/**
 * Programs for the toy machine: operation codes, builders for instructions
 * (four bytes each: op, a, b, c; or op, a, imm16) and seeded random programs.
 */
import { RandomStream } from "../../core/mod.ts";

/** Operation codes. */
export const OP = {
  nop: 0,
  li: 1,
  add: 2,
  xor: 3,
  mul: 4,
  ld: 5,
  st: 6,
  jnz: 7,
  jmp: 8,
  out: 9,
  in: 10,
  hlt: 11,
  rnd: 12,
  iret: 13,
  irq: 14,
  time: 15,
  vector: 16,
  shl: 17,
  /** An exit loop that never makes a step. */
  spin: 18,
  /** Ends the machine by itself. */
  halt: 19,
  /** Not modelled, on purpose. */
  mystery: 20,
  hltHeld: 21,
} as const;

const three = (op: number) => (a: number, b = 0, c = 0): number[] => [
  op,
  a,
  b,
  c & 255,
];
const wide = (op: number) => (a: number, imm: number): number[] => [
  op,
  a,
  imm & 255,
  imm >> 8 & 255,
];

/** `ra = imm` (16 bits, sign-extended). */
export const li = wide(OP.li);
/** `ra = rb + rc`. */
export const add = three(OP.add);
export const xor = three(OP.xor);
export const mul = three(OP.mul);
/** `ra = rb << c`. */
export const shl = three(OP.shl);
/** `ra = ram[rb + 4 * c]`. */
export const ld = three(OP.ld);
/** `ram[rb + 4 * c] = ra`. */
export const st = three(OP.st);
/** If `ra` isn't 0, jumps `imm` instructions from the next one. */
export const jnz = wide(OP.jnz);
/** Jumps `imm` instructions from the next one. */
export const jmp = (imm: number): number[] => wide(OP.jmp)(0, imm);
/** Writes `ra` to port `c`. */
export const out = (a: number, port: number): number[] =>
  three(OP.out)(a, 0, port);
/** Reads port `c` into `ra`. */
export const inp = (a: number, port: number): number[] =>
  three(OP.in)(a, 0, port);
/** Waits for an interrupt; allows them first, as STI before HLT. */
export const hlt = three(OP.hlt);
/**
 * Instructions that end or hang a machine are whole words, so that code made
 * of random data doesn't meet them.
 */
const magic = (op: number) => (): number[] => [op, 0x4d, 0x59, 0x53];
/** Waits for an interrupt without allowing them. */
export const hltHeld = magic(OP.hltHeld);
export const rnd = three(OP.rnd);
export const iret = (): number[] => three(OP.iret)(0);
/** Allows (1) or holds (0) interrupts. */
export const irq = three(OP.irq);
export const time = three(OP.time);
/** Interrupt vector = `imm` instructions from the program's start. */
export const vector = (imm: number): number[] => wide(OP.vector)(0, imm);
export const spin = magic(OP.spin);
export const halt = magic(OP.halt);
export const mystery = magic(OP.mystery);

/** Ports of the toy's devices. */
export const PORT = {
  serialOut: 0,
  serialIn: 1,
  serialCount: 2,
  timerPeriod: 8,
  exit: 15,
} as const;

/** What the upper bytes of a whole-word instruction hold. */
export const MAGIC = 0x53594d;

/** Instructions as bytes. */
export function assemble(...code: readonly number[][]): Uint8Array {
  return Uint8Array.from(code.flat());
}

/**
 * Echoes serial input until the byte 0, then exits with the number of ticks
 * in memory at 0x800. The handler runs on serial (line 1) and timer (line 0).
 */
export function echoProgram(): Uint8Array {
  const main = [
    vector(9),
    li(0, 500),
    out(0, PORT.timerPeriod),
    li(3, 1),
    irq(1),
    hlt(0), // 5
    li(1, 0x800),
    ld(2, 1),
    jmp(-4),
  ];
  const handler = [ // 9: r7 = line
    jnz(7, 5),
    li(4, 0x800),
    ld(5, 4),
    add(5, 5, 3),
    st(5, 4),
    iret(),
    inp(6, PORT.serialIn), // 15
    jnz(6, 3),
    li(4, 0x800),
    ld(5, 4),
    out(5, PORT.exit),
    out(6, PORT.serialOut), // 20
    inp(6, PORT.serialCount),
    jnz(6, -8),
    iret(),
  ];
  return assemble(...main, ...handler);
}

/**
 * A program that never ends by itself: a loop of random instructions with
 * forward jumps, an interrupt handler, port traffic, waiting, and stores into
 * its own code (always of harmless instructions). Same seed, same program.
 */
export function randomProgram(seed: bigint, length = 48): Uint8Array {
  const random = new RandomStream(seed, "toy-program");
  const reg = () => random.below(8);
  const arithmetic = [OP.add, OP.xor, OP.mul, OP.shl, OP.rnd, OP.time];
  const handlerLength = 4 + random.below(12);
  const mainLength = length - handlerLength;
  const prologue = [
    vector(mainLength),
    li(0, 40 + random.below(400)),
    out(0, PORT.timerPeriod),
    irq(1),
  ];
  const one = (here: number, end: number): number[][] => {
    const draw = random.below(100);
    if (draw < 12) return [li(reg(), random.below(0x10000))];
    if (draw < 20) return [add(reg(), reg(), reg())];
    if (draw < 28) return [xor(reg(), reg(), reg())];
    if (draw < 32) return [mul(reg(), reg(), reg())];
    if (draw < 36) return [shl(reg(), reg(), random.below(16))];
    if (draw < 44) return [ld(reg(), reg(), random.below(256))];
    if (draw < 60) {
      const base = reg();
      return [
        li(base, 0x1000 + 4 * random.below(0x1800)),
        st(reg(), base, random.below(256)),
      ];
    }
    if (draw < 64) {
      // Over an instruction of the main loop that is no jump's business.
      const [value, base] = [reg(), reg()];
      const op = arithmetic[random.below(arithmetic.length)];
      const target = prologue.length + random.below(mainLength - 8);
      return value === base ? [rnd(value)] : [
        li(value, op | reg() << 8),
        li(base, 4 * target),
        st(value, base),
      ];
    }
    if (draw < 69) return [rnd(reg())];
    if (draw < 72) return [time(reg())];
    if (draw < 74) {
      // Re-arming in the main loop would keep the timer from ever ticking.
      if (here < mainLength) return [hlt(0)];
      const value = reg();
      return [
        li(value, 30 + random.below(500)),
        out(value, PORT.timerPeriod),
      ];
    }
    if (draw < 80) return [out(reg(), random.below(PORT.timerPeriod))];
    if (draw < 88) return [inp(reg(), random.below(15))];
    if (draw < 90) return [irq(random.below(8) === 0 ? 0 : 1)];
    const reach = Math.max(1, Math.min(4, end - here - 2));
    return [jnz(reg(), random.below(reach))];
  };
  const fill = (code: number[][], end: number) => {
    while (code.length < end) code.push(...one(code.length, end));
    code.length = end;
  };
  const code = [...prologue];
  fill(code, mainLength - 1);
  code.push(jmp(prologue.length - mainLength));
  fill(code, length - 1);
  code.push(iret());
  return assemble(...code);
}
