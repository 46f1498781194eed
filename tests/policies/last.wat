;; Always the last endpoint.
(module
  (global $count (mut i32) (i32.const 1))
  (func (export "configure") (param $generation i64) (param $count i32)
    (global.set $count (local.get $count)))
  (func (export "pick") (param $source_hash i64) (param $zone i32) (param $node i32) (result i32)
    (i32.sub (global.get $count) (i32.const 1))))
