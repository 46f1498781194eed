/* ring: consistent hashing of the client address on a ring, as ketama (libketama, last.fm 2007) and Envoy's RING_HASH.
   Each endpoint has many points on the ring, a client gets the endpoint of the next point. When an endpoint leaves,
   only its clients get another, spread over all. Shares differ by a tenth, one in a hundred by a quarter; those of `maglev`
   do not.

   The points of an endpoint are its share of the weights, 160 on average; weight 0 has none. */
#include "policy.h"
#include "sort.h"

/* Points per endpoint on average, as in ketama. */
#define POINTS 160
/* Where these are more, each endpoint has fewer points, down to one: sorting must end in time. */
#define POINTS_MAX (1 << 17)
/* More endpoints are without a ring: theirs would not fit into 16 MiB. */
#define ENDPOINTS_MAX (1 << 18)
/* Points looked at for one connection while endpoints fail. */
#define LOOKS_MAX 64

/* The points in order. */
static struct ranked *ring;
static uint32_t point_count;

/* The endpoint's share of all points, and one at least. */
static uint32_t share(uint64_t heavy, double total, double points)
{
    uint32_t floor = heavy * points / total;
    return heavy == 0 ? 0 : floor > 0 ? floor : 1;
}

void configure(uint64_t generation, uint32_t count)
{
    point_count = 0;
    if (count > ENDPOINTS_MAX)
        return;
    double total = 0;
    for (uint32_t i = 0; i < count; i++)
        total += weight(i);
    double points = count * POINTS < POINTS_MAX ? count * POINTS : POINTS_MAX;
    uint32_t points_max = points + count;
    struct ranked *items = (struct ranked *)__heap_base;
    ring = items + points_max;
    if (!reserve(ring + points_max))
        __builtin_trap();
    for (uint32_t i = 0; i < count; i++) {
        uint64_t sequence = identity(i);
        for (uint32_t left = share(weight(i), total, points); left > 0; left--) {
            sequence += 0x9e3779b97f4a7c15;
            items[point_count++] = (struct ranked){.key = mix(sequence) >> 32, .index = i};
        }
    }
    sort(items, ring, point_count);
}

/* The first point at or behind `key`, or the number of points. */
static uint32_t find_point(uint32_t key)
{
    uint32_t low = 0, high = point_count;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (ring[middle].key < key)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

uint32_t pick(uint64_t source_hash, uint32_t client_zone, uint32_t client_node)
{
    if (point_count == 0)
        return NO_OPINION;
    uint32_t first = find_point(source_hash >> 32) % point_count;
    uint32_t failing = NO_OPINION;
    for (uint32_t look = 0; look < LOOKS_MAX; look++) {
        uint32_t chosen = ring[(first + look) % point_count].index;
        if (chosen == failing)
            continue;
        if (!is_passed_over(chosen))
            return chosen;
        failing = chosen;
    }
    return ring[first].index;
}
