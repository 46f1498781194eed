/* For schedulers that ask every endpoint and take the best: equals take turns, since the search begins behind the
   last pick. Define `find`. */
#pragma once

#include "policy.h"

static uint32_t endpoint_count;
/* By index. Asking the host each time would double the time of a search. */
static uint32_t *const weights = (uint32_t *)__heap_base;
/* Where the next search begins. */
static uint32_t start;

/* The endpoint behind `i`. A remainder would take longer than all else about an endpoint. */
static inline uint32_t next(uint32_t i)
{
    return i + 1 < endpoint_count ? i + 1 : 0;
}

/* The best endpoint, or NO_OPINION. `careful`: without those whose last connects failed. */
static uint32_t find(int careful);

void configure(uint64_t generation, uint32_t count)
{
    if (!reserve(weights + count))
        __builtin_trap();
    for (uint32_t i = 0; i < count; i++)
        weights[i] = weight(i);
    endpoint_count = count;
    start %= count;
}

uint32_t pick(uint64_t source_hash, uint32_t client_zone, uint32_t client_node)
{
    uint32_t chosen = find(0);
    /* As long as the best one works, it does not matter whether others do. */
    if (chosen != NO_OPINION && failures(chosen) > 0) {
        uint32_t careful = find(1);
        chosen = careful == NO_OPINION ? chosen : careful;
    }
    if (chosen != NO_OPINION)
        start = next(chosen);
    return chosen;
}
