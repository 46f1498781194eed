;; The first endpoint; traps when there are more than three.
(module
  (func (export "configure") (param $generation i64) (param $count i32)
    (if (i32.gt_u (local.get $count) (i32.const 3)) (then unreachable)))
  (func (export "score") (param $client-zone i32) (param $client-node i32) (param $i i32) (result i32)
    (i32.eqz (local.get $i))))
