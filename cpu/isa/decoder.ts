/**
 * What the CPU asks of a decoder (design §7): the interface that the decoder
 * plugin implements as a service and that engines receive from the machine.
 * A failure is a number, never an exception.
 */
import type { CpuModel } from "../arch/models.ts";
import type { Insn } from "./insn.ts";

/** Why bytes gave no instruction. */
export const DecodeFailure = {
  /** #UD: no such instruction on this CPU model, or a LOCK that is not allowed. */
  Invalid: 1,
  /** #GP(0): longer than 15 bytes (SDM vol. 2A §2.3.11). */
  TooLong: 2,
  /** All `available` bytes belong to the instruction and it goes on. */
  NeedMoreBytes: 3,
  /** The CPU model has it and we do not: `notModelled` names it. */
  NotModelled: 4,
} as const;
/** One of DecodeFailure. */
export type DecodeFailureCode =
  typeof DecodeFailure[keyof typeof DecodeFailure];

/** A decoder for one CPU model. Single-threaded, re-usable, no state that shows. */
export interface InstructionDecoder {
  /**
   * Decodes the instruction at the start of `bytes`.
   * @param available how many bytes count, at most `bytes.length`; more than 15 are ignored
   * @param codeSize 64, 32 or 16, from CS.L and CS.D
   * @param rip offset of the first byte, zero-extended
   * @param stackSize 64 in 64-bit mode, else 32 or 16 by SS.B
   * @param real real-address or virtual-8086 mode, where VEX forms don't exist
   * @returns the instruction, or a DecodeFailure code (typeof "number")
   */
  decode(
    bytes: Uint8Array,
    available: number,
    codeSize: 16 | 32 | 64,
    rip: bigint,
    stackSize: 16 | 32 | 64,
    real: boolean,
  ): Insn | DecodeFailureCode;
  /** After DecodeFailure.NotModelled: the form, in the manual's notation. */
  readonly notModelled: string;
}

/** Makes decoders; implemented by plugins/decoder. */
export interface DecoderFactory {
  create(model: CpuModel): InstructionDecoder;
}
