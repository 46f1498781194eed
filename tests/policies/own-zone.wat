;; The client's zone and no other.
(module
  (import "snowglobe:policy/host@0.1.0" "zone" (func $zone (param i32) (result i32)))
  (func (export "score") (param $client-zone i32) (param $client-node i32) (param $i i32) (result i32)
    (i32.eq (call $zone (local.get $i)) (local.get $client-zone))))
