// The last minute of each service's rate, for the little curves.

const LENGTH = 60;

export class History {
  #curves = new Map();

  /** Called once a second with all services. Services that are gone are forgotten. */
  note(services) {
    const known = this.#curves;
    this.#curves = new Map(services.map(({ id, rate }) => [id, [...(known.get(id) ?? []), rate].slice(-LENGTH)]));
  }

  of(id) {
    return this.#curves.get(id) ?? [];
  }
}
