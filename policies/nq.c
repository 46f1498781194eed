/* nq: never queue, as IPVS's `nq`: an idle endpoint if there is one, whatever its weight; else the shortest expected
   delay, (active + 1) / weight. Weight 0 gets nothing.

   Where IPVS takes the first of several equals, they take turns here: the search begins behind the last pick. */
#include "search.h"

static uint32_t find(int careful)
{
    uint32_t best = NO_OPINION;
    uint64_t best_open = 0, best_weight = 0;
    for (uint32_t i = start, left = endpoint_count; left > 0; i = next(i), left--) {
        uint64_t open = (uint64_t)active(i) + 1, heavy = weights[i];
        int idle = open == 1;
        /* open / heavy >= best_open / best_weight */
        int longer = best != NO_OPINION && open * best_weight >= best_open * heavy;
        if (heavy == 0 || (longer && !idle))
            continue;
        if (careful && is_passed_over(i))
            continue;
        if (idle)
            return i;
        best = i;
        best_open = open;
        best_weight = heavy;
    }
    return best;
}
