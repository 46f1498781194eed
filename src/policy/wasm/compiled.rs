//! Core modules and components that the engine has compiled, to bytes and back. The way back is the one place where the
//! engine trusts its input.

use wasmtime::{Engine, Module, component::Component};

use crate::policy::wasm::cache::OwnCode;

/// What a module is compiled into.
pub(super) trait Compiled: Sized {
    /// Compiles a binary.
    fn compile(engine: &Engine, binary: &[u8]) -> wasmtime::Result<Self>;

    /// For a cache.
    fn to_bytes(&self) -> wasmtime::Result<Vec<u8>>;

    /// From a cache; an error if another engine made it.
    fn from_bytes(engine: &Engine, code: &OwnCode) -> wasmtime::Result<Self>;
}

impl Compiled for Module {
    fn compile(engine: &Engine, binary: &[u8]) -> wasmtime::Result<Self> {
        Self::from_binary(engine, binary)
    }

    fn to_bytes(&self) -> wasmtime::Result<Vec<u8>> {
        self.serialize()
    }

    #[expect(unsafe_code, reason = "the engine runs what it gets; see the comment")]
    fn from_bytes(engine: &Engine, code: &OwnCode) -> wasmtime::Result<Self> {
        // SAFETY: `OwnCode` is what `to_bytes` gave, unaltered: the cache checks the digest of every byte, the bytes are
        // in our memory since, and only this user can have written the file.
        unsafe { Self::deserialize(engine, code.bytes()) }
    }
}

impl Compiled for Component {
    fn compile(engine: &Engine, binary: &[u8]) -> wasmtime::Result<Self> {
        Self::from_binary(engine, binary)
    }

    fn to_bytes(&self) -> wasmtime::Result<Vec<u8>> {
        self.serialize()
    }

    #[expect(unsafe_code, reason = "the engine runs what it gets; see the comment")]
    fn from_bytes(engine: &Engine, code: &OwnCode) -> wasmtime::Result<Self> {
        // SAFETY: as above.
        unsafe { Self::deserialize(engine, code.bytes()) }
    }
}
