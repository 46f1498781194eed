// The client's zone: clients see the endpoints in their own zone; all endpoints if there are none.

// The zone of endpoint `i`, as a number. The host tells more: `node`, `weight`, `identity`, `config-byte`, ...; see
// policy.wit.
@external("snowglobe:policy/host@0.1.0", "zone")
declare function zone(i: u32): u32;

// A zone that is not known.
const UNKNOWN: u32 = u32.MAX_VALUE;

// How well endpoint `i` suits clients in this zone and on this node. Those with the highest score are used; 0 excludes.
export function score(clientZone: u32, clientNode: u32, i: u32): u32 {
  const isNear = clientZone != UNKNOWN && zone(i) == clientZone;
  return isNear ? 2 : 1;
}
