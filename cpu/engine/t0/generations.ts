/**
 * Numbers that make chains between pages and jump-cache entries valid: one for
 * each mode and privilege, so that a change between them costs nothing. A bump
 * makes all links invalid at once; numbers never come back.
 */

/** See the file header. */
export class Generations {
  private readonly byKey = new Map<number, number>();
  private last = 0;
  private key = 0;

  /** Mode and privilege as a small number. */
  enter(key: number): void {
    this.key = key;
  }

  /** The number in force; never 0, which is what empty links hold. */
  get current(): number {
    let generation = this.byKey.get(this.key);
    if (generation === undefined) {
      generation = ++this.last;
      this.byKey.set(this.key, generation);
    }
    return generation;
  }

  /** Ends every link made so far. */
  bump(): void {
    this.byKey.clear();
  }
}
