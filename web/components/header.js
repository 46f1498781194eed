// The top of the page: what the cluster is in five numbers, and whether they are live.

import { html } from "../html.js";
import { count, rate } from "../format.js";
import { sum } from "../model.js";

const STATES = { connecting: "Connecting", live: "Live", lost: "Reconnecting", locked: "Locked" };

export function Header({ store, services, zones }) {
  const { pods, nodes, servicesTotal } = store.cluster;
  const total = sum(services, (service) => service.endpointsTotal);
  const ready = sum(services, (service) => service.endpointsReady);
  const named = zones.filter((zone) => zone.name && zone.nodes.length).length;
  const perSecond = sum(services, (service) => service.rate);
  return html`<header class="top">
    <div class="brand">
      <img src="/icon.svg" alt="" width="34" height="34" />
      <div><h1>Snowglobe</h1><p>${store.cluster.domain}</p></div>
    </div>
    <dl class="summary">
      <${Figure} name="Services" value=${count(servicesTotal)} />
      <${Figure} name="Endpoints" value=${count(ready)} of=${count(total)} bad=${ready < total} />
      <${Figure} name="Pods ready" value=${count(pods.ready)} of=${count(pods.total)} bad=${pods.ready < pods.total} />
      <${Figure} name="Nodes" value=${count(nodes.length)} note=${named ? `in ${count(named)} zone${named === 1 ? "" : "s"}` : ""} />
      <${Figure} name="Connections" value=${rate(perSecond)} note="per second" />
    </dl>
    <p class=${`connection ${store.connection}`} role="status">
      <span class="dot" aria-hidden="true"></span>${STATES[store.connection]}
    </p>
  </header>`;
}

function Figure({ name, value, of, note, bad }) {
  return html`<div class=${bad ? "bad" : ""}>
    <dt>${name}</dt>
    <dd>${value}${of !== undefined && html`<small><span aria-hidden="true">/</span><span class="hidden"> of </span>${of}</small>`}
      ${note && html`<small> ${note}</small>`}</dd>
  </div>`;
}
