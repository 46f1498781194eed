// What happened lately.

import { useState } from "../vendor/preact/hooks.js";
import { html } from "../html.js";
import { count, since } from "../format.js";
import { Commands } from "./command.js";

/** Drawn before a button shows the rest. */
const ROWS = 8;

export function Events({ events }) {
  const [all, setAll] = useState(false);
  return html`<section class="panel" aria-labelledby="events-title">
    <h2 id="events-title">Recent events</h2>
    ${!events.length && html`<p class="note">Nothing has happened yet. Give it something to do:</p>
      <${Commands} lines=${["kubectl scale deployment web --replicas=5"]} />`}
    <ol class="events">
      ${events.slice(0, all ? events.length : ROWS).map((event, place) => html`
        <li key=${`${event.namespace}/${event.kind}/${event.name}/${event.reason}/${place}`} class=${event.warning ? "warning" : ""}>
          <p class="what"><strong>${event.warning && html`<span class="hidden">Warning: </span>`}${event.reason}</strong>
            ${event.count > 1 && html`<span class="times">×${count(event.count)}</span>`}
            ${event.time && html`<time datetime=${event.time} title=${new Date(event.time).toLocaleString()}>${since(new Date(event.time))}</time>`}</p>
          <p class="about">${event.kind} ${event.namespace && `${event.namespace}/`}${event.name}</p>
          <p class="message">${event.message}</p>
        </li>`)}
    </ol>
    ${events.length > ROWS && html`<button type="button" class="more" onClick=${() => setAll(!all)} aria-expanded=${all}>
      ${all ? "Show fewer" : `Show all ${count(events.length)}`}</button>`}
  </section>`;
}
