//! The worlds of `policies/policy.wit`, as wasmtime makes them into types, and a trait for the host that both share.

pub(super) use load_balancer::{LoadBalancer, LoadBalancerPre, snowglobe::policy::host};
pub(super) use topology::{Topology, TopologyPre};

mod load_balancer {
    wasmtime::component::bindgen!({
        path: "policies/policy.wit",
        world: "load-balancer",
        imports: { default: trappable },
    });
}

mod topology {
    wasmtime::component::bindgen!({
        path: "policies/policy.wit",
        world: "topology",
        imports: { default: trappable },
        with: { "snowglobe:policy/host": super::load_balancer::snowglobe::policy::host },
    });
}
