/**
 * #VMEXIT codes (APM 2 appendix C). An exit that an intercept causes has the
 * number of its intercept bit: the position in the six words.
 */
import { EXCEPTIONS } from "../../cpu/arch/exceptions.ts";

/** Codes that are referred to by name. */
export const ExitCode = {
  /** + register number. */
  ReadCr0: 0x000,
  WriteCr0: 0x010,
  ReadDr0: 0x020,
  WriteDr0: 0x030,
  /** + vector. */
  Exception: 0x040,
  Intr: 0x060,
  Nmi: 0x061,
  Smi: 0x062,
  Init: 0x063,
  Vintr: 0x064,
  SelectiveCr0: 0x065,
  ReadIdtr: 0x066,
  ReadGdtr: 0x067,
  ReadLdtr: 0x068,
  ReadTr: 0x069,
  WriteIdtr: 0x06a,
  WriteGdtr: 0x06b,
  WriteLdtr: 0x06c,
  WriteTr: 0x06d,
  Rdtsc: 0x06e,
  Rdpmc: 0x06f,
  Pushf: 0x070,
  Popf: 0x071,
  Cpuid: 0x072,
  Rsm: 0x073,
  Iret: 0x074,
  SoftwareInterrupt: 0x075,
  Invd: 0x076,
  Pause: 0x077,
  Hlt: 0x078,
  Invlpg: 0x079,
  Invlpga: 0x07a,
  Ioio: 0x07b,
  Msr: 0x07c,
  TaskSwitch: 0x07d,
  Shutdown: 0x07f,
  Vmrun: 0x080,
  Vmmcall: 0x081,
  Vmload: 0x082,
  Vmsave: 0x083,
  Stgi: 0x084,
  Clgi: 0x085,
  Skinit: 0x086,
  Rdtscp: 0x087,
  Icebp: 0x088,
  Wbinvd: 0x089,
  Monitor: 0x08a,
  Mwait: 0x08b,
  MwaitArmed: 0x08c,
  Xsetbv: 0x08d,
  Rdpru: 0x08e,
  Invpcid: 0x0a2,
  /** Nested page fault. */
  Npf: 0x400,
  /** −1: invalid guest state in the VMCB. */
  Invalid: -1,
} as const;
/** An exit code; −1 is VMEXIT_INVALID. */
export type ExitCodeNumber = number;

const NAMES = new Map<number, string>(
  Object.entries(ExitCode).map(([name, code]) => [code, name.toUpperCase()]),
);

/** `VMEXIT_CPUID`, `VMEXIT_CR3_READ`, `VMEXIT_EXCP_PF` … for display. */
export function exitCodeTitle(code: number): string {
  if (code >= 0 && code < 0x40) {
    const register = code < 0x20 ? "CR" : "DR";
    const way = code & 0x10 ? "WRITE" : "READ";
    return `VMEXIT_${register}${code & 15}_${way}`;
  }
  if (code >= 0x40 && code < 0x60) {
    const vector = code - 0x40;
    const known = EXCEPTIONS.find((e) => e.vector === vector);
    return `VMEXIT_EXCP_${known?.mnemonic.slice(1) ?? vector}`;
  }
  return `VMEXIT_${NAMES.get(code) ?? `0x${code.toString(16)}`}`;
}
