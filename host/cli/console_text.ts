/**
 * A guest's console as plain text: what it sent, without the sequences that
 * move a terminal's cursor or colour it (ECMA-48), so that showing the past
 * does nothing to the terminal it is shown on.
 */

const ESC = "\u001b", BEL = "\u0007";
/** CSI and OSC sequences, and other two-byte escapes (ECMA-48 §5.3–5.6). */
const SEQUENCES = new RegExp(
  `${ESC}(?:\\[[0-?]*[ -/]*[@-~]|` +
    `\\][^${BEL}${ESC}]*(?:${BEL}|${ESC}\\\\)?|[ -/]*[0-~])`,
  "g",
);
/** Control characters but tab and line feed; C1 included. */
const CONTROLS = /(?![\t\n])\p{Cc}/gu;

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
