/** The engine rules on T0, every form compiled. */
import { T0Engine, t0EngineBytes } from "../../cpu/engine/t0/engine.ts";
import { engineRules } from "./engine_rules.ts";

engineRules(
  "t0",
  (decoder) => new T0Engine(decoder, { threshold: 0 }),
  t0EngineBytes(1),
);
