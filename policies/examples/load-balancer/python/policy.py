"""Least connections: a new connection goes to the endpoint that has the fewest open ones. Equals take turns."""

import wit_world

# What the host tells: active, zone, node, weight, failures, latency, random, ...; see wit/policy.wit.
from wit_world.imports.host import active


class WitWorld(wit_world.WitWorld):
    endpoint_count = 0
    # Where the next search begins.
    start = 0

    def configure(self, generation: int, count: int) -> None:
        """The endpoints have changed: they are numbered from 0 to count - 1 now."""
        WitWorld.endpoint_count = count
        WitWorld.start = 0

    def pick(self, source_hash: int, client_zone: int, client_node: int) -> int:
        """The number of the endpoint for one connection."""
        count, start = WitWorld.endpoint_count, WitWorld.start
        best = min(((start + step) % count for step in range(count)), key=active)
        WitWorld.start = (best + 1) % count
        return best
