/* The client's zone: clients see the endpoints in their own zone; all endpoints if there are none.
   policy.h declares what the host tells: zone, node, weight, identity, ... */
#include "topology.h"

/* How well endpoint `i` suits clients in this zone and on this node. Those with the highest score are used; 0 excludes. */
uint32_t score(uint32_t client_zone, uint32_t client_node, uint32_t i)
{
    return client_zone != UNKNOWN && zone(i) == client_zone ? 2 : 1;
}
