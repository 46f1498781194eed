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

/// The built-in modules and those of the tests, of which one is a component; binary.
pub(crate) fn modules() -> Vec<Vec<u8>> {
    let builtins = Engine::builtins().map(|name| Engine::builtin(name).unwrap().to_vec());
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/policies");
    let files = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let tests = files
        .filter(|path| path.extension().is_some_and(|extension| extension == "wat"))
        .map(|path| fs::read(path).unwrap());
    let mut modules: Vec<_> = builtins.chain(tests).collect();
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
