/* lc: the endpoint with the fewest open connections, as IPVS's `lc`. Weights do not matter, except that 0 gets
   nothing.

   IPVS takes the first of several that have equally few, and so sends all traffic of a quiet service to one. Here
   they take turns: the search begins behind the endpoint that was picked last. */
#include "search.h"

static uint32_t find(int careful)
{
    uint32_t best = NO_OPINION, fewest = 0;
    for (uint32_t i = start, left = endpoint_count; left > 0; i = next(i), left--) {
        uint32_t open = active(i);
        if (best != NO_OPINION && open >= fewest)
            continue;
        if (weights[i] == 0 || (careful && is_passed_over(i)))
            continue;
        best = i;
        fewest = open;
        if (fewest == 0)
            break;
    }
    return best;
}
