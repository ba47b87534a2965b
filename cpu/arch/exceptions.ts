/**
 * Exception vectors, their class for double-fault purposes and error codes
 * (SDM vol. 3A §6.3, table 6-1, table 6-5).
 */

export const Vector = {
  DE: 0,
  DB: 1,
  NMI: 2,
  BP: 3,
  OF: 4,
  BR: 5,
  UD: 6,
  NM: 7,
  DF: 8,
  TS: 10,
  NP: 11,
  SS: 12,
  GP: 13,
  PF: 14,
  MF: 16,
  AC: 17,
  MC: 18,
  XM: 19,
  VE: 20,
  CP: 21,
} as const;

/** Double-fault class (SDM 3A table 6-4). */
export const ExceptionClass = {
  Benign: 0,
  Contributory: 1,
  PageFault: 2,
  DoubleFault: 3,
} as const;

/** One exception vector. */
export interface ExceptionInfo {
  readonly vector: number;
  readonly mnemonic: string;
  readonly name: string;
  readonly hasErrorCode: boolean;
  readonly class: number;
}

const { Benign, Contributory, PageFault, DoubleFault } = ExceptionClass;
const row = (
  vector: number,
  mnemonic: string,
  name: string,
  hasErrorCode: boolean,
  cls: number,
): ExceptionInfo => ({ vector, mnemonic, name, hasErrorCode, class: cls });

/** Every architectural exception, by vector. */
export const EXCEPTIONS: readonly ExceptionInfo[] = [
  row(0, "#DE", "Divide Error", false, Contributory),
  row(1, "#DB", "Debug Exception", false, Benign),
  row(2, "NMI", "NMI Interrupt", false, Benign),
  row(3, "#BP", "Breakpoint", false, Benign),
  row(4, "#OF", "Overflow", false, Benign),
  row(5, "#BR", "BOUND Range Exceeded", false, Benign),
  row(6, "#UD", "Invalid Opcode", false, Benign),
  row(7, "#NM", "Device Not Available", false, Benign),
  row(8, "#DF", "Double Fault", true, DoubleFault),
  row(10, "#TS", "Invalid TSS", true, Contributory),
  row(11, "#NP", "Segment Not Present", true, Contributory),
  row(12, "#SS", "Stack-Segment Fault", true, Contributory),
  row(13, "#GP", "General Protection", true, Contributory),
  row(14, "#PF", "Page Fault", true, PageFault),
  row(16, "#MF", "x87 FPU Floating-Point Error", false, Benign),
  row(17, "#AC", "Alignment Check", true, Benign),
  row(18, "#MC", "Machine Check", false, Benign),
  row(19, "#XM", "SIMD Floating-Point Exception", false, Benign),
  row(20, "#VE", "Virtualization Exception", false, PageFault),
  row(21, "#CP", "Control Protection Exception", true, Contributory),
];

/** Page-fault error code bits (SDM 3A §4.7). */
export const PageFaultError = {
  Present: 1,
  Write: 2,
  User: 4,
  Reserved: 8,
  Fetch: 16,
  ProtectionKey: 32,
} as const;
