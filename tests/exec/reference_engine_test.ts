/** The engine rules on the reference engine. */
import { ReferenceEngine } from "../../cpu/engine/reference/reference.ts";
import { engineRules } from "./engine_rules.ts";

engineRules("reference", (decoder) => new ReferenceEngine(decoder));
