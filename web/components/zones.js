// The places of the cluster: zones, their nodes, and what they get of the traffic.

import { html } from "../html.js";
import { count, percent, plural, rate } from "../format.js";
import { sum } from "../model.js";

export function Zones({ zones, colours }) {
  const whole = sum(zones, (zone) => zone.picks);
  return html`<section class="panel" aria-labelledby="zones-title">
    <h2 id="zones-title">Zones and nodes</h2>
    ${!zones.some((zone) => zone.nodes.length) && html`<p class="note">No node is registered yet.</p>`}
    ${whole > 0 && html`<div class="split" aria-hidden="true">
      ${zones.map((zone) => html`<span key=${zone.name} class=${colours.get(zone.name)} style=${{ flexGrow: zone.picks / whole }}></span>`)}</div>`}
    <ul class="zones">
      ${zones.map((zone) => html`<li key=${zone.name} class=${colours.get(zone.name)}>
        <h3><span class="swatch" aria-hidden="true"></span>${zone.name || "no zone"}
          ${whole > 0 && html`<span class="aside">${percent(zone.picks / whole)}<span class="hidden"> of all picks</span>, ${rate(zone.rate)}/s</span>`}</h3>
        <ul class="nodes">
          ${zone.nodes.map((node) => html`<li key=${node.name}>
            <span class=${`state ${node.ready ? "ready" : "not-ready"}`} title=${node.ready ? "ready" : "not ready"}>
              <span class="dot" aria-hidden="true"></span><span class="hidden">${node.ready ? "ready" : "not ready"}</span></span>
            <span class="name">${node.name}</span><code>${node.address}</code>
            <span class="aside" title=${node.podsMax ? `Room for ${node.podsMax} pods` : ""}>${plural(node.pods, "pod")}</span></li>`)}
        </ul>
        <p class="note">${zone.endpoints ? `${count(zone.ready)} of ${plural(zone.endpoints, "endpoint")} ready` : "No endpoints here"}</p>
      </li>`)}
    </ul>
  </section>`;
}
