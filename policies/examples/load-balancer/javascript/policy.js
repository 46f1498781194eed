// Least connections: a new connection goes to the endpoint that has the fewest open ones. Equals take turns.

// Connections to an endpoint that are open now. The host tells more: zone, node, weight, failures, latency, random, ...;
// see wit/policy.wit. A u64 is a BigInt.
import { active } from "snowglobe:policy/host@0.1.0";

// How many endpoints there are.
let endpointCount = 0;
// Where the next search begins.
let start = 0;

// The endpoints have changed: they are numbered from 0 to count - 1 now.
export function configure(generation, count) {
  endpointCount = count;
  start = 0;
}

// The number of the endpoint for one connection.
export function pick(sourceHash, clientZone, clientNode) {
  let best = start;
  let fewest = active(best);
  for (let step = 1; step < endpointCount && fewest > 0; step++) {
    const i = (start + step) % endpointCount;
    const connections = active(i);
    if (connections < fewest) {
      best = i;
      fewest = connections;
    }
  }
  start = (best + 1) % endpointCount;
  return best;
}
