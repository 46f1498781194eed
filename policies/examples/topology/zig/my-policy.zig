//! The client's zone: clients see the endpoints in their own zone; all endpoints if there are none.

/// The zone of endpoint `i`, as a number. The host tells more: `node`, `weight`, `identity`, `config-byte`, ...; see
/// policy.wit.
extern "snowglobe:policy/host@0.1.0" fn zone(i: u32) u32;

/// A zone that is not known.
const unknown: u32 = 0xffff_ffff;

/// How well endpoint `i` suits clients in this zone and on this node. Those with the highest score are used; 0 excludes.
export fn score(client_zone: u32, _: u32, i: u32) u32 {
    const is_near = client_zone != unknown and zone(i) == client_zone;
    return if (is_near) 2 else 1;
}
