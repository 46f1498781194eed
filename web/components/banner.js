// What to do when the page is not live.

import { html } from "../html.js";

const TEXTS = {
  lost: ["The connection is lost.", "Trying again. What is shown below is the last known state."],
  locked: [
    "This page belongs to an earlier run.",
    "Snowglobe was started anew and has a new token: open the URL that it printed in its terminal.",
  ],
};

export function Banner({ store }) {
  const [title, text] = TEXTS[store.connection] ?? [];
  return html`<div role="alert" class="banner-place">
    ${title && html`<p class=${`banner ${store.connection}`}><strong>${title}</strong> ${text}</p>`}
  </div>`;
}
