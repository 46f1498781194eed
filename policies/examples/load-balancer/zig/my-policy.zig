//! Least connections: a new connection goes to the endpoint that has the fewest open ones. Equals take turns.

/// Connections to endpoint `i` that are open now. The host tells more: `zone`, `node`, `weight`, `failures`,
/// `latency`, `random`, ...; see policy.wit.
extern "snowglobe:policy/host@0.1.0" fn active(i: u32) u32;

/// How many endpoints there are.
var endpoint_count: u32 = 0;
/// Where the next search begins.
var start: u32 = 0;

/// The endpoints have changed: they are numbered from 0 to `count` - 1 now.
export fn configure(_: u64, count: u32) void {
    endpoint_count = count;
    start = 0;
}

/// The number of the endpoint for one connection.
export fn pick(_: u64, _: u32, _: u32) u32 {
    var best = start;
    var step: u32 = 1;
    while (step < endpoint_count) : (step += 1) {
        const i = (start + step) % endpoint_count;
        if (active(i) < active(best)) best = i;
    }
    start = (best + 1) % endpoint_count;
    return best;
}
