"""The client's zone: clients see the endpoints in their own zone; all endpoints if there are none."""

import wit_world

# What the host tells: zone, node, weight, identity, config_byte, ...; see wit/policy.wit.
from wit_world.imports.host import zone

# A zone that is not known.
UNKNOWN = 0xFFFFFFFF


class WitWorld(wit_world.WitWorld):
    def configure(self, generation: int, count: int) -> None:
        """The endpoints have changed: they are numbered from 0 to count - 1 now."""

    def score(self, client_zone: int, client_node: int, i: int) -> int:
        """How well endpoint i suits clients in this zone and on this node.

        Those with the highest score are used; 0 excludes.
        """
        is_near = client_zone != UNKNOWN and zone(i) == client_zone
        return 2 if is_near else 1
