//! Component guests: checked and linked against a `world`.

use wasmtime::component::{Component, HasSelf, Linker, types::ComponentItem};

use crate::policy::{
    ModuleError, PolicyKind,
    wasm::{
        abi::{self, Host},
        guest::ComponentCode,
        world::{LoadBalancer, LoadBalancerPre, TopologyPre},
    },
};

/// WASI interfaces are in this namespace. They are there to link against and trap when called.
const DENIED: &str = "wasi:";

/// A linker with the host's functions, which both worlds share.
pub(super) fn linker(engine: &wasmtime::Engine) -> wasmtime::Result<Linker<Host>> {
    let mut linker = Linker::new(engine);
    LoadBalancer::add_to_linker::<_, HasSelf<Host>>(&mut linker, |host| host)?;
    Ok(linker)
}

/// Checks what a component for policies of this kind imports and exports.
pub(super) fn link(
    linker: &Linker<Host>,
    component: &Component,
    kind: PolicyKind,
) -> Result<ComponentCode, ModuleError> {
    let engine = linker.engine();
    let types = component.component_type();
    abi::check_exports(kind, |name| types.get_export(engine, name).is_some())?;
    for (name, import) in types.imports(engine) {
        if name.starts_with(DENIED) {
            continue;
        }
        abi::check_interface(name, &format!("`{name}`"), DENIED)?;
        let ComponentItem::ComponentInstance(interface) = import.ty else {
            return Err(ModuleError(format!("imports `{name}`, which is no interface")));
        };
        for (function, _) in interface.exports(engine) {
            abi::check_function(function)?;
        }
    }
    let mut linker = linker.clone();
    linker.define_unknown_imports_as_traps(component)?;
    let pre = linker.instantiate_pre(component)?;
    Ok(match kind {
        PolicyKind::LoadBalancer => ComponentCode::LoadBalancer(LoadBalancerPre::new(pre)?),
        PolicyKind::Topology => ComponentCode::Topology(TopologyPre::new(pre)?),
    })
}
