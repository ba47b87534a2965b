/**
 * Types of the `@std/testing/bdd` functions that vmtape uses; deps/bdd.js is
 * the code (the runtime's node:test with two functions renamed).
 * Invariant: only the calls that std's and node's `bdd` share are declared, so
 * that sources compile unchanged when the door is replaced by JSR.
 */

/** A test or hook body. */
export type Body = () => void | Promise<void>;

/** One test case. */
export interface It {
  (name: string, fn: Body): void;
  /** Registers only this case. */
  only(name: string, fn: Body): void;
  /** Registers the case without running it. */
  skip(name: string, fn: Body): void;
}
/** One test case. */
export declare const it: It;

/** A suite of cases. */
export interface Describe {
  (name: string, fn: () => void): void;
  /** Registers only this suite. */
  only(name: string, fn: () => void): void;
  /** Registers the suite without running it. */
  skip(name: string, fn: () => void): void;
}
/** A suite of cases. */
export declare const describe: Describe;

/** Runs once before the suite's cases. */
export declare function beforeAll(fn: Body): void;
/** Runs once after the suite's cases. */
export declare function afterAll(fn: Body): void;
/** Runs before each case of the suite. */
export declare function beforeEach(fn: Body): void;
/** Runs after each case of the suite. */
export declare function afterEach(fn: Body): void;
