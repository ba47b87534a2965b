/**
 * Types of the `@std/assert` functions that vmtape uses; deps/assert.js is the
 * code (std's own, which ships no types in its npm package).
 * Invariant: each signature is assignable from the one JSR serves, so that
 * sources compile unchanged when the door is replaced by JSR.
 */

// deno-lint-ignore-file no-explicit-any -- constructor types must accept any parameter list, as std's do

/** A class, abstract ones too. */
export type AnyConstructor = abstract new (...args: any[]) => any;
/** What `new C()` gives for a class `C`. */
export type GetConstructorType<C extends AnyConstructor> = InstanceType<C>;

/** Thrown by every assertion here. */
export declare class AssertionError extends Error {
  constructor(message: string, options?: ErrorOptions);
}

/** Asserts that `expr` is truthy, and narrows it. */
export declare function assert(expr: unknown, msg?: string): asserts expr;
/** Asserts that `expr` is falsy. */
export declare function assertFalse(expr: unknown, msg?: string): void;
/** Deep equality without failing: what `assertEquals` tests. */
export declare function equal(a: unknown, b: unknown): boolean;
/** Asserts deep equality. */
export declare function assertEquals<T>(
  actual: T,
  expected: T,
  msg?: string,
): void;
/** Asserts deep inequality. */
export declare function assertNotEquals<T>(
  actual: T,
  expected: T,
  msg?: string,
): void;
/** Asserts identity (`Object.is`), and narrows `actual`. */
export declare function assertStrictEquals<T>(
  actual: unknown,
  expected: T,
  msg?: string,
): asserts actual is T;
/** Asserts non-identity (`Object.is`). */
export declare function assertNotStrictEquals<T>(
  actual: T,
  expected: T,
  msg?: string,
): void;
/** Asserts that two numbers differ by at most `tolerance` (default: relative 1e-7). */
export declare function assertAlmostEquals(
  actual: number,
  expected: number,
  tolerance?: number,
  msg?: string,
): void;
/** Asserts that `actual` is neither null nor undefined, and narrows it. */
export declare function assertExists<T>(
  actual: T,
  msg?: string,
): asserts actual is NonNullable<T>;
/** Asserts `actual instanceof expectedType`, and narrows it. */
export declare function assertInstanceOf<T extends AnyConstructor>(
  actual: unknown,
  expectedType: T,
  msg?: string,
): asserts actual is GetConstructorType<T>;
/** Asserts `actual > expected`. */
export declare function assertGreater<T>(
  actual: T,
  expected: T,
  msg?: string,
): void;
/** Asserts `actual >= expected`. */
export declare function assertGreaterOrEqual<T>(
  actual: T,
  expected: T,
  msg?: string,
): void;
/** Asserts `actual < expected`. */
export declare function assertLess<T>(
  actual: T,
  expected: T,
  msg?: string,
): void;
/** Asserts `actual <= expected`. */
export declare function assertLessOrEqual<T>(
  actual: T,
  expected: T,
  msg?: string,
): void;
/** Asserts that `actual` matches `expected`. */
export declare function assertMatch(
  actual: string,
  expected: RegExp,
  msg?: string,
): void;
/** Asserts that `actual` does not match `expected`. */
export declare function assertNotMatch(
  actual: string,
  expected: RegExp,
  msg?: string,
): void;
/** Asserts that `actual` contains `expected`. */
export declare function assertStringIncludes(
  actual: string,
  expected: string,
  msg?: string,
): void;
/** Asserts that each of `expected` is (deeply) in `actual`. */
export declare function assertArrayIncludes<T>(
  actual: ArrayLike<T>,
  expected: ArrayLike<T>,
  msg?: string,
): void;
/** Asserts that `actual` has at least the properties of `expected`. */
export declare function assertObjectMatch(
  actual: Record<PropertyKey, any>,
  expected: Record<PropertyKey, unknown>,
  msg?: string,
): void;
/** Asserts that `fn` throws (an `ErrorClass` whose message has `msgIncludes`); returns what it threw. */
export declare function assertThrows(fn: () => unknown, msg?: string): unknown;
export declare function assertThrows<E extends Error = Error>(
  fn: () => unknown,
  ErrorClass: abstract new (...args: any[]) => E,
  msgIncludes?: string,
  msg?: string,
): E;
/** Asserts that `fn`'s promise rejects (with an `ErrorClass` whose message has `msgIncludes`); resolves to what it rejected with. */
export declare function assertRejects(
  fn: () => PromiseLike<unknown>,
  msg?: string,
): Promise<unknown>;
export declare function assertRejects<E extends Error = Error>(
  fn: () => PromiseLike<unknown>,
  ErrorClass: abstract new (...args: any[]) => E,
  msgIncludes?: string,
  msg?: string,
): Promise<E>;
/** Fails at once. */
export declare function fail(msg?: string): never;
/** Fails at once, saying that control should not come here. */
export declare function unreachable(msg?: string): never;
