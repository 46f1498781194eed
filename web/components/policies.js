// The schedulers that can be chosen, and by how many services each is.

import { html } from "../html.js";
import { plural } from "../format.js";

export function Policies({ policies, services }) {
  if (!policies.length) return null;
  const users = new Map();
  for (const { policy } of services) users.set(policy, (users.get(policy) ?? 0) + 1);
  return html`<section class="panel" aria-labelledby="policies-title">
    <h2 id="policies-title">Schedulers</h2>
    <ul class="policies">
      ${policies.map((policy) => {
        const used = users.get(policy.name) ?? 0;
        return html`<li key=${policy.name} class=${policy.ready === "False" ? "failed" : ""}>
          <span class=${`state ${policy.ready === "False" ? "not-ready" : "ready"}`}><span class="dot" aria-hidden="true"></span></span>
          <span class="name">${policy.name}</span>
          <span class="source">${policy.source}</span>
          <span class="aside">${used ? plural(used, "service") : ""}</span>
          ${policy.message && html`<p class="message">${policy.message}</p>`}</li>`;
      })}
    </ul>
    <p class="note">Chosen by the annotation <code>snowglobe.dev/load-balancer-policy</code>.</p>
  </section>`;
}
