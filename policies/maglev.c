/* maglev: consistent hashing of the client address by a table, as in Eisenbud et al., "Maglev: A Fast and Reliable
   Software Network Load Balancer" (NSDI 2016), section 3.4. Each endpoint takes slots of the table in an order of its
   own, one after the other in turn, until all are taken. Shares are even to within one slot; when one endpoint leaves,
   little more than its clients get another. IPVS's `mh` is the same.

   Weights are the numbers of slots that endpoints may take; weight 0 takes none. The table depends on the set of
   endpoints alone, not on their order, so that all nodes agree. */
#include "policy.h"
#include "sort.h"

/* Slots, a prime: 655 each for 100 endpoints, 65 for 1,000. Of 100 endpoints one leaves: 1.6 % of the clients get
   another, where half the size makes it 1.9 %. One size for all numbers of endpoints, because another size means
   another endpoint for everyone. */
#define SLOTS 65521
/* More than these, with two slots each, are left to the host's round robin. */
#define ENDPOINTS_MAX (SLOTS / 2)

#define FREE 0xffff
/* Greater weights count as this, which keeps sums in 64 bits. */
#define WEIGHT_MAX (1 << 24)
/* Slots looked at for one connection while endpoints fail. */
#define LOOKS_MAX 16

struct taker {
    uint32_t slot, step, left, index;
};

static uint16_t table[SLOTS];
/* Whether somebody has a weight, and there are not too many. */
static int is_filled;

static uint64_t counted_weight(uint32_t i)
{
    uint32_t given = weight(i);
    return given < WEIGHT_MAX ? given : WEIGHT_MAX;
}

/* Lists the endpoints by identity, and how many slots each may take: all together at least all. */
static uint32_t list_takers(struct taker *takers, const struct ranked *order, uint32_t count)
{
    uint64_t total = 0, before = 0;
    for (uint32_t i = 0; i < count; i++)
        total += counted_weight(i);
    uint32_t listed = 0;
    for (uint32_t rank = 0; rank < count; rank++) {
        uint32_t index = order[rank].index;
        uint64_t hash = identity(index), heavy = counted_weight(index);
        if (heavy == 0)
            continue;
        uint32_t share = (before + heavy) * SLOTS / total - before * SLOTS / total;
        before += heavy;
        takers[listed++] = (struct taker){
            .slot = hash % SLOTS,
            .step = mix(hash) % (SLOTS - 1) + 1,
            .left = share > 0 ? share : 1,
            .index = index,
        };
    }
    return listed;
}

static void fill_table(struct taker *takers, uint32_t count)
{
    for (uint32_t slot = 0; slot < SLOTS; slot++)
        table[slot] = FREE;
    uint32_t taken = 0;
    while (taken < SLOTS) {
        uint32_t staying = 0;
        for (uint32_t i = 0; i < count && taken < SLOTS; i++) {
            struct taker taker = takers[i];
            while (table[taker.slot] != FREE) {
                taker.slot += taker.step;
                if (taker.slot >= SLOTS)
                    taker.slot -= SLOTS;
            }
            table[taker.slot] = taker.index;
            taken++;
            if (--taker.left > 0)
                takers[staying++] = taker;
        }
        count = staying;
    }
}

void configure(uint64_t generation, uint32_t count)
{
    is_filled = 0;
    if (count > ENDPOINTS_MAX)
        return;
    struct ranked *items = (struct ranked *)__heap_base, *order = items + count;
    struct taker *takers = (struct taker *)(order + count);
    if (!reserve(takers + count))
        __builtin_trap();
    for (uint32_t i = 0; i < count; i++)
        items[i] = (struct ranked){.key = identity(i) >> 32, .index = i};
    sort(items, order, count);
    uint32_t listed = list_takers(takers, order, count);
    if (listed == 0)
        return;
    fill_table(takers, listed);
    is_filled = 1;
}

/* The hash's place in the table, which takes a multiplication where a remainder takes a division. */
static uint32_t look_up(uint64_t hash)
{
    return table[(hash >> 32) * SLOTS >> 32];
}

uint32_t pick(uint64_t source_hash, uint32_t client_zone, uint32_t client_node)
{
    if (!is_filled)
        return NO_OPINION;
    uint32_t first = look_up(source_hash);
    uint32_t chosen = first;
    for (int look = 1; is_passed_over(chosen); look++) {
        if (look == LOOKS_MAX)
            return first;
        chosen = look_up(mix(source_hash + look));
    }
    return chosen;
}
