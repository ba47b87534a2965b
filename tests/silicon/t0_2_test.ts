/** T0 against the silicon vectors: a third of the files. */
import { T0Engine, t0EngineBytes } from "../../cpu/engine/t0/engine.ts";
import { judgeFiles } from "./judge_files.ts";

judgeFiles(
  "t0",
  (decoder) => new T0Engine(decoder, { threshold: 0 }),
  1,
  3,
  t0EngineBytes(1),
);
