// Door for `@std/testing/bdd`: the runtime's own node:test, whose before/after are std's beforeAll/afterAll.
// With JSR: replace this file and its types by one import-map line, "@std/testing/bdd": "jsr:@std/testing@1/bdd".
// Invariant: re-exports only; a function used by vmtape has a line in bdd.d.ts.
// @ts-self-types="./bdd.d.ts"
export {
  after as afterAll,
  afterEach,
  before as beforeAll,
  beforeEach,
  describe,
  it,
} from "node:test";
