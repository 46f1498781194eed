// What the page knows, and the stream that keeps it current.

import { Rates } from "./rates.js";

/** States of the connection: connecting, live, lost (tried again), full, locked. */
export class Store {
  cluster = null;
  traffic = {};
  rates = new Rates();
  connection = "connecting";
  /** When the last frame came. */
  updated = null;

  #onChange;
  /** The stream has told nothing of the traffic yet. */
  #first = true;
  #source = null;
  #retry = 0;
  #timer = 0;

  constructor(onChange) {
    this.#onChange = onChange;
  }

  /** Takes over the state that came within the page, so that the first picture needs no second request. */
  begin(element) {
    if (!element) return;
    const state = JSON.parse(element.textContent);
    element.remove();
    this.cluster = state?.cluster ?? null;
    this.traffic = state?.traffic ?? {};
  }

  /** Opens the stream. */
  open() {
    this.close();
    // What happened while nobody watched must not look like a burst.
    this.rates = new Rates();
    this.#first = true;
    const source = new EventSource("/api/stream");
    source.addEventListener("cluster", (event) => {
      this.cluster = JSON.parse(event.data);
      this.#live();
    });
    source.addEventListener("traffic", (event) => {
      this.#count(JSON.parse(event.data));
      this.#live();
    });
    source.addEventListener("error", () => this.#failed(source));
    this.#source = source;
  }

  /** Closes the stream: a page that nobody sees costs the cluster nothing. */
  close() {
    clearTimeout(this.#timer);
    this.#source?.close();
    this.#source = null;
  }

  #live() {
    this.connection = "live";
    this.updated = Date.now();
    this.#retry = 0;
    this.#onChange();
  }

  /** Frames hold the service ports that changed, null for those that are gone; a new stream begins with all of them. */
  #count(ports) {
    const now = performance.now();
    if (this.#first) this.traffic = {};
    for (const [port, counted] of Object.entries(ports)) {
      const begins = !this.#first && !(port in this.traffic);
      if (counted) this.traffic[port] = counted;
      else delete this.traffic[port];
      this.rates.record(port, counted?.endpoints ?? {}, now, begins);
    }
    this.#first = false;
  }

  /** The browser tells nothing about why, and gives up after an HTTP error; so ask, and try again. */
  async #failed(source) {
    if (source !== this.#source) return;
    this.close();
    this.connection = "lost";
    this.#onChange();
    const answer = await fetch("/api/state", { method: "HEAD" }).catch(() => null);
    if (answer?.status === 401) {
      this.connection = "locked";
      this.#onChange();
      return;
    }
    const seconds = Math.min(8, 2 ** this.#retry);
    this.#retry += 1;
    this.#timer = setTimeout(() => this.open(), seconds * 1000);
  }
}
