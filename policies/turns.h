/* Smooth weighted round robin, nginx's algorithm (ngx_http_upstream_round_robin.c). At each turn every endpoint that
   takes part earns its weight; who has most gets the turn and pays what all together earned. Weights 3 and 1 give
   a a b a, not a a a b. */
#pragma once

#include "policy.h"

struct endpoint {
    uint64_t identity;
    /* Earned and not yet paid. */
    int64_t credit;
    uint32_t weight;
};

#include "endpoints.h"

/* The endpoints changed. Credit stays, but none starts with more than one round's, or as much debt: it would be in
   turn again and again if the weights were greater before. */
static inline void rearrange_turns(uint32_t count)
{
    rearrange_endpoints(count);
    int64_t round = 0, credit = 0;
    for (uint32_t i = 0; i < endpoint_count; i++) {
        endpoints[i].weight = weight(i);
        round += endpoints[i].weight;
        credit += endpoints[i].credit;
    }
    for (uint32_t i = 0; i < endpoint_count; i++) {
        /* What those that left owed or owned is shared out, so that newcomers are level with the others. */
        int64_t level = endpoints[i].credit - credit / count;
        endpoints[i].credit = level > round ? round : level < -round ? -round : level;
    }
}

/* Who is in turn among those with a weight that take part; NO_OPINION if there is none. */
static inline uint32_t take_turn(int (*takes_part)(uint32_t i))
{
    uint32_t best = NO_OPINION;
    int64_t earned = 0;
    for (uint32_t i = 0; i < endpoint_count; i++) {
        if (endpoints[i].weight == 0 || !takes_part(i))
            continue;
        endpoints[i].credit += endpoints[i].weight;
        earned += endpoints[i].weight;
        if (best == NO_OPINION || endpoints[i].credit > endpoints[best].credit)
            best = i;
    }
    if (best != NO_OPINION)
        endpoints[best].credit -= earned;
    return best;
}
