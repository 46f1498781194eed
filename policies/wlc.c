/* wlc: the endpoint with the fewest open connections for its weight, active / weight, as IPVS's `wlc`. Weight 0 gets
   nothing.

   Several that are equal, as all idle ones are, take turns by weight, as in nginx's `least_conn`. IPVS takes the
   first, but counts connections that were closed of late; the host does not tell about those. */
#include "turns.h"

/* The least active / weight of all, as its endpoint has it. */
static uint32_t least;
static uint64_t least_open, least_weight;

void configure(uint64_t generation, uint32_t count)
{
    rearrange_turns(count);
}

/* `careful`: without those whose last connects failed. */
static void find_least(int careful)
{
    least = NO_OPINION;
    for (uint32_t i = 0; i < endpoint_count; i++) {
        uint64_t open = active(i), heavy = endpoints[i].weight;
        /* open / heavy >= least_open / least_weight */
        if (heavy == 0 || (least != NO_OPINION && open * least_weight >= least_open * heavy))
            continue;
        if (careful && is_passed_over(i))
            continue;
        least = i;
        least_open = open;
        least_weight = heavy;
    }
}

static int is_least(uint32_t i)
{
    if (i == least)
        return 1;
    return active(i) * least_weight == least_open * endpoints[i].weight && !is_passed_over(i);
}

uint32_t pick(uint64_t source_hash, uint32_t client_zone, uint32_t client_node)
{
    find_least(1);
    if (least == NO_OPINION)
        find_least(0);
    return take_turn(is_least);
}
