;; random: every endpoint with the same chance, as kube-proxy's iptables and nftables modes pick.
(module
  (import "snowglobe:policy/host@0.1.0" "random" (func $random (result i64)))

  (global $count (mut i64) (i64.const 0))

  (func (export "configure") (param $generation i64) (param $count i32)
    (global.set $count (i64.extend_i32_u (local.get $count))))

  ;; The remainder of 64 random bits: its bias, count / 2^64, is nothing.
  (func (export "pick") (param $source_hash i64) (param $zone i32) (param $node i32) (result i32)
    (i32.wrap_i64 (i64.rem_u (call $random) (global.get $count))))
)
