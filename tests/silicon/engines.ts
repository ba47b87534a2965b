/** The engines that the vectors judge, and the bytes each needs in memory. */
import type { Backend } from "../../cpu/engine/backend.ts";
import { ReferenceEngine } from "../../cpu/engine/reference/reference.ts";
import { T0Engine, t0EngineBytes } from "../../cpu/engine/t0/engine.ts";
import type { InstructionDecoder } from "../../cpu/isa/decoder.ts";

/** How an engine is made for the judge. */
export interface JudgedEngine {
  readonly make: (decoder: InstructionDecoder) => Backend;
  readonly bytes?: number;
}

/** Names of the judged engines. */
export type EngineName = "reference" | "t0";

/** T0 compiles at once, so that every vector meets compiled code. */
export const ENGINES: Readonly<Record<EngineName, JudgedEngine>> = {
  reference: { make: (decoder) => new ReferenceEngine(decoder) },
  t0: {
    make: (decoder) => new T0Engine(decoder, { threshold: 0 }),
    bytes: t0EngineBytes(1),
  },
};
