/** The reference engine against the silicon vectors: a third of the files. */
import { judgeFiles } from "./judge_files.ts";

judgeFiles("reference", 1, 3);
