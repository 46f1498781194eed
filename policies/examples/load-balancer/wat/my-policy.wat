;; Least connections: a new connection goes to the endpoint that has the fewest open ones. Equals take turns.
(module
  ;; Connections to endpoint $i that are open now. The host tells more: zone, node, weight, failures, latency, random,
  ;; ...; see policy.wit.
  (import "snowglobe:policy/host@0.1.0" "active" (func $active (param $i i32) (result i32)))

  ;; How many endpoints there are.
  (global $count (mut i32) (i32.const 0))
  ;; Where the next search begins.
  (global $start (mut i32) (i32.const 0))

  ;; The endpoints have changed: they are numbered from 0 to $count - 1 now.
  (func (export "configure") (param $generation i64) (param $count i32)
    (global.set $count (local.get $count))
    (global.set $start (i32.const 0)))

  ;; The number of the endpoint for one connection.
  (func (export "pick") (param $source_hash i64) (param $client_zone i32) (param $client_node i32) (result i32)
    (local $step i32) (local $i i32) (local $best i32)
    (local.set $best (global.get $start))
    (loop $next
      (local.set $i
        (i32.rem_u (i32.add (global.get $start) (local.get $step)) (global.get $count)))
      (if (i32.lt_u (call $active (local.get $i)) (call $active (local.get $best)))
        (then (local.set $best (local.get $i))))
      (local.set $step (i32.add (local.get $step) (i32.const 1)))
      (br_if $next (i32.lt_u (local.get $step) (global.get $count))))
    (global.set $start
      (i32.rem_u (i32.add (local.get $best) (i32.const 1)) (global.get $count)))
    (local.get $best))
)
