// Door for `@std/assert`: std's own code out of npm:deno-std, typed by assert.d.ts (JSR can't be reached everywhere).
// With JSR: replace this file and its types by one import-map line, "@std/assert": "jsr:@std/assert@1".
// Invariant: re-exports only; a function used by vmtape has a line in assert.d.ts.
// @ts-self-types="./assert.d.ts"
export * from "deno-std/assert/mod.js";
