// The client's zone: clients see the endpoints in their own zone; all endpoints if there are none.

// The zone of an endpoint, as a number. The host tells more: node, weight, identity, configByte, ...; see
// wit/policy.wit. A u64 is a BigInt.
import { zone } from "snowglobe:policy/host@0.1.0";

// A zone that is not known.
const UNKNOWN = 0xffffffff;

// The endpoints have changed: they are numbered from 0 to count - 1 now.
export function configure(generation, count) {}

// How well endpoint i suits clients in this zone and on this node. Those with the highest score are used; 0 excludes.
export function score(clientZone, clientNode, i) {
  const isNear = clientZone !== UNKNOWN && zone(i) === clientZone;
  return isNear ? 2 : 1;
}
