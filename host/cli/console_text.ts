/**
 * A guest's console as plain text: what it sent, without the sequences that
 * move a terminal's cursor or colour it (ECMA-48), so that showing the past
 * does nothing to the terminal it is shown on.
 */

/** CSI and OSC sequences, and other two-byte escapes (ECMA-48 §5.3–5.6). */
const SEQUENCES =
  // deno-lint-ignore no-control-regex -- control characters are what this is about
  /\x1b(?:\[[0-?]*[ -\/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[ -\/]*[0-~])/g;
// deno-lint-ignore no-control-regex -- the same
const CONTROLS = /[\x00-\x08\x0b-\x1f\x7f]/g;

/** Bytes as lines of text. */
export function consoleText(bytes: Uint8Array): string {
  return new TextDecoder().decode(bytes)
    .replace(SEQUENCES, "")
    .replace(/\r+\n/g, "\n")
    .replace(CONTROLS, "");
}

/** The last `count` lines. */
export function lastLines(text: string, count: number): string {
  const lines = text.replace(/\n+$/, "").split("\n");
  return lines.slice(-count).map((line) => `${line}\n`).join("");
}
