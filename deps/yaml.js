// Door for `@std/yaml`: std's own code out of npm:deno-std, typed by yaml.d.ts.
// With JSR: replace this file and its types by one import-map line, "@std/yaml": "jsr:@std/yaml@1".
// Invariant: re-exports only; a function used by vmtape has a line in yaml.d.ts.
// @ts-self-types="./yaml.d.ts"
export { parse, stringify } from "deno-std/yaml/mod.js";
