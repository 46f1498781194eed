/* same-node: the endpoints on the client's node; those in its zone if there are none; else all. As
   `trafficDistribution: PreferSameNode`. */
#include "topology.h"

uint32_t score(uint32_t client_zone, uint32_t client_node, uint32_t i)
{
    if (is_same(node(i), client_node))
        return 3;
    return is_same(zone(i), client_zone) ? 2 : 1;
}
