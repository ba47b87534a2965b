/** The reference engine against the silicon vectors: a third of the files. */
import { ReferenceEngine } from "../../cpu/engine/reference/reference.ts";
import { judgeFiles } from "./judge_files.ts";

judgeFiles("reference", (decoder) => new ReferenceEngine(decoder), 2, 3);
