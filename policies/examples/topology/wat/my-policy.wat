;; The client's zone: clients see the endpoints in their own zone; all endpoints if there are none.
(module
  ;; The zone of endpoint $i, as a number. The host tells more: node, weight, identity, config-byte, ...; see policy.wit.
  (import "snowglobe:policy/host@0.1.0" "zone" (func $zone (param $i i32) (result i32)))

  ;; How well endpoint $i suits clients in this zone and on this node. Those with the highest score are used; 0 excludes.
  (func (export "score") (param $client_zone i32) (param $client_node i32) (param $i i32) (result i32)
    ;; -1: a zone that is not known.
    (if (i32.eq (local.get $client_zone) (i32.const -1))
      (then (return (i32.const 1))))
    (select
      (i32.const 2)
      (i32.const 1)
      (i32.eq (call $zone (local.get $i)) (local.get $client_zone))))
)
