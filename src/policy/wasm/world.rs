//! The world `load-balancer` of `policies/policy.wit`, as wasmtime makes it into types and a trait for the host.

pub(super) use generated::{LoadBalancer, LoadBalancerPre, snowglobe::policy::host};

mod generated {
    wasmtime::component::bindgen!({
        path: "policies/policy.wit",
        world: "load-balancer",
        imports: { default: trappable },
    });
}
