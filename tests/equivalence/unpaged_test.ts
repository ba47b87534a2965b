/** Equivalence where L2 turns paging on and off: see suite.ts. */
import { unpagedEquivalence } from "./suite.ts";

unpagedEquivalence(1, 61);
