// The client's zone: clients see the endpoints in their own zone; all endpoints if there are none.
package main

// The zone of endpoint i, as a number. The host tells more: node, weight, identity, config-byte, ...; see policy.wit.
//
//go:wasmimport snowglobe:policy/host@0.1.0 zone
func zone(i uint32) uint32

// A zone that is not known.
const unknown = ^uint32(0)

// How well endpoint i suits clients in this zone and on this node. Those with the highest score are used; 0 excludes.
//
//go:wasmexport score
func score(clientZone, clientNode, i uint32) uint32 {
	if clientZone != unknown && zone(i) == clientZone {
		return 2
	}
	return 1
}

// Needed by the compiler, never called.
func main() {}
