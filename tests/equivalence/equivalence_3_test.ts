/** Equivalence of MBEC in hardware and emulated: see suite.ts. */
import { equivalence } from "./suite.ts";

equivalence(201, 301);
