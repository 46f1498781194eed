//! The built-in policies, compiled ahead by the build script from `policies/*.wat`.

use wasmtime::{Engine, Module};

/// One built-in policy.
pub(super) struct Builtin {
    /// Its name, the stem of its file.
    pub(super) name: &'static str,
    /// The text that it was compiled from.
    pub(super) source: &'static [u8],
    /// Its code for this target, under the settings of `policies/engine.rs`.
    code: &'static [u8],
}

/// All of them, by name.
pub(super) static BUILTINS: &[Builtin] = include!(concat!(env!("OUT_DIR"), "/builtin_policies.rs"));

impl Builtin {
    /// Loads the code; compiles the text where the code does not fit this machine.
    #[expect(unsafe_code, reason = "trusts the bytes, which come from our own build script")]
    pub(super) fn load(&self, engine: &Engine) -> wasmtime::Result<Module> {
        // SAFETY: `code` is what `Engine::precompile_module` returned in the build script, unchanged.
        let loaded = unsafe { Module::deserialize(engine, self.code) };
        loaded.or_else(|error| {
            tracing::warn!(policy = self.name, error = %error, "built-in policy is compiled again");
            Module::new(engine, self.source)
        })
    }
}

#[cfg(test)]
mod tests {
    use wasmtime::{Engine, Module};

    use super::BUILTINS;
    use crate::policy::wasm::settings;

    #[test]
    #[expect(unsafe_code, reason = "checks the loading itself")]
    fn code_compiled_ahead_loads() {
        let engine = Engine::new(&settings::config(None).unwrap()).unwrap();
        for builtin in BUILTINS {
            // SAFETY: as in `load`.
            let loaded = unsafe { Module::deserialize(&engine, builtin.code) };
            assert!(loaded.is_ok(), "{}: {:?}", builtin.name, loaded.err());
        }
    }
}
