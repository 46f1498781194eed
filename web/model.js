// The two documents of the stream, joined: what each service, endpoint and zone gets.

import { socket } from "./format.js";

/** Namespaces that the cluster itself uses; their services are shown last and folded, as is the API's. */
const SYSTEM = new Set(["kube-system", "kube-public", "kube-node-lease"]);

/** One service with its traffic. `recent` takes shares of the last seconds instead of all time. */
export function withTraffic(service, { traffic, rates }, now, recent) {
  const endpoints = service.endpoints.map((endpoint) => ({
    ...endpoint, picks: 0, growth: 0, rate: 0, active: 0, failures: 0, latencyUs: 0,
  }));
  const rows = new Map(endpoints.map((row) => [row.address, row]));
  let picks = 0;
  let policy = "";
  for (const port of service.ports) {
    const key = `${service.namespace}/${service.name}:${port.port}/${port.protocol}`;
    const counted = traffic[key];
    if (!counted) continue;
    policy ||= counted.policy ?? "";
    for (const [address, counters] of Object.entries(counted.endpoints)) {
      // Also counts what went to endpoints that are gone.
      picks += counters.picks;
      const row = rows.get(address.slice(0, address.lastIndexOf(":")).replace(/^\[|\]$/g, ""));
      if (!row) continue;
      row.picks += counters.picks;
      row.growth += rates.growth(key, address, now);
      row.rate += rates.perSecond(key, address, now);
      row.active += counters.active;
      row.failures = Math.max(row.failures, counters.failures);
      row.latencyUs = Math.max(row.latencyUs, counters.latencyUs);
    }
  }
  const weight = (row) => (recent ? row.growth : row.picks);
  const whole = sum(endpoints, weight);
  for (const row of endpoints) row.share = whole ? weight(row) / whole : 0;
  return {
    ...service,
    id: `${service.namespace}/${service.name}`,
    system: SYSTEM.has(service.namespace) || (service.namespace === "default" && service.name === "kubernetes"),
    endpoints,
    zones: byZone(endpoints),
    picks,
    rate: sum(endpoints, (row) => row.rate),
    policy: service.policy || policy,
    /** Whether the proxy carries its traffic: clients of other services dial the endpoints themselves. */
    carried: service.type !== "ExternalName" && !service.headless,
    policyIsDefault: !service.policy,
  };
}

/** Endpoints in groups by zone; those without one come last. */
function byZone(endpoints) {
  const zones = new Map();
  for (const endpoint of endpoints) {
    if (!zones.has(endpoint.zone)) zones.set(endpoint.zone, []);
    zones.get(endpoint.zone).push(endpoint);
  }
  return [...zones]
    .map(([zone, rows]) => ({ zone, rows, share: sum(rows, (row) => row.share) }))
    .sort((a, b) => !a.zone - !b.zone);
}

/** Every zone of the cluster with its nodes, its place among the colours, and what it gets of all traffic. */
export function zonesOf(cluster, services) {
  const zones = new Map();
  const zone = (name) => {
    if (!zones.has(name)) zones.set(name, { name, nodes: [], endpoints: 0, ready: 0, rate: 0, picks: 0 });
    return zones.get(name);
  };
  for (const node of cluster.nodes) zone(node.zone).nodes.push(node);
  for (const { endpoints } of services) {
    for (const endpoint of endpoints) {
      const its = zone(endpoint.zone);
      its.endpoints += 1;
      its.ready += endpoint.ready ? 1 : 0;
      its.rate += endpoint.rate;
      its.picks += endpoint.picks;
    }
  }
  return [...zones.values()].filter(({ nodes, picks }) => nodes.length || picks).sort((a, b) => !a.name - !b.name || a.name.localeCompare(b.name));
}

/** Whether a service is meant by a text: every word must be found in its name, addresses or endpoints. */
export function matches(service, text) {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  if (!words.length) return true;
  const told = [
    service.namespace, service.name, service.type, service.policy, service.topology, service.externalName,
    service.headless ? "headless" : "",
    ...service.clusterIps, ...service.externalIps,
    ...service.ports.flatMap((port) => [port.name, `:${port.port}`, port.nodePort ?? ""]),
    ...service.endpoints.flatMap((endpoint) => [endpoint.pod, endpoint.address, endpoint.node, endpoint.zone]),
  ].join(" ").toLowerCase();
  return words.every((word) => told.includes(word));
}

/** A name by which a client in the cluster finds the service. */
export const dnsName = (service, domain) => `${service.name}.${service.namespace}.svc.${domain}`;

/** A command that makes a connection, if a plain client can. */
export function tryIt(service) {
  const port = service.ports.find((one) => one.protocol === "TCP");
  if (!port || !service.clusterIps.length) return "";
  return `curl http://${socket(service.clusterIps[0], port.port)}/`;
}

export const sum = (list, value) => list.reduce((total, one) => total + value(one), 0);
