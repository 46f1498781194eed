/* How long an endpoint takes to answer, and drawing endpoints by chance. */
#pragma once

#include "policy.h"

struct endpoint {
    uint64_t identity;
    /* When `measured` last changed. */
    uint64_t changed_at;
    /* The host's average as it was then. */
    uint32_t measured;
    /* The estimate as it was then. */
    uint32_t estimate;
};

#include "endpoints.h"

/* Microseconds in which an estimate halves while there is no news. Finagle's and linkerd's averages fall to 1 / e in
   ten seconds, which is the same. */
#define HALF_LIFE 7000000
/* The part of the way down to a lower sample that the host's average goes. */
#define DOWN 8
/* For an endpoint that is busy and has not answered yet: worse than any that has. */
#define UNKNOWN_LATENCY 1e15

static inline uint32_t aged(uint32_t estimate, uint64_t age)
{
    uint64_t halvings = age / HALF_LIFE, rest = age % HALF_LIFE;
    uint64_t halved = halvings < 32 ? estimate >> halvings : 0;
    uint64_t now = halved - halved * rest / (2 * HALF_LIFE);
    return now > 0 ? now : 1;
}

/* The endpoint's latency in microseconds as a peak-sensitive average that ages: a slow answer counts at once, and an
   endpoint that is avoided because of it is tried again after a while. The host's average does not age: it stands
   still as long as there are no answers. */
static inline double estimate_latency(uint32_t i, uint32_t open, uint64_t time)
{
    struct endpoint *endpoint = &endpoints[i];
    uint32_t measured = latency(i), before = endpoint->measured;
    if (measured == 0)
        return open > 0 ? UNKNOWN_LATENCY : 0;
    uint32_t estimate = aged(endpoint->estimate, time - endpoint->changed_at);
    if (measured == before)
        return estimate;
    if (measured > before) {
        estimate = measured;
    } else {
        /* What the sample was, if it was a single one. */
        int64_t sample = measured - (int64_t)(before - measured) * (DOWN - 1);
        if (sample > estimate)
            estimate = sample;
        if (estimate > measured)
            estimate = measured;
    }
    endpoint->measured = measured;
    endpoint->estimate = estimate;
    endpoint->changed_at = time;
    return estimate;
}

/* An endpoint by chance, but not `other`, none of weight 0, and hardly one whose last connects failed. NO_OPINION if
   there is none. */
static inline uint32_t draw(uint32_t other)
{
    if (endpoint_count == 0)
        return NO_OPINION;
    uint32_t i = 0;
    for (int attempt = 0; attempt < 8; attempt++) {
        i = random_below(endpoint_count);
        if (i != other && weight(i) > 0 && !is_passed_over(i))
            return i;
    }
    for (uint32_t step = 0; step < endpoint_count; step++) {
        i = i + 1 < endpoint_count ? i + 1 : 0;
        if (i != other && weight(i) > 0)
            return i;
    }
    return NO_OPINION;
}
