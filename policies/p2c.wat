;; p2c: the power of two choices. Two different endpoints at random, and of these the one with fewer open
;; connections per unit of weight: nearly as even as asking all, without sending everybody to the same idle one.
;;
;; "Fewer" counts the new connection too: (active + 1) / weight. Compared crosswise there is no division, and an
;; endpoint of weight 0 loses to every other.
(module
  (import "snowglobe:policy/host@0.1.0" "random" (func $random (result i64)))
  (import "snowglobe:policy/host@0.1.0" "active" (func $active (param i32) (result i32)))
  (import "snowglobe:policy/host@0.1.0" "weight" (func $weight (param i32) (result i32)))

  (global $count (mut i32) (i32.const 0))

  (func (export "configure") (param $generation i64) (param $count i32)
    (global.set $count (local.get $count)))

  (func (export "pick") (param $source_hash i64) (param $zone i32) (param $node i32) (result i32)
    (local $bits i64) (local $a i32) (local $b i32)
    (if (i32.lt_u (global.get $count) (i32.const 2))
      (then (return (i32.const 0))))
    (local.set $bits (call $random))
    ;; The low half chooses $a among all, the high half $b among the others: those from $a on move up by one.
    (local.set $a (i32.rem_u (i32.wrap_i64 (local.get $bits)) (global.get $count)))
    (local.set $b
      (i32.rem_u
        (i32.wrap_i64 (i64.shr_u (local.get $bits) (i64.const 32)))
        (i32.sub (global.get $count) (i32.const 1))))
    (if (i32.ge_u (local.get $b) (local.get $a))
      (then (local.set $b (i32.add (local.get $b) (i32.const 1)))))
    (select
      (local.get $a)
      (local.get $b)
      (i64.le_u
        (call $load (local.get $a) (local.get $b))
        (call $load (local.get $b) (local.get $a)))))

  ;; (active of $one + 1) * weight of $other
  (func $load (param $one i32) (param $other i32) (result i64)
    (i64.mul
      (i64.add (i64.extend_i32_u (call $active (local.get $one))) (i64.const 1))
      (i64.extend_i32_u (call $weight (local.get $other)))))
)
