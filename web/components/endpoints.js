// The endpoints of one service by zone, with what each gets.

import { useState } from "../vendor/preact/hooks.js";
import { html } from "../html.js";
import { count, duration, percent, plural, rate } from "../format.js";

/** Rows drawn before a button shows the rest. */
const ROWS = 24;

export function Endpoints({ service, colours }) {
  const traffic = service.carried;
  const [all, setAll] = useState(false);
  let room = all ? Infinity : ROWS;
  const hidden = service.endpoints.length - room;
  return html`
    <table class=${`endpoints${traffic ? "" : " quiet"}`}>
      <caption class="hidden">Endpoints of ${service.id} by zone</caption>
      <thead><tr>
        <th scope="col">Endpoint</th><th scope="col" class="node">Node</th>
        ${traffic && html`
          <th scope="col" class="share">Share of picks</th>
          <th scope="col" class="number">Picks</th><th scope="col" class="number">Per second</th>
          <th scope="col" class="number wide">Open</th><th scope="col" class="number wide">Latency</th>`}
      </tr></thead>
      ${service.zones.map(({ zone, rows, share }) => {
        const shown = rows.slice(0, room);
        room -= shown.length;
        return shown.length > 0 && html`<tbody key=${zone} class=${colours.get(zone)}>
          <tr class="zone"><th scope="rowgroup" colspan=${traffic ? 7 : 2}>
            <span class="swatch" aria-hidden="true"></span>${zone || "no zone"}
            <span class="aside">${plural(rows.length, "endpoint")}${traffic && service.picks > 0 ? `, ${percent(share)}` : ""}</span>
          </th></tr>
          ${shown.map((row) => html`<${Row} key=${row.address} row=${row} traffic=${traffic} />`)}
        </tbody>`;
      })}
    </table>
    ${hidden > 0 && html`<button type="button" class="more" onClick=${() => setAll(true)}>Show ${count(hidden)} more endpoints</button>`}
    ${service.endpointsTotal > service.endpoints.length && html`<p class="note">This page knows the first
      ${count(service.endpoints.length)} of ${count(service.endpointsTotal)} endpoints.</p>`}`;
}

function Row({ row, traffic }) {
  const ports = [...row.ports].map((port) => `:${port}`).join(" ");
  const state = row.terminating ? "terminating" : row.ready ? "ready" : "not-ready";
  const word = { terminating: row.serving ? "terminating, still serving" : "terminating", "not-ready": "not ready" }[state];
  return html`<tr class=${row.ready ? "" : "idle"}>
    <th scope="row"><span class=${`state ${state}`} title=${word || "ready"}><span class="dot" aria-hidden="true"></span></span>
      <span class="who"><span class="pod">${row.pod || row.address}</span>
        <code>${row.pod ? row.address : ""}${ports}</code>
        ${word && html`<span class=${`word ${state}`}>${word}</span>`}</span></th>
    <td class="node">${row.node || "–"}</td>
    ${traffic && html`
      <td class="share"><span class="bar" aria-hidden="true"><span style=${{ width: `${(row.share * 100).toFixed(2)}%` }}></span></span>
        <span class="percent">${percent(row.share)}</span></td>
      <td class="number picks"><span>${count(row.picks)}</span></td>
      <td class="number rate">${rate(row.rate)}<span class="unit" aria-hidden="true">/s</span></td>
      <td class="number wide">${count(row.active)}</td>
      <td class="number wide">${row.failures > 0
        ? html`<span class="failing" title=${`${plural(row.failures, "failed connect")} in a row`}>failing</span>`
        : row.latencyUs ? duration(row.latencyUs) : "–"}</td>`}
  </tr>`;
}
