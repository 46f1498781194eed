// A little curve of what happened in the last minute. The number beside it says the same, so it is hidden from readers.

import { html } from "../html.js";

const WIDTH = 60;
const HEIGHT = 20;

export function Curve({ values }) {
  const top = Math.max(1, ...values);
  const x = (place) => WIDTH - (values.length - 1 - place);
  const y = (value) => (HEIGHT - 2 - (value / top) * (HEIGHT - 4)).toFixed(1);
  const line = values.map((value, place) => `${x(place)},${y(value)}`).join(" ");
  return html`<svg class="curve" viewBox=${`0 0 ${WIDTH + 1} ${HEIGHT}`} aria-hidden="true">
    ${values.length > 1 && Math.max(...values) > 0 && html`
      <polygon points=${`${x(0)},${HEIGHT} ${line} ${WIDTH},${HEIGHT}`} /><polyline points=${line} />`}
  </svg>`;
}
