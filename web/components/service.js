// One service: where clients dial it, and who answers.

import { useState } from "../vendor/preact/hooks.js";
import { html } from "../html.js";
import { count, percent, rate, socket } from "../format.js";
import { dnsName, tryIt } from "../model.js";
import { Commands } from "./command.js";
import { Copy } from "./copy.js";
import { Curve } from "./curve.js";
import { Endpoints } from "./endpoints.js";

export function Service({ service, cluster, colours, curve, unfolded }) {
  const [open, setOpen] = useState(unfolded);
  const body = `body-${service.id}`;
  return html`<article class=${`service${open ? " open" : ""}`} aria-label=${`Service ${service.id}`}>
    <div class="service-head">
      <h3>
        <button type="button" aria-expanded=${open} aria-controls=${body} onClick=${() => setOpen(!open)}>
          <svg class="chevron" viewBox="0 0 16 16" aria-hidden="true"><path d="M6 4l4 4-4 4" /></svg>
          <span class="namespace">${service.namespace}<span aria-hidden="true">/</span></span>${service.name}
        </button>
      </h3>
      <${Badges} service=${service} />
      <${Ready} service=${service} />
      ${service.carried && html`<div class="flow" title="Connections per second, the last minute">
        <${Curve} values=${curve} />
        <p><strong>${rate(service.rate)}</strong><span aria-hidden="true">/s</span><span class="hidden"> connections per second</span></p>
      </div>`}
    </div>
    ${!open && service.picks > 0 && html`<${Split} service=${service} colours=${colours} />`}
    <div id=${body} hidden=${!open}>
      ${open && html`
        <${Addresses} service=${service} domain=${cluster.domain} />
        ${service.endpoints.length > 0 && html`<${Endpoints} service=${service} colours=${colours} />`}
        <${Advice} service=${service} kubeconfig=${cluster.kubeconfig} />`}
    </div>
  </article>`;
}

function Badges({ service }) {
  const { carried, policy, policyIsDefault, topology, affinity, internalLocal, externalLocal } = service;
  return html`<ul class="badges" aria-label="Properties">
    <li class="badge type">${service.headless ? "Headless" : service.type}</li>
    ${carried && html`<li class="badge policy" title=${policyIsDefault ? "The cluster's default scheduler" : "The scheduler that this service asks for"}>
      <span class="hidden">scheduler </span>${policy || "default"}</li>`}
    ${topology && html`<li class="badge" title="How endpoints near the client are preferred">${topology}</li>`}
    ${affinity && html`<li class="badge" title="sessionAffinity: ClientIP">sticky</li>`}
    ${internalLocal && html`<li class="badge" title="internalTrafficPolicy: Local">internal local</li>`}
    ${externalLocal && html`<li class="badge" title="externalTrafficPolicy: Local">external local</li>`}
  </ul>`;
}

function Ready({ service: { type, endpointsReady, endpointsTotal } }) {
  if (type === "ExternalName") return null;
  const state = endpointsReady === 0 ? "none" : endpointsReady < endpointsTotal ? "some" : "all";
  return html`<p class=${`ready ${state}`}>
    <span class="dot" aria-hidden="true"></span>
    <span>${count(endpointsReady)}<span aria-hidden="true">/</span><span class="hidden"> of </span>${count(endpointsTotal)} ready</span></p>`;
}

/** Where clients dial: virtual IPs, node ports, load balancer addresses, the name. */
function Addresses({ service, domain }) {
  const { ports, clusterIps, externalIps } = service;
  const each = (addresses, what) => addresses.flatMap((address) => ports.map((port) => html`
    <li key=${address + port.port + port.protocol}><${Copy} text=${socket(address, port.port)} what=${what} /><${Target} port=${port} /></li>`));
  const nodePorts = ports.filter((port) => port.nodePort);
  return html`<dl class="addresses">
    ${clusterIps.length > 0 && html`<div><dt>Virtual IP</dt><dd><ul>${each(clusterIps, "the virtual IP")}</ul></dd></div>`}
    ${externalIps.length > 0 && html`<div><dt>External</dt><dd><ul>${each(externalIps, "the external address")}</ul></dd></div>`}
    ${nodePorts.length > 0 && html`<div><dt>Node port</dt><dd><ul>${nodePorts.map((port) => html`
      <li key=${port.nodePort}><code>:${port.nodePort}</code>${ports.length > 1 && html`<span class="target">${port.name || port.port}</span>`}</li>`)}</ul></dd></div>`}
    <div><dt>DNS name</dt><dd><${Copy} text=${dnsName(service, domain)} what="the DNS name" />
      ${service.externalName && html`<span class="target">→ ${service.externalName}</span>`}
      ${service.headless && html`<span class="target">→ the endpoints' own addresses</span>`}</dd></div>
  </dl>`;
}

function Target({ port }) {
  return html`<span class="target">${port.name} <span aria-hidden="true">→</span><span class="hidden"> to pod port </span> ${port.target}
    ${port.protocol !== "TCP" && html` ${port.protocol}`}</span>`;
}

/** A folded service still shows how its zones share the traffic. */
function Split({ service, colours }) {
  return html`<div class="split" role="img"
    aria-label=${service.zones.map(({ zone, share }) => `${zone || "no zone"} ${percent(share)}`).join(", ")}>
    ${service.zones.map(({ zone, share }) => html`<span key=${zone} class=${colours.get(zone)} style=${{ flexGrow: share }}></span>`)}
  </div>`;
}

/** What to try when a service has no endpoints, none that is ready, or no traffic. */
function Advice({ service, kubeconfig }) {
  if (service.type === "ExternalName") return null;
  const labels = Object.entries(service.selector).map(([key, value]) => `${key}=${value}`).join(",");
  const pods = `kubectl get pods -n ${service.namespace} -l ${labels}`;
  if (!service.endpointsTotal) {
    return labels
      ? html`<div class="advice"><p>No pod matches the selector <code>${labels}</code>, so connections are refused. Look for typing errors:</p>
          <${Commands} lines=${[pods, `kubectl get pods -n ${service.namespace} --show-labels`]} /></div>`
      : html`<div class="advice"><p>This service has no selector: its endpoints are the EndpointSlices that you make for it.</p>
          <${Commands} lines=${[`kubectl get endpointslices -n ${service.namespace} -l kubernetes.io/service-name=${service.name}`]} /></div>`;
  }
  if (!service.endpointsReady) {
    return html`<div class="advice"><p>None of the endpoints is ready, so connections are refused. The pods tell why:</p>
      <${Commands} lines=${[labels ? pods.replace("get", "describe") : `kubectl get pods -n ${service.namespace}`]} /></div>`;
  }
  const command = tryIt(service);
  if (service.picks > 0 || service.system || !command) return null;
  return html`<div class="advice"><p>No connection yet. Make some:</p><${Commands} lines=${[command]} /></div>`;
}
