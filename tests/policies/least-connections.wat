;; Least connections as a component, as languages that make components write it: no turns among equals.
(component
  (import "snowglobe:policy/host@0.1.0" (instance $host
    (export "active" (func (param "i" u32) (result u32)))))
  (core func $active (canon lower (func $host "active")))
  (core module $code
    (import "host" "active" (func $active (param i32) (result i32)))
    (global $count (mut i32) (i32.const 0))
    (func (export "configure") (param i64 i32) (global.set $count (local.get 1)))
    (func (export "pick") (param i64 i32 i32) (result i32)
      (local $i i32) (local $best i32) (local $open i32) (local $fewest i32)
      (local.set $fewest (i32.const -1))
      (loop $next
        (local.set $open (call $active (local.get $i)))
        (if (i32.lt_u (local.get $open) (local.get $fewest))
          (then (local.set $fewest (local.get $open)) (local.set $best (local.get $i))))
        (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br_if $next (i32.lt_u (local.get $i) (global.get $count))))
      (local.get $best)))
  (core instance $guest (instantiate $code
    (with "host" (instance (export "active" (func $active))))))
  (func (export "configure") (param "generation" u64) (param "count" u32)
    (canon lift (core func $guest "configure")))
  (func (export "pick") (param "source-hash" u64) (param "client-zone" u32)
    (param "client-node" u32) (result u32)
    (canon lift (core func $guest "pick"))))
