// Rates of counters: how much each grew within the last seconds.

/** The window in milliseconds. Long enough to be calm, short enough to follow a change of scheduler. */
export const WINDOW = 10_000;

/** With less than this behind it a rate would be noise. */
const FIRST = 1000;

/** The picks of endpoints, by service port and address. What is gone is forgotten. */
export class Rates {
  #ports = new Map();

  /** Notes the counters of all endpoints of a port. `begins` says that they were zero until now. */
  record(port, endpoints, now, begins) {
    const before = this.#ports.get(port);
    const samples = new Map();
    for (const [address, { picks }] of Object.entries(endpoints)) {
      const known = before?.get(address) ?? (begins ? [{ at: now - FIRST, value: 0 }] : []);
      samples.set(address, noted(known, picks, now));
    }
    if (samples.size) this.#ports.set(port, samples);
    else this.#ports.delete(port);
  }

  /** How many counters are known. */
  get known() {
    return [...this.#ports.values()].reduce((count, samples) => count + samples.size, 0);
  }

  /** How much the counter grew within the window. */
  growth(port, address, now) {
    const samples = this.#ports.get(port)?.get(address);
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
  perSecond(port, address, now) {
    const samples = this.#ports.get(port)?.get(address);
    if (!samples) return 0;
    const span = Math.min(WINDOW, Math.max(FIRST, now - samples[0].at));
    return (this.growth(port, address, now) * 1000) / span;
  }
}

/** The samples of a counter with one more. A value that fell means that the counter began anew. */
function noted(samples, value, now) {
  if (samples.length && value < samples.at(-1).value) return [{ at: now, value }];
  samples.push({ at: now, value });
  // One sample from before the window stays: it is the value that the window begins with.
  while (samples.length > 1 && samples[1].at <= now - WINDOW) samples.shift();
  return samples;
}
