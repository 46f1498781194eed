// A text that one click copies.

import { useEffect, useState } from "../vendor/preact/hooks.js";
import { html } from "../html.js";

export function Copy({ text, shown = text, what }) {
  const [done, setDone] = useState("");
  useEffect(() => {
    if (!done) return undefined;
    const timer = setTimeout(() => setDone(""), 1600);
    return () => clearTimeout(timer);
  }, [done]);
  const copy = async () => {
    const said = (await toClipboard(text)) ? "Copied" : "Not copied: select it and press Ctrl+C";
    setDone(said);
    // One place that readers listen to, not one per button.
    document.getElementById("said").textContent = said;
  };
  return html`<span class="copy">
    <code>${shown}</code>
    <button type="button" onClick=${copy} title=${`Copy ${text}`} aria-label=${`Copy ${what}: ${text}`}>
      <svg viewBox="0 0 16 16" aria-hidden="true">
        ${done === "Copied"
          ? html`<path d="M3 8.500l3.200 3.200L13 5" />`
          : html`<rect x="5.500" y="5.500" width="8" height="8" rx="1.500" /><path d="M10.500 3V2.500H4A1.500 1.500 0 0 0 2.500 4v6.500H3" />`}
      </svg>
    </button>
    <span class="copied" aria-hidden="true">${done}</span>
  </span>`;
}

/** The clipboard API exists only on localhost and HTTPS; elsewhere the older way. */
async function toClipboard(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = document.createElement("textarea");
    area.value = text;
    area.readOnly = true;
    area.className = "hidden";
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  }
}
