/* State per endpoint that stays with its endpoint when the endpoints change and get other indices. Define
   `struct endpoint`, with the field `uint64_t identity`, before this is included. */
#pragma once

#include "policy.h"

/* More have no state: so many take 5 of the 16 MiB that a module may have, and some of its 20 ms. */
#define ENDPOINTS_MAX (1 << 16)

/* By index; `endpoint_count` of them. */
static struct endpoint *const endpoints = (struct endpoint *)__heap_base;
/* 0 if there are more than ENDPOINTS_MAX: then have no opinion. */
static uint32_t endpoint_count;

/* Makes `endpoints` those of a `configure`. The other fields of a new endpoint are 0. */
static inline void rearrange_endpoints(uint32_t count)
{
    if (count > ENDPOINTS_MAX)
        count = 0;
    /* The states of before go into a hash table behind the array. An identity is a hash already. */
    struct endpoint *table = endpoints + (count > endpoint_count ? count : endpoint_count);
    uint32_t slots = 2;
    while (slots < 2 * endpoint_count)
        slots *= 2;
    if (!reserve(table + slots))
        __builtin_trap();
    for (uint32_t slot = 0; slot < slots; slot++)
        table[slot] = (struct endpoint){0};
    for (uint32_t i = 0; i < endpoint_count; i++) {
        uint32_t slot = endpoints[i].identity & (slots - 1);
        while (table[slot].identity != 0)
            slot = (slot + 1) & (slots - 1);
        table[slot] = endpoints[i];
    }
    for (uint32_t i = 0; i < count; i++) {
        uint64_t wanted = identity(i);
        uint32_t slot = wanted & (slots - 1);
        while (table[slot].identity != wanted && table[slot].identity != 0)
            slot = (slot + 1) & (slots - 1);
        endpoints[i] = table[slot];
        endpoints[i].identity = wanted;
    }
    endpoint_count = count;
}
