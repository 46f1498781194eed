/* For schedulers that ask every endpoint and take the best: equals take turns, since the search begins behind the
   last pick. Define `find`. */
#pragma once

#include "policy.h"

static uint32_t endpoint_count;
/* Where the next search begins. */
static uint32_t start;

/* The best endpoint, or NO_OPINION. `careful`: without those whose last connects failed. */
static uint32_t find(int careful);

void configure(uint64_t generation, uint32_t count)
{
    endpoint_count = count;
    start %= count;
}

uint32_t pick(uint64_t source_hash, uint32_t client_zone, uint32_t client_node)
{
    uint32_t chosen = find(1);
    if (chosen == NO_OPINION)
        chosen = find(0);
    if (chosen != NO_OPINION)
        start = (chosen + 1) % endpoint_count;
    return chosen;
}
