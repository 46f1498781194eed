;; Speaks a version of the ABI that does not exist.
(module
  (import "snowglobe:policy/host@9.9.9" "random" (func $random (result i64)))
  (func (export "pick") (param $source_hash i64) (param $zone i32) (param $node i32) (result i32)
    (i32.wrap_i64 (call $random))))
