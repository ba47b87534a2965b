// Door for `@std/cli/parse-args`: std's own code out of npm:deno-std, typed by parse_args.d.ts.
// With JSR: replace this file and its types by one import-map line, "@std/cli/parse-args": "jsr:@std/cli@1/parse-args".
// Invariant: re-exports only; a function used by vmtape has a line in parse_args.d.ts.
// @ts-self-types="./parse_args.d.ts"
export { parseArgs } from "deno-std/cli/parse_args.js";
