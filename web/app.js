// The page: one store, one tree, drawn anew when something changed.

import { render } from "./vendor/preact/preact.js";
import { useState } from "./vendor/preact/hooks.js";
import { Banner } from "./components/banner.js";
import { Events } from "./components/events.js";
import { Header } from "./components/header.js";
import { Policies } from "./components/policies.js";
import { Services } from "./components/services.js";
import { Zones } from "./components/zones.js";
import { History } from "./history.js";
import { html } from "./html.js";
import { withTraffic, zonesOf } from "./model.js";
import { Store } from "./store.js";

/** Rates fall and times pass without any news, so the page is drawn this often at least. */
const TICK = 1000;

const root = document.getElementById("app");
const store = new Store(draw);
const history = new History();
let drawing = false;
let noted = 0;

function App() {
  const [recent, setRecent] = useState(false);
  const { cluster } = store;
  if (!cluster) {
    return html`<${Banner} store=${store} /><p class="loading">Connecting to the cluster…</p>`;
  }
  const now = performance.now();
  const services = cluster.services.map((service) => withTraffic(service, store, now, recent));
  if (now - noted >= TICK) {
    noted = now;
    history.note(services);
  }
  const zones = zonesOf(cluster, services);
  const colours = new Map(zones.map((zone, place) => [zone.name, `zone-${zone.name ? place % 8 : "none"}`]));
  return html`
    <${Header} store=${store} services=${services} zones=${zones} />
    <${Banner} store=${store} />
    <div class="columns">
      <main id="services" tabindex="-1">
        <${Services} cluster=${cluster} services=${services} colours=${colours}
          history=${history} recent=${recent} onRecent=${setRecent} />
      </main>
      <div class="side">
        <${Zones} zones=${zones} colours=${colours} />
        <${Events} events=${cluster.events} />
        <${Policies} policies=${cluster.policies} services=${services} />
      </div>
    </div>`;
}

function drawNow() {
  drawing = false;
  render(html`<${App} key="app" tick=${performance.now()} />`, root);
}

/** At most once per frame of the screen, however much news there is. */
function draw() {
  if (drawing) return;
  drawing = true;
  requestAnimationFrame(drawNow);
}

root.replaceChildren();
store.begin(document.getElementById("state"));
drawNow();
store.open();
setInterval(() => document.hidden || draw(), TICK);
document.addEventListener("visibilitychange", () => (document.hidden ? store.close() : store.open()));
