/**
 * Types of the `@std/yaml` functions that vmtape uses; deps/yaml.js is the
 * code (std's own).
 * Invariant: signatures are assignable from JSR's, so that sources compile
 * unchanged when the door is replaced by JSR.
 */

/** Which YAML types are recognised. */
export type SchemaType = "failsafe" | "json" | "core" | "default" | "extended";

/** How text is read. */
export interface ParseOptions {
  schema?: SchemaType;
  allowDuplicateKeys?: boolean;
  onWarning?(error: Error): void;
}

/** How a value is written. */
export interface StringifyOptions {
  schema?: SchemaType;
  indent?: number;
  arrayIndent?: boolean;
  skipInvalid?: boolean;
  flowLevel?: number;
  sortKeys?: boolean;
  lineWidth?: number;
  useAnchors?: boolean;
}

/**
 * Reads one YAML document.
 * @throws {SyntaxError} naming line and column, if `content` is no YAML.
 */
export declare function parse(content: string, options?: ParseOptions): unknown;

/** Writes `data` as YAML. */
export declare function stringify(
  data: unknown,
  options?: StringifyOptions,
): string;
