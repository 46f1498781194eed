/* ewma: the faster of two, by a peak-sensitive average of the latency, as Finagle's and linkerd's `PeakEwma`. The cost
   of an endpoint is latency * (active + 1) / weight; of two by chance the one of lower cost is picked. Weight 0 gets
   nothing.

   Two and not all, as Finagle and linkerd do: the cheapest of all would get every connection of a quiet service, and a
   new endpoint, which seems fast until it has answered, would get all traffic until then. Of two by chance, none gets
   more than twice its share. */
#include "latency.h"

void configure(uint64_t generation, uint32_t count)
{
    rearrange_endpoints(count);
}

static double cost(uint32_t i, uint64_t time)
{
    uint32_t open = active(i);
    return estimate_latency(i, open, time) * (open + 1.0) / weight(i);
}

uint32_t pick(uint64_t source_hash, uint32_t client_zone, uint32_t client_node)
{
    uint32_t one = draw(NO_OPINION);
    if (one == NO_OPINION)
        return NO_OPINION;
    uint32_t other = draw(one);
    if (other == NO_OPINION)
        return one;
    uint64_t time = now();
    return cost(one, time) <= cost(other, time) ? one : other;
}
