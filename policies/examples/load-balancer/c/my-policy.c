/* Least connections: a new connection goes to the endpoint that has the fewest open ones. Equals take turns.
   policy.h declares what the host tells: active, weight, zone, latency, random, ... */
#include "policy.h"

/* How many endpoints there are. */
static uint32_t endpoint_count;
/* Where the next search begins. */
static uint32_t start;

/* The endpoints have changed: they are numbered from 0 to `count` - 1 now. */
void configure(uint64_t generation, uint32_t count)
{
    endpoint_count = count;
    start = 0;
}

/* The number of the endpoint for one connection. */
uint32_t pick(uint64_t source_hash, uint32_t client_zone, uint32_t client_node)
{
    uint32_t best = start;
    for (uint32_t step = 1; step < endpoint_count; step++) {
        uint32_t i = (start + step) % endpoint_count;
        if (active(i) < active(best))
            best = i;
    }
    start = (best + 1) % endpoint_count;
    return best;
}
