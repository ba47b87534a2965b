/**
 * The decoder plugin: iced-x86 behind the decoder service. It has no state: an
 * instruction follows from its bytes, the mode and the CPU model.
 */
import { definePlugin } from "../../core/mod.ts";
import { DecoderService } from "./api.ts";
import { createDecoder } from "./decode.ts";

/** Instruction decoder on iced-x86. */
export const decoder = definePlugin({
  name: "decoder",
  version: "1.0.0",
  doc: "Decodes instructions with iced-x86 as the CPU model has them",
  role: "participant",
  provides: { decoder: DecoderService },
  setup({ provide }) {
    provide.decoder({ create: createDecoder });
  },
});

export default decoder;
