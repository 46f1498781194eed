// Rates of counters: how much each grew within the last seconds.

/** The window in milliseconds. Long enough to be calm, short enough to follow a change of scheduler. */
export const WINDOW = 10_000;

/** With less than this behind it a rate would be noise. */
const FIRST = 1000;

export class Rates {
  #samples = new Map();

  /** Notes a counter's value. A value that fell means that the counter began anew. */
  record(key, value, now) {
    const samples = this.#samples.get(key);
    const last = samples?.at(-1);
    if (!last || value < last.value) {
      this.#samples.set(key, [{ at: now, value }]);
      return;
    }
    samples.push({ at: now, value });
    // One sample from before the window stays: it is the value that the window begins with.
    while (samples.length > 1 && samples[1].at <= now - WINDOW) samples.shift();
  }

  /** How much the counter grew within the window. */
  growth(key, now) {
    const samples = this.#samples.get(key);
    if (!samples) return 0;
    const from = now - WINDOW;
    let first = samples[0];
    for (const sample of samples) {
      if (sample.at > from) break;
      first = sample;
    }
    return samples.at(-1).value - first.value;
  }

  /** Growth per second. */
  perSecond(key, now) {
    const samples = this.#samples.get(key);
    if (!samples) return 0;
    const span = Math.min(WINDOW, Math.max(FIRST, now - samples[0].at));
    return (this.growth(key, now) * 1000) / span;
  }
}
