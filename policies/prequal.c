/* prequal: hot and cold, as in Wydrowski et al., "Load is not what you should balance: Introducing Prequal" (NSDI 2024):
   of some endpoints by chance, those with more requests in flight than most are hot; of those that are not, the one
   with the lowest latency is picked, and if all are hot, the one with the fewest in flight. Weight 0 gets nothing;
   other weights do not matter.

   The paper probes servers for both figures. Here the host has them, and a connection stands for a request. A probe tells
   the latency with as many in flight as there are now; the host's average does not, so it is multiplied by those and the
   new one. (Without, the fastest gets all until it is hot: at 60 % load the median is five times as long.) */
#include "latency.h"

/* Endpoints looked at for one connection: what the paper's synchronous mode probes, in which more help little. */
#define LOOKS 5
/* The paper's quantile: an endpoint with more in flight than 27 of 32 endpoints is hot. */
#define HOT_NUMERATOR 27
#define HOT_DENOMINATOR 32
/* Numbers in flight that were seen last, from which the quantile is taken. */
#define SEEN_MAX 128

static uint32_t seen[SEEN_MAX];
static uint32_t seen_count, seen_next;

void configure(uint64_t generation, uint32_t count)
{
    rearrange_endpoints(count);
}

static void see(uint32_t in_flight)
{
    seen[seen_next] = in_flight;
    seen_next = (seen_next + 1) % SEEN_MAX;
    if (seen_count < SEEN_MAX)
        seen_count++;
}

static int is_hot(uint32_t in_flight)
{
    uint32_t fewer = 0;
    for (uint32_t i = 0; i < seen_count; i++)
        fewer += seen[i] < in_flight;
    return fewer * HOT_DENOMINATOR > seen_count * HOT_NUMERATOR;
}

uint32_t pick(uint64_t source_hash, uint32_t client_zone, uint32_t client_node)
{
    uint64_t time = now();
    uint32_t best = NO_OPINION;
    int best_hot = 0;
    double best_cost = 0;
    for (int look = 0; look < LOOKS; look++) {
        uint32_t i = draw(best);
        if (i == NO_OPINION)
            break;
        uint32_t in_flight = active(i);
        see(in_flight);
        int hot = is_hot(in_flight);
        double cost = hot ? in_flight : estimate_latency(i, in_flight, time) * (in_flight + 1.0);
        if (best == NO_OPINION || hot < best_hot || (hot == best_hot && cost < best_cost)) {
            best = i;
            best_hot = hot;
            best_cost = cost;
        }
    }
    return best;
}
