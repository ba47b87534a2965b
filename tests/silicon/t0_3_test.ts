/** T0 against the silicon vectors: a third of the files. */
import { judgeFiles } from "./judge_files.ts";

judgeFiles("t0", 2, 3);
