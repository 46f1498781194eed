;; rr: strict round robin. Every endpoint in turn, whatever its weight or load.
;;
;; When the endpoints change, the round goes on behind the endpoint that was picked last, wherever that stands now;
;; if it is gone, the round goes on at the same position.
(module
  (import "snowglobe:policy/host@0.1.0" "identity" (func $identity (param i32) (result i64)))

  (global $count (mut i32) (i32.const 0))
  ;; Position of the next pick.
  (global $next (mut i32) (i32.const 0))
  ;; Identity of the last pick, valid once $picked is 1.
  (global $last (mut i64) (i64.const 0))
  (global $picked (mut i32) (i32.const 0))

  (func (export "configure") (param $generation i64) (param $count i32)
    (local $i i32)
    (global.set $count (local.get $count))
    (if (i32.eqz (global.get $picked)) (then (return)))
    (block $found
      (loop $search
        (if (i64.eq (call $identity (local.get $i)) (global.get $last))
          (then
            (global.set $next (i32.add (local.get $i) (i32.const 1)))
            (br $found)))
        (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br_if $search (i32.lt_u (local.get $i) (local.get $count)))))
    (global.set $next (i32.rem_u (global.get $next) (local.get $count))))

  (func (export "pick") (param $source_hash i64) (param $zone i32) (param $node i32) (result i32)
    (local $chosen i32)
    (local.set $chosen (global.get $next))
    (global.set $last (call $identity (local.get $chosen)))
    (global.set $picked (i32.const 1))
    (global.set $next (i32.add (local.get $chosen) (i32.const 1)))
    (if (i32.ge_u (global.get $next) (global.get $count))
      (then (global.set $next (i32.const 0))))
    (local.get $chosen))
)
