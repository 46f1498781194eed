// Least connections: a new connection goes to the endpoint that has the fewest open ones. Equals take turns.
package main

// Connections to endpoint i that are open now. The host tells more: zone, node, weight, failures, latency, random, ...;
// see policy.wit.
//
//go:wasmimport snowglobe:policy/host@0.1.0 active
func active(i uint32) uint32

var (
	endpointCount uint32 // how many endpoints there are
	start         uint32 // where the next search begins
)

// The endpoints have changed: they are numbered from 0 to count - 1 now.
//
//go:wasmexport configure
func configure(generation uint64, count uint32) {
	endpointCount = count
	start = 0
}

// The number of the endpoint for one connection.
//
//go:wasmexport pick
func pick(sourceHash uint64, clientZone, clientNode uint32) uint32 {
	best := start
	for step := uint32(1); step < endpointCount; step++ {
		i := (start + step) % endpointCount
		if active(i) < active(best) {
			best = i
		}
	}
	start = (best + 1) % endpointCount
	return best
}

// Needed by the compiler, never called.
func main() {}
