/* wrr: weighted round robin, each endpoint in turn as often as its weight says. Weight 0 gets nothing, as in IPVS.
   The turns of one endpoint are spread over the round, as nginx does it (IPVS spreads them, too, but less evenly).

   An endpoint whose last connects failed mostly loses its turn. */
#include "turns.h"

/* Turns that may be lost in one pick, so that it ends when all endpoints fail. */
#define LOST_MAX 64

void configure(uint64_t generation, uint32_t count)
{
    rearrange_turns(count);
}

static int everyone(uint32_t i)
{
    return 1;
}

uint32_t pick(uint64_t source_hash, uint32_t client_zone, uint32_t client_node)
{
    uint32_t chosen = take_turn(everyone);
    for (int lost = 0; lost < LOST_MAX && chosen != NO_OPINION && is_passed_over(chosen); lost++)
        chosen = take_turn(everyone);
    return chosen;
}
