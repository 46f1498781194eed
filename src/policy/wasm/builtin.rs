//! The built-in policies: the text of `policies/*.wat` and what `policies/build` made of `policies/*.c`, modules as any
//! other.

/// One built-in policy.
pub(super) struct Builtin {
    /// Its name, the stem of its file.
    pub(super) name: &'static str,
    /// Its module, text or binary.
    pub(super) source: &'static [u8],
}

/// The built-in schedulers, by name.
pub(super) const BUILTINS: &[Builtin] = &[
    // Destination hash (IPVS).
    Builtin { name: "dh", source: include_bytes!("../../../policies/built/dh.wasm") },
    // The faster of two, by latency and connections (Finagle, linkerd).
    Builtin { name: "ewma", source: include_bytes!("../../../policies/built/ewma.wasm") },
    // Least connections (IPVS).
    Builtin { name: "lc", source: include_bytes!("../../../policies/built/lc.wasm") },
    // Consistent hashing by a table (Eisenbud et al., NSDI 2016; IPVS's `mh`).
    Builtin { name: "maglev", source: include_bytes!("../../../policies/built/maglev.wasm") },
    // Never queue (IPVS).
    Builtin { name: "nq", source: include_bytes!("../../../policies/built/nq.wasm") },
    // The less loaded of two (Mitzenmacher 1996).
    Builtin { name: "p2c", source: include_bytes!("../../../policies/p2c.wat") },
    // The fastest of some that are not hot (Wydrowski et al., NSDI 2024).
    Builtin { name: "prequal", source: include_bytes!("../../../policies/built/prequal.wasm") },
    // By chance (kube-proxy's iptables and nftables modes).
    Builtin { name: "random", source: include_bytes!("../../../policies/random.wat") },
    // Consistent hashing on a ring (ketama).
    Builtin { name: "ring", source: include_bytes!("../../../policies/built/ring.wasm") },
    // Round robin (IPVS).
    Builtin { name: "rr", source: include_bytes!("../../../policies/rr.wat") },
    // Shortest expected delay (IPVS).
    Builtin { name: "sed", source: include_bytes!("../../../policies/built/sed.wasm") },
    // Source hash (IPVS, here by rendezvous hashing).
    Builtin { name: "sh", source: include_bytes!("../../../policies/built/sh.wasm") },
    // Weighted least connections (IPVS; ties as in nginx).
    Builtin { name: "wlc", source: include_bytes!("../../../policies/built/wlc.wasm") },
    // Smooth weighted round robin (nginx).
    Builtin { name: "wrr", source: include_bytes!("../../../policies/built/wrr.wasm") },
];

/// The built-in topology policies, by name.
pub(super) const TOPOLOGIES: &[Builtin] = &[
    // The client's node, else its zone, else all.
    Builtin { name: "same-node", source: include_bytes!("../../../policies/built/same-node.wasm") },
    // The client's zone, else all.
    Builtin { name: "same-zone", source: include_bytes!("../../../policies/built/same-zone.wasm") },
    // The client's zone and, where that is short of endpoints, others besides.
    Builtin { name: "spread", source: include_bytes!("../../../policies/built/spread.wasm") },
];

#[cfg(test)]
mod tests;
