/* sh: source hash. A client address always gets the same endpoint, and shares follow the weights; weight 0 gets
   nothing.

   As IPVS's `sh`, but by weighted rendezvous hashing (Thaler and Ravishankar 1998; the weights as in Schindelhauer and
   Schomaker 2005) in place of a table of 256 buckets: any number of endpoints works, and when one leaves, only its
   clients get another. A client whose endpoint fails to connect gets its second choice, always the same, as with
   IPVS's flag `sh-fallback`. */
#include "policy.h"

#ifndef HASHED
#define HASHED SOURCE_ADDRESS
#endif

static uint32_t endpoint_count;

void configure(uint64_t generation, uint32_t count)
{
    endpoint_count = count;
}

/* Each endpoint draws a number from the hash of the client and its own; the highest wins. With u even in (0, 1),
   -weight / log u is the highest of all in proportion to the weight. `careful`: without those whose last connects
   failed. */
static uint32_t find_highest(uint64_t hash, int careful)
{
    uint32_t best = NO_OPINION, best_weight = 0;
    uint64_t best_drawn = 0;
    double best_score = 0;
    for (uint32_t i = 0; i < endpoint_count; i++) {
        uint64_t drawn = mix(hash ^ identity(i)) >> 11;
        uint32_t heavy = weight(i);
        /* Spares most logarithms. */
        int is_beaten = best != NO_OPINION && drawn <= best_drawn && heavy <= best_weight;
        if (heavy == 0 || is_beaten)
            continue;
        double score = -(double)heavy / __builtin_log2(((double)drawn + 0.5) / (1ull << 53));
        if (score <= best_score || (careful && is_passed_over(i)))
            continue;
        best = i;
        best_weight = heavy;
        best_drawn = drawn;
        best_score = score;
    }
    return best;
}

uint32_t pick(uint64_t source_hash, uint32_t client_zone, uint32_t client_node)
{
    uint64_t hash = HASHED == SOURCE_ADDRESS ? source_hash : flow_hash(HASHED);
    uint32_t chosen = find_highest(hash, 1);
    return chosen != NO_OPINION ? chosen : find_highest(hash, 0);
}
