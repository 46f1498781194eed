//! Services whose connections ask for endpoints as those of the proxy do.

use std::{
    collections::VecDeque,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, atomic::Ordering},
};

use snowglobe::{
    policy::{
        Candidate, Candidates, Decision, Flow, InstanceKey, Load, PickRequest, Picking, Scheduler,
        Seat, UNKNOWN, identity,
        library::{Library, OnFailure, Source},
    },
    route::{NamespacedName, Notice, Protocol, RouteName, notice::NOTICES_MAX},
};
use tokio::{
    runtime::{Builder, Runtime},
    sync::mpsc,
};

use crate::next_number;

/// A library with the built-in policies and a runtime for its guests.
pub(crate) struct Policies {
    pub(crate) library: Arc<Library>,
    runtime: Runtime,
    _notices: mpsc::Receiver<Notice>,
}

/// A service port that names a policy.
pub(crate) struct Service<'a> {
    policies: &'a Policies,
    policy: &'a str,
    seat: Seat,
    pub(crate) candidates: Candidates,
    flow: Flow,
    open: VecDeque<usize>,
}

impl Policies {
    pub(crate) fn new() -> Self {
        let (sender, notices) = mpsc::channel(NOTICES_MAX);
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let library = Library::new(sender, None).unwrap();
        {
            let _entered = runtime.enter();
            library.load_builtins();
        }
        Self { library, runtime, _notices: notices }
    }

    pub(crate) fn load(&self, name: &str, module: &[u8]) {
        let _entered = self.runtime.enter();
        let source = Source::Module(module.to_vec());
        self.library.compile(name, source, String::new(), OnFailure::Fallback).unwrap();
    }
}

impl<'a> Service<'a> {
    /// One that nobody has asked for an endpoint.
    pub(crate) fn new(policies: &'a Policies, policy: &'a str, endpoints: usize) -> Self {
        let name = format!("web-{}", next_number());
        let service = NamespacedName { namespace: "default".into(), name: name.into() };
        let route = RouteName { service, port: 80, protocol: Protocol::Tcp };
        let seat = Seat::new(InstanceKey { route, scope: "node-1".into() });
        let flow = Flow {
            protocol: Protocol::Tcp,
            source: (Ipv4Addr::new(10, 1, 2, 3), 40_000).into(),
            destination: (Ipv4Addr::LOCALHOST, 80).into(),
            client_zone: UNKNOWN,
            client_node: UNKNOWN,
        };
        let candidates = candidates(endpoints);
        Self { policies, policy, seat, candidates, flow, open: VecDeque::new() }
    }

    pub(crate) fn decide(&mut self) -> Decision {
        let port = self.flow.source.port().wrapping_add(1);
        self.flow.source.set_port(port);
        let request = PickRequest {
            seat: &self.seat,
            policy: Some(self.policy),
            generation: 1,
            candidates: &self.candidates,
            flow: &self.flow,
        };
        match self.policies.library.pick(request) {
            Picking::Now(decision) => decision,
            Picking::Later(decision) => self.policies.runtime.block_on(decision),
        }
    }

    pub(crate) fn pick(&mut self) -> usize {
        self.decide().index.unwrap()
    }

    /// Opens so many connections.
    pub(crate) fn open(&mut self, count: usize) {
        for _ in 0..count {
            let picked = self.pick();
            self.candidates[picked].load.active.fetch_add(1, Ordering::Relaxed);
            self.open.push_back(picked);
        }
    }

    /// Opens a connection and ends the oldest.
    pub(crate) fn cycle(&mut self) {
        self.open(1);
        if let Some(oldest) = self.open.pop_front() {
            self.candidates[oldest].load.active.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Endpoints without load.
pub(crate) fn candidates(count: usize) -> Candidates {
    let candidate = |number: u32| {
        let address = SocketAddr::from((Ipv4Addr::from_bits(0x0a00_0000 + number), 8080));
        let load = Arc::new(Load::default());
        let (zone, node) = (number % 3, number % 100);
        Candidate { address, zone, node, weight: 1, identity: identity(address), load }
    };
    (0..u32::try_from(count).unwrap()).map(candidate).collect()
}
