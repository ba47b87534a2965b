/**
 * The decoder service (design §7): bytes to instruction records for a CPU
 * model. Another plugin may provide the same service with another decoder, as
 * long as it yields the same records.
 */
import { defineService } from "../../core/service.ts";
import type { DecoderFactory } from "../../cpu/isa/decoder.ts";

export {
  DecodeFailure,
  type DecodeFailureCode,
  type DecoderFactory,
  type InstructionDecoder,
} from "../../cpu/isa/decoder.ts";

/** Makes one decoder per CPU model; its methods change no machine state. */
export const DecoderService = defineService<DecoderFactory>(
  "decoder.instructions",
  { doc: "Decodes x86 instructions for a CPU model", observable: true },
);
