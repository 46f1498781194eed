/* same-zone: the endpoints in the client's zone; all if there are none. As `trafficDistribution: PreferSameZone`. */
#include "topology.h"

uint32_t score(uint32_t client_zone, uint32_t client_node, uint32_t i)
{
    return is_same(zone(i), client_zone) ? 2 : 1;
}
