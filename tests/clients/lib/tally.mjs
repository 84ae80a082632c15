// Which numbers arrived, and in which order: tells lost, doubled and late ones apart. The hubs' `Tally` counts alike.

export class Tally {
  #seen = new Set();
  #doubled = 0;
  #late = 0;
  #highest = -1;

  add(number) {
    if (this.#seen.has(number)) {
      this.#doubled += 1;
      return;
    }
    this.#seen.add(number);
    this.#late += number < this.#highest ? 1 : 0;
    this.#highest = Math.max(this.#highest, number);
  }

  /** Different numbers, repetitions, first arrivals behind a higher one, the highest. */
  counts() {
    return [this.#seen.size, this.#doubled, this.#late, this.#highest];
  }
}
