/* spread: the endpoints in the client's zone and, where these are too few for its clients, those of other zones too.

   Scores are kept until the endpoints change, so the load is not what is measured but what is to be expected: the
   clients of each zone that has endpoints ask for equally much, and an endpoint can do as much as its weight says.
   A zone is short if its endpoints would have more than `overload` times the load of the mean endpoint. Then the zone
   that can do most joins it, and another one, until they are not short together; each brings its own clients along.
   This is how Kubernetes decides how many endpoints of other zones a zone needs (topology-mode Auto, whose overload
   threshold is 1.2), by endpoints in place of CPUs; and it spills over as Envoy does from a locality that lacks
   endpoints.

   Configuration, words with spaces between them:
     overload=1.2   what is too much; not below 1
     minimum=1      a zone with fewer endpoints (of a weight above 0) is short, whatever its load

   Clients in no zone, or in one without endpoints, use all. If a word is none of these, the policy logs code 1 with its
   position in the configuration and traps, so that it is refused. */
#include "topology.h"

/* Endpoints and clients in further zones count as being in none. */
#define ZONES_MAX 64

enum { BAD_CONFIGURATION = 1 };

static struct zone {
    uint32_t id;
    uint32_t endpoints;
    double capacity;
    /* Whether clients in `group_of` use it. */
    int is_joined;
} zones[ZONES_MAX];
static uint32_t zone_count;
/* The zone for whose clients zones have joined; UNKNOWN for none. */
static uint32_t group_of;

static double overload, total_capacity;
static uint32_t minimum, total_endpoints;

/* Its index, or ZONES_MAX. */
static uint32_t find_zone(uint32_t id)
{
    for (uint32_t z = 0; z < zone_count; z++)
        if (is_same(zones[z].id, id))
            return z;
    return ZONES_MAX;
}

static void count_endpoint(uint32_t i)
{
    uint32_t id = zone(i), heavy = weight(i), z = find_zone(id);
    if (z == ZONES_MAX) {
        if (id == UNKNOWN || zone_count == ZONES_MAX)
            return;
        z = zone_count++;
        zones[z] = (struct zone){.id = id};
    }
    zones[z].capacity += heavy;
    zones[z].endpoints += heavy > 0;
    total_capacity += heavy;
    total_endpoints += heavy > 0;
}

static void refuse(uint32_t position)
{
    log_value(BAD_CONFIGURATION, position);
    __builtin_trap();
}

/* The byte of the configuration there, or a space behind its end. */
static uint32_t byte_at(uint32_t position)
{
    return position < config_length() ? config_byte(position) : ' ';
}

static int is_space(uint32_t byte)
{
    return byte == ' ' || byte == '\n' || byte == '\t' || byte == '\r';
}

/* Whether the word at `position` begins so. If so, `position` is then behind that. */
static int skip(uint32_t *position, const char *text)
{
    uint32_t at = *position;
    while (*text != 0)
        if (byte_at(at++) != (uint32_t)*text++)
            return 0;
    *position = at;
    return 1;
}

/* The number at `position`, which is then behind it. */
static double read_number(uint32_t *position)
{
    uint32_t begin = *position, digits = 0;
    double value = 0, unit = 1;
    int is_fraction = 0;
    for (; !is_space(byte_at(*position)); ++*position) {
        uint32_t byte = byte_at(*position);
        if (byte == '.' && !is_fraction) {
            is_fraction = 1;
            continue;
        }
        if (byte < '0' || byte > '9' || ++digits > 9)
            refuse(begin);
        value = value * 10 + (byte - '0');
        unit *= is_fraction ? 10 : 1;
    }
    if (digits == 0)
        refuse(begin);
    return value / unit;
}

static void read_configuration(void)
{
    overload = 1.2;
    minimum = 1;
    for (uint32_t position = 0; position < config_length();) {
        uint32_t begin = position;
        if (is_space(byte_at(position)))
            position++;
        else if (skip(&position, "overload="))
            overload = read_number(&position);
        else if (skip(&position, "minimum="))
            minimum = (uint32_t)read_number(&position);
        else
            refuse(begin);
        if (overload < 1)
            refuse(begin);
    }
}

void configure(uint64_t generation, uint32_t count)
{
    read_configuration();
    zone_count = total_endpoints = 0;
    total_capacity = 0;
    group_of = UNKNOWN;
    for (uint32_t i = 0; i < count; i++)
        count_endpoint(i);
}

/* The one that can do most of those that have not joined. Of equals the next one behind `own`, so that not all short
   zones go to the same. */
static uint32_t find_strongest(uint32_t own)
{
    uint32_t best = ZONES_MAX;
    for (uint32_t step = 1; step < zone_count; step++) {
        uint32_t z = (own + step) % zone_count;
        if (!zones[z].is_joined && (best == ZONES_MAX || zones[z].capacity > zones[best].capacity))
            best = z;
    }
    return best;
}

/* Lets other zones join `own` until they are not short together. */
static void group(uint32_t own)
{
    for (uint32_t z = 0; z < zone_count; z++)
        zones[z].is_joined = 0;
    double capacity = 0, mean = total_capacity / zone_count;
    uint32_t endpoints = 0, wanted = minimum < total_endpoints ? minimum : total_endpoints;
    double joined = 0;
    for (uint32_t z = own; z != ZONES_MAX; z = find_strongest(own)) {
        zones[z].is_joined = 1;
        joined += 1;
        capacity += zones[z].capacity;
        endpoints += zones[z].endpoints;
        if (capacity > 0 && joined * mean <= capacity * overload && endpoints >= wanted)
            return;
    }
}

uint32_t score(uint32_t client_zone, uint32_t client_node, uint32_t i)
{
    uint32_t own = find_zone(client_zone);
    if (own == ZONES_MAX)
        return 1;
    if (group_of != client_zone) {
        group(own);
        group_of = client_zone;
    }
    uint32_t z = find_zone(zone(i));
    return z != ZONES_MAX && zones[z].is_joined ? 2 : 1;
}
