//! One running guest, core module or component, behind the traits [`Picker`] and [`Scorer`].

use std::sync::Arc;

use wasmtime::{
    AsContextMut, ExternType, FuncType, InstancePre, Linker, Module, Store, TypedFunc,
    ValType::{I32, I64},
};

use crate::policy::{
    Candidates, Failure, FailureKind, Flow, ModuleError, Picker, PolicyKind, Scorer, flow_hash,
    wasm::{
        Engine,
        abi::{self, Host},
        epochs::{CALL_TICKS, RUNTIME_START_TICKS},
        meter::Limits,
        wasi,
        world::{LoadBalancer, LoadBalancerPre, Topology, TopologyPre},
    },
};

/// The guest's answer for "no opinion".
const NO_OPINION: u32 = u32::MAX;

/// What languages with a runtime export to be set up (Go, C++): run once, before anything else.
const INITIALIZE: &str = "_initialize";

/// What a program exports that runs once and ends. Nobody would run it here.
const COMMAND: &str = "_start";

/// Checked and linked code, ready to make guests.
pub(super) enum Code {
    Core(InstancePre<Host>),
    Component(ComponentCode),
}

/// A component, which follows one world.
pub(super) enum ComponentCode {
    LoadBalancer(LoadBalancerPre<Host>),
    Topology(TopologyPre<Host>),
}

/// One instance with its store. Of no use after its first failure.
pub(super) struct Guest {
    store: Store<Host>,
    exports: Exports,
    engine: Arc<Engine>,
}

enum Exports {
    Core {
        /// A guest without state needs none.
        configure: Option<TypedFunc<(u64, u32), ()>>,
        pick: Option<TypedFunc<(u64, u32, u32), u32>>,
        score: Option<TypedFunc<(u32, u32, u32), u32>>,
    },
    LoadBalancer(LoadBalancer),
    Topology(Topology),
}

/// Checks what a core module for policies of this kind imports and exports.
pub(super) fn link_core(
    linker: &Linker<Host>,
    module: &Module,
    kind: PolicyKind,
) -> Result<InstancePre<Host>, ModuleError> {
    for import in module.imports() {
        let (from, function) = (import.module(), import.name());
        if from == wasi::MODULE {
            wasi::check_function(function)?;
        } else {
            abi::check_interface(from, &format!("`{function}` from `{from}`"), wasi::MODULE)?;
            abi::check_function(function)?;
        }
    }
    let engine = linker.engine();
    let export = |name: &str, params: &[wasmtime::ValType], results: &[wasmtime::ValType]| {
        let wanted = FuncType::new(engine, params.iter().cloned(), results.iter().cloned());
        match module.get_export(name) {
            None => Ok(false),
            Some(ExternType::Func(found)) if FuncType::eq(&found, &wanted) => Ok(true),
            Some(ExternType::Func(found)) => {
                Err(ModuleError(format!("exports `{name}` as {found}, must be {wanted}")))
            }
            Some(_) => Err(ModuleError(format!("exports `{name}`, but not as a function"))),
        }
    };
    abi::check_exports(kind, |name| module.get_export(name).is_some())?;
    match kind {
        PolicyKind::LoadBalancer => export("pick", &[I64, I32, I32], &[I32])?,
        PolicyKind::Topology => export("score", &[I32, I32, I32], &[I32])?,
    };
    export("configure", &[I64, I32], &[])?;
    if !export(INITIALIZE, &[], &[])? && module.get_export(COMMAND).is_some() {
        return Err(ModuleError(format!(
            "exports `{COMMAND}` and no `{INITIALIZE}`: a program that runs once. Build a library (Go: \
             -buildmode=c-shared, Rust: crate-type cdylib, C: -mexec-model=reactor)"
        )));
    }
    Ok(linker.instantiate_pre(module)?)
}

impl Code {
    /// Whether it most likely has a language's runtime in it, which needs time and memory.
    pub(super) fn has_runtime(&self) -> bool {
        match self {
            Self::Core(pre) => wasi::is_used_by(pre.module()),
            Self::Component(_) => true,
        }
    }

    /// What an instance of it may allocate.
    pub(super) fn limits(&self) -> Limits {
        if self.has_runtime() { Limits::WITH_RUNTIME } else { Limits::CORE }
    }

    /// The ticks that its start may take.
    fn start_ticks(&self) -> u32 {
        if self.has_runtime() { RUNTIME_START_TICKS } else { CALL_TICKS }
    }
}

impl Guest {
    /// A new instance that no `configure` has reached.
    pub(super) fn start(engine: &Arc<Engine>, code: &Code, host: Host) -> Result<Self, Failure> {
        let mut store = Store::new(engine.wasmtime(), host);
        store.limiter(Host::limits);
        let clock = Arc::clone(engine);
        store.epoch_deadline_callback(move |mut store| {
            clock.guest_called();
            store.data_mut().ticked()
        });
        engine.enter(&mut store, code.start_ticks());
        let exports = match code {
            Code::Core(pre) => start_core(&mut store, pre),
            Code::Component(pre) => pre.start(&mut store),
        };
        let exports =
            exports.map_err(|error| store.data().failure("start", FailureKind::Start, &error))?;
        Ok(Self { store, exports, engine: Arc::clone(engine) })
    }
}

impl ComponentCode {
    fn start(&self, store: &mut Store<Host>) -> wasmtime::Result<Exports> {
        match self {
            Self::LoadBalancer(pre) => pre.instantiate(store).map(Exports::LoadBalancer),
            Self::Topology(pre) => pre.instantiate(store).map(Exports::Topology),
        }
    }
}

fn start_core(store: &mut Store<Host>, pre: &InstancePre<Host>) -> wasmtime::Result<Exports> {
    let instance = pre.instantiate(store.as_context_mut())?;
    if let Ok(initialize) = instance.get_typed_func::<(), ()>(store.as_context_mut(), INITIALIZE) {
        initialize.call(store.as_context_mut(), ())?;
    }
    Ok(Exports::Core {
        configure: instance.get_typed_func(store.as_context_mut(), "configure").ok(),
        pick: instance.get_typed_func(store.as_context_mut(), "pick").ok(),
        score: instance.get_typed_func(store, "score").ok(),
    })
}

impl Guest {
    fn configure(&mut self, generation: u64, candidates: &Candidates) -> Result<(), Failure> {
        let count = u32::try_from(candidates.len()).map_err(|error| {
            Failure::new(FailureKind::Range, format!("{} endpoints: {error}", candidates.len()))
        })?;
        let host = self.store.data_mut();
        host.candidates = Arc::clone(candidates);
        host.flow = None;
        self.engine.enter(&mut self.store, CALL_TICKS);
        match &self.exports {
            Exports::Core { configure: None, .. } => Ok(()),
            Exports::Core { configure: Some(configure), .. } => {
                configure.call(&mut self.store, (generation, count))
            }
            Exports::LoadBalancer(guest) => {
                guest.call_configure(&mut self.store, generation, count)
            }
            Exports::Topology(guest) => guest.call_configure(&mut self.store, generation, count),
        }
        .map_err(|error| self.store.data().failure("configure", FailureKind::Trap, &error))
    }
}

impl Picker for Guest {
    fn configure(&mut self, generation: u64, candidates: &Candidates) -> Result<(), Failure> {
        self.configure(generation, candidates)
    }

    fn pick(&mut self, flow: &Flow) -> Result<Option<usize>, Failure> {
        self.store.data_mut().flow = Some(*flow);
        self.engine.enter(&mut self.store, CALL_TICKS);
        let (hash, zone, node) =
            (flow.hash(flow_hash::SOURCE_ADDRESS), flow.client_zone, flow.client_node);
        let picked = match &self.exports {
            Exports::Core { pick: Some(pick), .. } => {
                pick.call(&mut self.store, (hash, zone, node))
            }
            Exports::LoadBalancer(guest) => guest.call_pick(&mut self.store, hash, zone, node),
            Exports::Core { pick: None, .. } | Exports::Topology(_) => {
                return Err(Failure::new(FailureKind::Start, "pick: it is no load balancer"));
            }
        };
        let index =
            picked.map_err(|error| self.store.data().failure("pick", FailureKind::Trap, &error))?;
        if index == NO_OPINION {
            return Ok(None);
        }
        let count = self.store.data().candidates.len();
        match usize::try_from(index) {
            Ok(index) if index < count => Ok(Some(index)),
            _ => {
                let reason = format!("pick: chose endpoint {index} of {count}");
                Err(Failure::new(FailureKind::Range, reason))
            }
        }
    }
}

impl Scorer for Guest {
    fn configure(&mut self, generation: u64, candidates: &Candidates) -> Result<(), Failure> {
        self.configure(generation, candidates)
    }

    fn score(&mut self, zone: u32, node: u32, index: u32) -> Result<u32, Failure> {
        self.engine.enter(&mut self.store, CALL_TICKS);
        let scored = match &self.exports {
            Exports::Core { score: Some(score), .. } => {
                score.call(&mut self.store, (zone, node, index))
            }
            Exports::Topology(guest) => guest.call_score(&mut self.store, zone, node, index),
            Exports::Core { score: None, .. } | Exports::LoadBalancer(_) => {
                return Err(Failure::new(FailureKind::Start, "score: it is no topology policy"));
            }
        };
        scored.map_err(|error| self.store.data().failure("score", FailureKind::Trap, &error))
    }
}
