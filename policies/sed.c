/* sed: shortest expected delay, as IPVS's `sed`: the endpoint with the fewest open connections for its weight once
   it has the new one, (active + 1) / weight. Weight 0 gets nothing. A heavy endpoint gets connections before a light
   idle one does; `nq` is for those who mind.

   Where IPVS takes the first of several equals, they take turns here: the search begins behind the last pick. */
#include "search.h"

static uint32_t find(int careful)
{
    uint32_t best = NO_OPINION;
    uint64_t best_open = 0, best_weight = 0;
    for (uint32_t i = start, left = endpoint_count; left > 0; i = next(i), left--) {
        uint64_t open = (uint64_t)active(i) + 1, heavy = weights[i];
        /* open / heavy >= best_open / best_weight */
        if (heavy == 0 || (best != NO_OPINION && open * best_weight >= best_open * heavy))
            continue;
        if (careful && is_passed_over(i))
            continue;
        best = i;
        best_open = open;
        best_weight = heavy;
    }
    return best;
}
