// Least connections: a new connection goes to the endpoint that has the fewest open ones. Equals take turns.

// Connections to endpoint `i` that are open now. The host tells more: `zone`, `node`, `weight`, `failures`, `latency`,
// `random`, ...; see policy.wit.
@external("snowglobe:policy/host@0.1.0", "active")
declare function active(i: u32): u32;

// How many endpoints there are.
let endpointCount: u32 = 0;
// Where the next search begins.
let start: u32 = 0;

// The endpoints have changed: they are numbered from 0 to `count` - 1 now.
export function configure(generation: u64, count: u32): void {
  endpointCount = count;
  start = 0;
}

// The number of the endpoint for one connection.
export function pick(sourceHash: u64, clientZone: u32, clientNode: u32): u32 {
  let best = start;
  for (let step: u32 = 1; step < endpointCount; step++) {
    const i = (start + step) % endpointCount;
    if (active(i) < active(best)) best = i;
  }
  start = (best + 1) % endpointCount;
  return best;
}
