// The list of services, and what narrows it.

import { useEffect, useRef, useState } from "../vendor/preact/hooks.js";
import { html } from "../html.js";
import { count, plural, quoted } from "../format.js";
import { matches } from "../model.js";
import { Commands } from "./command.js";
import { Service } from "./service.js";

/** Drawn at once; a button shows more. */
const PAGE = 60;
/** With more services than this they begin folded. */
const OPEN_MAX = 15;

export function Services({ cluster, services, colours, history, recent, onRecent }) {
  const [text, setText] = useState("");
  const [namespace, setNamespace] = useState("");
  const [shown, setShown] = useState(PAGE);
  const box = useShortcut("/");
  const found = services
    .filter((service) => (!namespace || service.namespace === namespace) && matches(service, text))
    .sort((a, b) => a.system - b.system);
  const clear = () => {
    setText("");
    setNamespace("");
    box.current?.focus();
  };
  return html`
    <div class="toolbar" role="search">
      <h2>Services</h2>
      <label class="search"><span class="hidden">Filter services</span>
        <input ref=${box} type="search" placeholder="Filter by name, address, pod, zone…" value=${text}
          onInput=${(event) => setText(event.currentTarget.value)} autocomplete="off" spellcheck="false" />
        <kbd aria-hidden="true">/</kbd>
      </label>
      <label><span class="hidden">Namespace</span>
        <select value=${namespace} onChange=${(event) => setNamespace(event.currentTarget.value)}>
          <option value="">All namespaces</option>
          ${cluster.namespaces.map((name) => html`<option key=${name} value=${name}>${name}</option>`)}
        </select>
      </label>
      <${Shares} recent=${recent} onRecent=${onRecent} />
    </div>
    <p class="hidden" role="status">${text || namespace ? `${plural(found.length, "service")} found` : ""}</p>
    ${found.slice(0, shown).map((service) => html`<${Service} key=${service.id} service=${service}
      cluster=${cluster} colours=${colours} curve=${history.of(service.id)}
      unfolded=${!service.system && services.length <= OPEN_MAX} />`)}
    ${found.length > shown && html`<button type="button" class="more" onClick=${() => setShown(shown + PAGE)}>
      Show ${count(Math.min(PAGE, found.length - shown))} more of ${count(found.length)}</button>`}
    ${cluster.servicesTotal > cluster.services.length && html`<p class="note">
      This page knows the first ${count(cluster.services.length)} of ${count(cluster.servicesTotal)} services.</p>`}
    ${!found.length && (services.length ? html`<${NothingFound} onClear=${clear} />` : null)}
    ${services.every((service) => service.system)
      && !text && !namespace && html`<${FirstSteps} kubeconfig=${cluster.kubeconfig} />`}`;
}

function Shares({ recent, onRecent }) {
  const choice = (value, label) => html`<label>
    <input type="radio" name="shares" checked=${recent === value} onChange=${() => onRecent(value)} /><span>${label}</span></label>`;
  return html`<fieldset class="choice"><legend class="hidden">Bars show the share of picks</legend>
    ${choice(false, "All time")}${choice(true, "Last 10 s")}</fieldset>`;
}

/** A key that brings the focus here, unless the user is typing somewhere. */
function useShortcut(key) {
  const box = useRef(null);
  useEffect(() => {
    const pressed = (event) => {
      const typing = event.target.closest?.("input:not([type=radio]), select, textarea");
      if (event.key !== key || typing || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      box.current?.focus();
    };
    document.addEventListener("keydown", pressed);
    return () => document.removeEventListener("keydown", pressed);
  }, [key]);
  return box;
}

function NothingFound({ onClear }) {
  return html`<section class="empty">
    <h3>No service matches</h3>
    <p>The filter looks at names, types, addresses, ports, pods, nodes and zones. Several words must all be found.</p>
    <button type="button" class="more" onClick=${onClear}>Clear the filter</button>
  </section>`;
}

function FirstSteps({ kubeconfig }) {
  return html`<section class="empty">
    <h3>No services of your own yet</h3>
    <p>Make a deployment, put a service in front of it, and watch its endpoints appear here:</p>
    <${Commands} lines=${[
      ...(kubeconfig ? [`export KUBECONFIG=${quoted(kubeconfig)}`] : []),
      "kubectl create deployment web --image=web --replicas=3 --port=8080",
      "kubectl expose deployment web --port=8080",
      "kubectl get service web",
    ]} />
    <p>Then send it a few connections: <code>curl http://CLUSTER-IP:8080/</code></p>
  </section>`;
}
