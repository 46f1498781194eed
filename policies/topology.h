/* What topology policies in C have in common, besides `policy.h`. Define `score` and, for a policy with state,
   `configure`. Of the host's functions only those work that say the same until the endpoints change: `zone`, `node`,
   `weight`, `identity`, those for the configuration, and `log_value`. */
#pragma once

#include "policy.h"

/* The zone or node of an endpoint or client that is in none, as far as is known. */
#define UNKNOWN UINT32_MAX

/* The endpoints with the highest score are used; 0 excludes one. */
__attribute__((export_name("score"))) uint32_t score(uint32_t client_zone, uint32_t client_node, uint32_t i);

/* Whether both are known and the same. */
static inline int is_same(uint32_t place, uint32_t other)
{
    return place == other && place != UNKNOWN;
}
