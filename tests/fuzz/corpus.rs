//! What cases begin with: the modules that there are, endpoints and connections.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, atomic::Ordering},
};

use rand::{RngExt as _, rngs::StdRng};
use snowglobe::{
    policy::{Candidate, Candidates, Flow, Load, UNKNOWN, identity, wasm::Engine},
    route::Protocol,
};

/// A component that asks the host.
const COMPONENT: &str = r#"(component
    (import "snowglobe:policy/host@0.1.0" (instance $host
      (export "active" (func (param "i" u32) (result u32)))))
    (core func $active (canon lower (func $host "active")))
    (core module $code
      (import "host" "active" (func $active (param i32) (result i32)))
      (memory 1)
      (func (export "configure") (param i64 i32))
      (func (export "pick") (param i64 i32 i32) (result i32) (call $active (i32.const 0))))
    (core instance $guest (instantiate $code
      (with "host" (instance (export "active" (func $active))))))
    (func (export "configure") (param "generation" u64) (param "count" u32)
      (canon lift (core func $guest "configure")))
    (func (export "pick") (param "source-hash" u64) (param "client-zone" u32)
      (param "client-node" u32) (result u32)
      (canon lift (core func $guest "pick"))))"#;

/// The built-in modules, those of the tests, and a component; binary.
pub(crate) fn modules() -> Vec<Vec<u8>> {
    let builtins = Engine::builtins().map(|name| Engine::builtin(name).unwrap().to_vec());
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/policies");
    let files = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let tests = files
        .filter(|path| path.extension().is_some_and(|extension| extension == "wat"))
        .map(|path| fs::read(path).unwrap());
    let component = [COMPONENT.as_bytes().to_vec()];
    let mut modules: Vec<_> = builtins.chain(tests).chain(component).collect();
    for module in &mut modules {
        *module = wat::parse_bytes(module).unwrap().into_owned();
    }
    // In the same order everywhere, so that a seed gives the same case.
    modules.sort();
    modules
}

pub(crate) fn candidates(count: u32) -> Candidates {
    let candidate = |number: u32| {
        let address = SocketAddr::from((Ipv4Addr::from_bits(0x0a00_0000 + number), 8080));
        let load = Load::default();
        load.active.store(number % 7, Ordering::Relaxed);
        load.failures.store(number % 3, Ordering::Relaxed);
        let (identity, load) = (identity(address), Arc::new(load));
        Candidate { address, zone: number % 3, node: UNKNOWN, weight: number % 5, identity, load }
    };
    (0..count).map(candidate).collect()
}

pub(crate) fn flow(random: &mut StdRng) -> Flow {
    Flow {
        protocol: Protocol::Tcp,
        source: (Ipv4Addr::from_bits(random.random()), random.random()).into(),
        destination: (Ipv4Addr::LOCALHOST, 80).into(),
        client_zone: random.random(),
        client_node: UNKNOWN,
    }
}
